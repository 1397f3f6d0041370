package podlogs

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
)

const enabled = "logs.grafana.com/pods.enabled"

func TestPodsAreChosenAsTheChartDoes(t *testing.T) {
	for _, x := range []struct {
		method, value, selector string
		want                    bool
	}{
		{discoverAll, "", "", true},
		{discoverAll, "yes", "", true},
		{discoverAll, "False", "", true}, // The chart's expression has small letters.
		{discoverAll, "false", "", false},
		{discoverAll, "no", "", false},
		{discoverAll, "skip", "", false},
		{discoverAnnotation, "", "", false},
		{discoverAnnotation, "true", "", true},
		{discoverAnnotation, "anything", "", true},
		{discoverAnnotation, "no", "", false},
		{discoverAll, "", "app in (web,api)", true},
		{discoverAll, "", "app!=web", false},
		{discoverAll, "false", "app=web", false},
		{discoverAnnotation, "true", "app=api", false},
	} {
		cfg := DefaultPodConfig()
		cfg.DiscoveryMethod, cfg.LabelSelector = x.method, x.selector
		s, err := newSelection(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		p := kube.Pod{Labels: map[string]string{"app": "web"}, Annotations: map[string]string{enabled: x.value}}
		if got := s.chooses(p); got != x.want {
			t.Errorf("%+v: chosen %t, want %t", x, got, x.want)
		}
	}
}

// annotated returns a pod of the rig.
func annotated(name, value string) kube.Pod {
	return kube.Pod{Namespace: "shop", Name: name, Annotations: map[string]string{enabled: value}}
}

func TestAPodThatOptsOutIsNotEvenOpened(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	pods.put("uid-out", annotated("out", "false"))
	pods.put("uid-in", annotated("in", ""))
	openLog(t, filepath.Join(r.dir("out", "app"), "0.log")).out("secret")
	openLog(t, filepath.Join(r.dir("in", "app"), "0.log")).out("public")
	r.start()
	if got := r.sink.wait(t, 1); got[0] != "public" {
		t.Errorf("got %q, want only what is public", got)
	}
	for _, f := range r.c.Status().Files {
		if f.Pod == "out" {
			t.Errorf("the file of a pod that opted out is open: %+v", f)
		}
	}
}

func TestOptInWaitsForThePodHoweverLong(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	r.cfg.Pods.DiscoveryMethod = discoverAnnotation
	r.cfg.Pods.MetadataTimeout = config.Duration(time.Millisecond)
	pods.put("uid-known", annotated("known", "yes"))
	openLog(t, filepath.Join(r.dir("late", "app"), "0.log")).out("late")
	openLog(t, filepath.Join(r.dir("known", "app"), "0.log")).out("known")
	r.start()
	r.sink.wait(t, 1)
	time.Sleep(20 * time.Millisecond) // Many rounds: nothing may happen.
	if got := r.sink.texts(); len(got) != 1 || got[0] != "known" {
		t.Fatalf("got %q before the pod was known, want only known", got)
	}
	pods.put("uid-late", annotated("late", "yes"))
	wantSet(t, r.sink.wait(t, 2), []string{"known", "late"})
}

func TestAPodThatOptsOutLaterIsReadOnWhenItComesBack(t *testing.T) {
	r := newRig(t)
	pods := &fakePods{}
	r.pods = pods
	pods.put("uid-web", annotated("web", ""))
	f := openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).out("one")
	r.start()
	r.sink.wait(t, 1)
	pods.put("uid-web", annotated("web", "skip"))
	// A file that has nothing new is not asked about.
	f.out("two")
	eventually(t, "the closing of the file", func() bool { return len(r.c.Status().Files) == 0 })
	before := r.sink.texts()
	f.out("three")
	pods.put("uid-web", annotated("web", ""))
	got := r.sink.wait(t, 3)
	wantSet(t, got, []string{"one", "two", "three"})
	if len(before) > 2 {
		t.Errorf("%q arrived from a pod that had opted out", before)
	}
	if lost := r.c.Status().Lost; len(lost) > 0 {
		t.Errorf("opting out counted as a loss: %+v", lost)
	}
}

