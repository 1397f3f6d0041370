//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/testbed"
)

// stream is the labels and the structured metadata that lines arrived with.
type stream struct {
	Labels, Metadata map[string]string
}

// podStream returns the stream of a container without labels and annotations that
// matter: what the path of its log file tells. More labels come in pairs.
func podStream(namespace, pod, container string, more ...string) stream {
	s := stream{
		Labels: map[string]string{
			"cluster": "tiles", "k8s_cluster_name": "tiles",
			"namespace": namespace, "container": container,
			"job":          namespace + "/" + container,
			"service_name": container, "service_namespace": namespace,
		},
		Metadata: map[string]string{"pod": pod, "service_instance_id": namespace + "." + pod + "." + container},
	}
	for pair := range slices.Chunk(more, 2) {
		s.Labels[pair[0]] = pair[1]
	}
	return s
}

// delivery is what Loki has of one container.
type delivery struct {
	lines   []testbed.Line
	counts  map[int]int // how often each sequence number occurs
	streams []stream    // the different ones
	long    int         // lines longer than the runtime writes in one piece
}

// delivered asks Loki for the lines of a container of the workload program and
// checks each for being whole.
func delivered(t *testing.T, since time.Time, namespace, pod, container, run string) (delivery, error) {
	t.Helper()
	d := delivery{counts: map[int]int{}}
	query := fmt.Sprintf(`{namespace=%q,container=%q} | pod=~%q`, namespace, container, pod)
	lines, err := cluster.LogQL(t.Context(), tenant, query, since.Add(-time.Minute), time.Now().Add(time.Minute), 1_000_000)
	if err != nil {
		return d, err
	}
	d.lines = lines
	for _, l := range lines {
		parsed, err := testbed.ParseLine(l.Text)
		if err != nil {
			return d, fmt.Errorf("line of %s: %w", l.Time, err)
		}
		if parsed.Run != run {
			return d, fmt.Errorf("line of run %q, want %q", parsed.Run, run)
		}
		d.counts[parsed.Seq]++
		if len(l.Text) > 16<<10 {
			d.long++
		}
		s := stream{l.Labels, l.Metadata}
		if !slices.ContainsFunc(d.streams, func(x stream) bool { return gocmp.Equal(x, s) }) {
			d.streams = append(d.streams, s)
		}
	}
	return d, nil
}

// exactly checks that the sequence numbers from 1 to last arrived n times each.
func (d delivery) exactly(last, n int) error {
	var missing, repeated []int
	for seq := 1; seq <= last; seq++ {
		switch have := d.counts[seq]; {
		case have < n:
			missing = append(missing, seq)
		case have > n:
			repeated = append(repeated, seq)
		}
	}
	var errs []error
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("of lines 1 to %d %s are missing", last, spans(missing)))
	}
	if len(repeated) > 0 {
		errs = append(errs, fmt.Errorf("of lines 1 to %d %s are there more than %d times", last, spans(repeated), n))
	}
	return errors.Join(errs...)
}