func TestWhatIsRemovedBeforeItsPodIsKnownIsLost(t *testing.T) {
	r := newRig(t)
	r.pods = &fakePods{}
	r.cfg.Pods.LabelSelector = "app=web"
	r.cfg.Pods.MetadataTimeout = config.Duration(time.Millisecond)
	path := filepath.Join(r.dir("web", "app"), "0.log")
	openLog(t, path).out("never known")
	size := int64(len(cri("stdout", "F", "never known")))
	r.start()
	eventually(t, "the opening of the file", func() bool { return len(r.c.Status().Files) == 1 })
	if err := os.RemoveAll(filepath.Dir(filepath.Dir(path))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss", func() bool { return len(r.c.Status().Lost) == 1 && len(r.c.Status().Files) == 0 })
	want := []PodLoss{{Namespace: "shop", Pod: "web", Reason: lostUnknownPod, Bytes: size}}
	if diff := cmp.Diff(want, withoutTimes(r.c.Status().Pods)); diff != "" {
		t.Errorf("losses by pod (-want +got):\n%s", diff)
	}
	if got := testutil.ToFloat64(r.c.m.lost.WithLabelValues(lostUnknownPod)); got != float64(size) {
		t.Errorf("lost bytes %v, want %d", got, size)
	}
	if got := r.sink.texts(); len(got) > 0 {
		t.Errorf("%q arrived of a pod that nobody knows", got)
	}
}

func withoutTimes(losses []PodLoss) []PodLoss {
	for i := range losses {
		losses[i].Last = time.Time{}
	}
	return losses
}

func TestChoosingPodsNeedsTheAPIServer(t *testing.T) {
	cfg := Config{Pods: DefaultPodConfig()}
	cfg.Pods.Enabled, cfg.Pods.DiscoveryMethod = true, discoverAnnotation
	m := NewMetrics(prometheus.NewRegistry())
	log := slog.New(slog.DiscardHandler)
	_, err := New(cfg, log, m, nil, NewPositions(filepath.Join(t.TempDir(), "p"), "loki", log, m), newLedger())
	if err == nil || !strings.Contains(err.Error(), "kubernetes.kubeconfig_file") {
		t.Errorf("New without pods: %v, want an error that names the cure", err)
	}
}

// TestOnlyWhatIsNeededOfPodsIsKept asks for keys, and that leaving out the others changes no
// label.
func TestOnlyWhatIsNeededOfPodsIsKept(t *testing.T) {
	keys := []string{
		"app.kubernetes.io/name", "level", "namespace", "team", "checksum/config", enabled, "k8s.grafana.com/logs.job",
		"resource.opentelemetry.io/x", "ingot.dev/logs.limit", "service.instance.id", "app.kubernetes.io/instance",
	}
	for _, x := range []struct {
		settings            string
		labels, annotations []bool
	}{
		{
			"{}",
			[]bool{true, true, true, false, false, false, false, false, false, true, true},
			[]bool{true, true, true, false, false, true, true, true, true, true, false},
		},
		{
			"profile: v4",
			[]bool{true, false, false, false, false, false, false, false, false, false, true},
			[]bool{false, false, false, false, false, true, true, true, true, false, false},
		},
		{"{labels: {t: team}, profile: v4}", []bool{true, false, false, true}, nil},
		{"{label_selector: team, profile: v4}", []bool{true, true, true, true, true}, []bool{false}},
		{"labels_to_keep: []", []bool{true, true, true, true, true}, []bool{true, true, true, true, true}},
		{"{stages: [{drop: {expression: x}}]}", []bool{true, true, true, true, true}, []bool{true, true, true, true, true}},
	} {
		var c PodConfig
		if err := config.Load([]byte(x.settings), &c); err != nil {
			t.Fatal(err)
		}
		label, annotation := c.Needs()
		for i, want := range x.labels {
			if got := label(keys[i]); got != want {
				t.Errorf("%s: label %s needed: %t, want %t", x.settings, keys[i], got, want)
			}
		}
		for i, want := range x.annotations {
			if got := annotation(keys[i]); got != want {
				t.Errorf("%s: annotation %s needed: %t, want %t", x.settings, keys[i], got, want)
			}
		}
	}
	paths, err := filepath.Glob("testdata/labels/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		a, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, settings := goldenPod(t, a)
		for _, profile := range []string{"v2", "v3", "v4"} {
			var c PodConfig
			if err := config.Load(append([]byte("profile: "+profile+"\n"), settings...), &c); err != nil {
				t.Fatal(err)
			}
			label, annotation := c.Needs()
			less, rules := p, newLabelRules(&c, false)
			less.labels, less.annotations = maps.Clone(p.labels), maps.Clone(p.annotations)
			maps.DeleteFunc(less.labels, func(k, _ string) bool { return !label(k) })
			maps.DeleteFunc(less.annotations, func(k, _ string) bool { return !annotation(k) })
			if got, want := rules.of(less), rules.of(p); got != want {
				t.Errorf("%s with %s: labels differ when only what is needed is known\ngot  %s\nwant %s", path, profile, got[0].index, want[0].index)
			}
		}
	}
}