// spans writes sorted numbers as "3 (1-2,7)", shortened.
func spans(numbers []int) string {
	var parts []string
	for i := 0; i < len(numbers); {
		j := i
		for j+1 < len(numbers) && numbers[j+1] == numbers[j]+1 {
			j++
		}
		part := fmt.Sprint(numbers[i])
		if j > i {
			part = fmt.Sprintf("%d-%d", numbers[i], numbers[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	if len(parts) > 10 {
		parts = append(parts[:10], "...")
	}
	return fmt.Sprintf("%d (%s)", len(numbers), strings.Join(parts, ","))
}

// requireLines waits until lines 1 to count of a container are in Loki, each once,
// no other ones, and all in the wanted stream.
func requireLines(t *testing.T, d deployed, namespace, pod, container, run string, count int, want stream) delivery {
	t.Helper()
	var got delivery
	eventually(t, 40*time.Second, func() (err error) {
		if got, err = delivered(t, d.begin, namespace, pod, container, run); err != nil {
			return err
		}
		return got.exactly(count, 1)
	})
	if len(got.lines) != count {
		t.Errorf("%d lines of %s arrived, want %d", len(got.lines), run, count)
	}
	if diff := gocmp.Diff([]stream{want}, got.streams); diff != "" {
		t.Errorf("streams of %s -want +got\n%s", run, diff)
	}
	return got
}

// TestLinesOfInitContainersArriveWithTheTimeOfTheRuntime claims that each record of
// the file is a line in Loki with the record's time, in the record's order.
func TestLinesOfInitContainersArriveWithTheTimeOfTheRuntime(t *testing.T) {
	d, _ := startIngot(t)
	want := podStream("shop", "web-0", "setup", "service_name", "web", "app_kubernetes_io_name", "web")
	got := requireLines(t, d, "shop", "web-0", "setup", "setup", 200, want)
	files, err := filepath.Glob("/var/log/pods/shop_web-0_*/setup/0.log")
	if err != nil || len(files) != 1 {
		t.Fatalf("log files = %v, %v, want one", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	records, err := readRecords(string(text))
	if err != nil {
		t.Fatal(err)
	}
	lines := make([]record, 0, len(got.lines))
	for _, l := range got.lines {
		lines = append(lines, record{l.Time.UTC(), l.Text})
	}
	// Loki sorts by time; of equal times the order is its own.
	for _, list := range [][]record{records, lines} {
		slices.SortFunc(list, func(a, b record) int { return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Text, b.Text)) })
	}
	if !slices.Equal(records, lines) {
		for i := range min(len(records), len(lines)) {
			if records[i] != lines[i] {
				t.Fatalf("line %d = %s %.80q, want %s %.80q", i, lines[i].Time, lines[i].Text, records[i].Time, records[i].Text)
			}
		}
		t.Fatalf("%d lines, want %d", len(lines), len(records))
	}
}

// record is a whole line of a log file.
type record struct {
	Time time.Time
	Text string
}

// readRecords joins the parts of the lines of a container's log file, for each stream
// by itself. A joined line has the time of its last part.
func readRecords(file string) ([]record, error) {
	var records []record
	open := map[string]string{}
	for line := range strings.Lines(file) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
		at, err := time.Parse(time.RFC3339Nano, fields[0])
		if err != nil || len(fields) != 4 {
			return nil, fmt.Errorf("no record of a container runtime: %.80q", line)
		}
		open[fields[1]] += fields[3]
		if fields[2] == "F" {
			records = append(records, record{at, open[fields[1]]})
			delete(open, fields[1])
		}
	}
	return records, nil
}

// TestPodLabelsNameTheService claims the labels of a pod with two containers and the
// label app.kubernetes.io/name.
func TestPodLabelsNameTheService(t *testing.T) {
	d, _ := startIngot(t)
	for _, container := range []string{"server", "sidecar"} {
		want := podStream("shop", "web-0", container, "service_name", "web", "app_kubernetes_io_name", "web")
		requireLines(t, d, "shop", "web-0", container, container, 500, want)
	}
}

// TestAnnotationsSteerLabels claims what annotations do to the labels of a stream, and
// that of the rest of labels and annotations nothing appears.
func TestAnnotationsSteerLabels(t *testing.T) {
	d, _ := startIngot(t)
	want := podStream("shop", "annotated", "workload",
		"job", "shop/checkout", "service_name", "checkout", "service_namespace", "retail",
		"deployment_environment", "staging", "app_kubernetes_io_name", "ignored")
	want.Metadata["service_instance_id"] = "checkout-1"
	requireLines(t, d, "shop", "annotated", "workload", "annotated", 500, want)
}

// TestLinesOfAShortLivedJobArrive claims that nothing is lost of a pod that is deleted
// as soon as it has ended.
func TestLinesOfAShortLivedJobArrive(t *testing.T) {
	d, _ := startIngot(t)
	var pod string
	eventually(t, 30*time.Second, func() error {
		got, err := delivered(t, d.begin, "shop", "short-.*", "workload", "short")
		if err == nil && len(got.lines) == 0 {
			err = errors.New("no line of the job")
		}
		if err == nil {
			pod = got.lines[0].Metadata["pod"]
		}
		return err
	})
	want := podStream("shop", pod, "workload", "service_name", "short", "app_kubernetes_io_name", "short")
	requireLines(t, d, "shop", "short-.*", "workload", "short", 1000, want)
	eventually(t, 30*time.Second, func() error {
		left, err := cluster.Kubectl(t.Context(), "-n", "shop", "get", "pods", "-l", "job-name=short", "-o", "name")
		if err == nil && left != "" {
			err = fmt.Errorf("%s is still there, so this test does not show what it claims", strings.TrimSpace(left))
		}
		return err
	})
}

// TestStaticPodHasItsLabels claims that a static pod, whose log directory is named after
// another uid than its object has, gets the labels of its object.
func TestStaticPodHasItsLabels(t *testing.T) {
	d, _ := startIngot(t)
	name := "static-" + cluster.NodeName
	uid, err := cluster.Kubectl(t.Context(), "get", "pod", name, "-o", "jsonpath={.metadata.uid}")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("/var/log/pods/default_" + name + "_*")
	if err != nil || len(files) != 1 || strings.HasSuffix(files[0], uid) {
		t.Fatalf("log directories = %v, %v, want one with another uid than %s", files, err, uid)
	}
	want := podStream("default", name, "workload", "service_name", "static", "app_kubernetes_io_name", "static")
	requireLines(t, d, "default", name, "workload", "static", 1000, want)
}

// TestEachRunOfARestartingContainerArrives claims that all lines of all runs of a
// container arrive, although each run has a file of its own and the kubelet removes old
// ones.
func TestEachRunOfARestartingContainerArrives(t *testing.T) {
	d, _ := startIngot(t)
	var got delivery
	eventually(t, 60*time.Second, func() (err error) {
		if got, err = delivered(t, d.begin, "shop", "restarting", "workload", "restarting"); err != nil {
			return err
		}
		runs := got.counts[100]
		if runs < 3 {
			return fmt.Errorf("%d runs arrived whole, waiting for 3", runs)
		}
		return got.exactly(100, runs)
	})
	if diff := gocmp.Diff([]stream{podStream("shop", "restarting", "workload")}, got.streams); diff != "" {
		t.Errorf("streams -want +got\n%s", diff)
	}
	times := map[time.Time]bool{}
	for _, l := range got.lines {
		times[l.Time] = true
	}
	if len(times) < len(got.lines)*9/10 {
		t.Errorf("%d lines have %d times: the runs are one run many times", len(got.lines), len(times))
	}
}

// TestEachLineOfARotatedLogArrivesOnce claims it for a container whose log the kubelet
// rotates every few seconds, with lines on both streams and lines that the runtime splits.
func TestEachLineOfARotatedLogArrivesOnce(t *testing.T) {
	d, _ := startIngot(t)
	got := requireLines(t, d, "shop", "plain", "workload", "plain", 12000, podStream("shop", "plain", "workload"))
	if got.long != 12000/200 {
		t.Errorf("%d lines are longer than 16 KiB, want %d", got.long, 12000/200)
	}
	errs := 0
	for _, l := range got.lines {
		if parsed, err := testbed.ParseLine(l.Text); err == nil && parsed.Stream == "stderr" {
			errs++
		}
	}
	if errs != 12000/3 {
		t.Errorf("%d lines are from stderr, want %d", errs, 12000/3)
	}
	// The kubelet compresses all rotated files but the last.
	rotated := map[string]bool{}
	files, err := filepath.Glob("/var/log/pods/shop_plain_*/workload/0.log.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		rotated[strings.TrimSuffix(filepath.Base(f), ".gz")] = true
	}
	if len(rotated) < 3 {
		t.Errorf("the kubelet rotated %d times (%v), want at least 3", len(rotated), slices.Sorted(maps.Keys(rotated)))
	}
}
