package podlogs

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

// stages decodes a list of stages as it would stand in the file.
func stages(t testing.TB, text string) []stage.Config {
	t.Helper()
	var cfg struct {
		Stages []stage.Config `yaml:"stages"`
	}
	if err := config.Load([]byte("stages:\n"+text), &cfg); err != nil {
		t.Fatal(err)
	}
	return cfg.Stages
}

// wantBalance waits until so many lines were read and checks that each is accounted for. The
// counts of a turn reach the metrics one after the other.
func (r *rig) wantBalance(read float64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("account of %v lines", read), func() bool {
		sum := 0.0
		for _, name := range []string{"lines_pushed_total", "lines_dropped_total", "parts_joined_total", "parts_pending", "lines_joined_total", "lines_held"} {
			sum += r.metric("ingot_podlogs_" + name)
		}
		return sum == read && r.metric("ingot_podlogs_lines_read_total") == read
	})
}

func at(sec int, stream, tag, text string) string {
	return fmt.Sprintf("2026-01-02T03:04:%02dZ %s %s %s\n", sec, stream, tag, text)
}

func TestStagesChangeLabelAndDropLines(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Stages = stages(t, `
  - cri: {}
  - json: {expressions: {level: , msg: }}
  - labels: {level: , app: msg}
  - tenant: {source: level}
  - output: {source: msg}
  - match: {selector: '{stream="stderr"}', stages: [{template: {source: out, template: 'err: {{ .Entry }}'}}, {output: {source: out}}]}
  - drop: {source: level, value: debug, drop_counter_reason: chatter}
`)
	log := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log"))
	log.write(at(1, "stdout", "F", `{"level":"info","msg":"one"}`) +
		at(2, "stdout", "F", `{"level":"debug","msg":"two"}`) +
		at(3, "stderr", "P", `{"level":"warn",`) + at(3, "stdout", "F", `{"level":"info","msg":"three"}`) +
		at(4, "stderr", "F", `"msg":"four"}`) + at(5, "stdout", "F", "plain"))
	r.start()
	r.sink.wait(t, 4)
	base := `{container="nginx", job="shop/nginx", %snamespace="shop", service_name="nginx", service_namespace="shop"}`
	want := map[string]string{"one": "info", "three": "info", "err: four": "warn", "plain": ""}
	for _, l := range r.sink.all() {
		level, ok := want[l.text]
		if !ok {
			t.Errorf("%q arrived", l.text)
		}
		delete(want, l.text)
		labels := fmt.Sprintf(base, "")
		if level != "" {
			// The tenant is always kept, app is not in labels_to_keep.
			labels = strings.Replace(fmt.Sprintf(base, fmt.Sprintf("level=%q, ", level)), "{", fmt.Sprintf("{__tenant_id__=%q, ", level), 1)
		}
		if l.labels != labels {
			t.Errorf("labels of %q are %s, want %s", l.text, l.labels, labels)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	r.wantBalance(6)
	if got := r.metric("ingot_podlogs_lines_dropped_total", "reason", "chatter"); got != 1 {
		t.Errorf("%v lines were dropped, want 1", got)
	}
}

// TestHeldLinesAreReadAgainAfterAKill is that a position stays before the lines of a block
// that multiline has not let go of, over a rotation, too.
func TestHeldLinesAreReadAgainAfterAKill(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Multiline = &stage.MultilineConfig{Firstline: `^\S`, MaxLines: 100, MaxWaitTime: stage.Duration(time.Hour), TrimNewlines: true}
	dir := r.dir("web", "app")
	path := filepath.Join(dir, "0.log")
	openLog(t, path).out("first", " at one", "second", " at two")
	r.start()
	if diff := cmp.Diff([]string{"first\n at one"}, r.sink.wait(t, 1)); diff != "" {
		t.Errorf("before the rotation (-want +got):\n%s", diff)
	}
	rename(t, path, path+".20260102-030405")
	f := openLog(t, path)
	f.out(" at three")
	eventually(t, "the rotation", func() bool {
		s, ok := r.status("0.log")
		return ok && s.Read == int64(len(cri("stdout", "F", " at three")))
	})
	r.finish()
	r.wantBalance(5)
	f.out(" at four", "third")
	r.start()
	got := r.sink.wait(t, 2)
	if diff := cmp.Diff([]string{"first\n at one", "second\n at two\n at three\n at four"}, got); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	eventually(t, "the position", func() bool {
		s, ok := r.status("0.log.20260102-030405")
		return ok && s.Acknowledged == s.Size
	})
	r.wantBalance(5) // All but the two that were pushed before.
}

func TestBlocksAreLetGoInTimeAndAtTheEndOfAContainer(t *testing.T) {
	for name, wait := range map[string]time.Duration{"time": 20 * time.Millisecond, "end": time.Hour} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.cfg.Pods.Multiline = &stage.MultilineConfig{Preset: "java", MaxLines: 100, MaxWaitTime: stage.Duration(wait)}
			dir := r.dir("web", "app")
			openLog(t, filepath.Join(dir, "0.log")).out("failed", "\tat a.b(C.java:1)")
			r.start()
			if name == "end" {
				openLog(t, filepath.Join(dir, "1.log")).out("restarted")
			}
			if diff := cmp.Diff("failed\n\tat a.b(C.java:1)", r.sink.wait(t, 1)[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAnnotationsChooseHowLinesAreJoined(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string
	}{
		"none given":   {nil, []string{"a", "b", "-c", " d"}},
		"expression":   {map[string]string{multilineAnnotation: "^[^-]"}, []string{"a", "b\n-c", " d"}},
		"preset":       {map[string]string{multilineAnnotation: "java"}, []string{"a", "b", "-c\n d"}},
		"container":    {map[string]string{multilineAnnotation: "java", multilineAnnotation + ".app": "^[^-]"}, []string{"a", "b\n-c", " d"}},
		"none":         {map[string]string{multilineAnnotation: "java", multilineAnnotation + ".app": "none"}, []string{"a", "b", "-c", " d"}},
		"not compiled": {map[string]string{multilineAnnotation: "("}, []string{"a", "b", "-c", " d"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			pods := &fakePods{}
			pods.put("uid-web", kube.Pod{Namespace: "shop", Name: "web", Annotations: c.annotations})
			r.pods = pods
			openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).out("a", "b", "-c", " d")
			openLog(t, filepath.Join(r.dir("web", "app"), "1.log")).out("end")
			r.start()
			got := r.sink.wait(t, len(c.want))[:len(c.want)]
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestLimitWithoutDropDelaysReading is that nothing is lost and the rate is held.
func TestLimitWithoutDropDelaysReading(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Stages = stages(t, "  - limit: {rate: 100, burst: 1}\n")
	want := numbered("n", 0, 40)
	openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).out(want...)
	start := time.Now()
	r.start()
	got := r.sink.wait(t, len(want))
	if took := time.Since(start); took < 250*time.Millisecond {
		t.Errorf("40 lines at 100 a second took %s", took)
	}
	wantSet(t, got, want)
	r.wantBalance(40)
}

func TestStreamsOfStdoutAndStderrDifferInVersion4(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Profile, r.cfg.Pods.LabelsToKeep = ProfileV4, nil
	openLog(t, filepath.Join(r.dir("web", "app"), "0.log")).write(
		at(1, "stdout", "F", "o1") + at(2, "stderr", "P", "e") + at(3, "stdout", "F", "o2") + at(4, "stderr", "F", "1"))
	r.start()
	r.sink.wait(t, 3)
	for _, l := range r.sink.all() {
		stream := map[byte]string{'o': "stdout", 'e': "stderr"}[l.text[0]]
		if !strings.Contains(l.labels, `flags="F"`) || !strings.Contains(l.labels, fmt.Sprintf("stream=%q", stream)) {
			t.Errorf("labels of %q are %s", l.text, l.labels)
		}
	}
	r.wantBalance(4)
}

func TestStagesOfNodeFilesTakeRecordsApart(t *testing.T) {
	r := newRig(t)
	r.cfg.Pods.Enabled = false
	path := filepath.Join(t.TempDir(), "node.log")
	r.cfg.Files = []FileConfig{{Paths: []string{path}, Format: FormatRaw, Stages: stages(t, "  - cri: {}\n")}}
	openLog(t, path).write(at(1, "stdout", "P", "one ") + at(2, "stdout", "F", "two"))
	r.start()
	r.sink.wait(t, 1)
	l := r.sink.all()[0]
	when := time.Date(2026, 1, 2, 3, 4, 2, 0, time.UTC).UnixNano()
	if l.text != "one two" || l.t != when || !strings.Contains(l.labels, `stream="stdout"`) {
		t.Errorf("got %+v", l)
	}
	r.wantBalance(2)
}

// TestOpenLinesTogetherHaveABound is that many open lines are pushed as they stand rather than
// take all memory, and that nothing of them is lost.
func TestOpenLinesTogetherHaveABound(t *testing.T) {
	r := newRig(t)
	part := strings.Repeat("x", 16<<10)
	const files, parts = 80, 15
	for i := range files {
		log := openLog(t, filepath.Join(r.dir(fmt.Sprint("web", i), "app"), "0.log"))
		log.write(strings.Repeat(cri("stdout", "P", part), parts))
	}
	r.build()
	newScanner(r.c).scan(time.Now())
	rd := newReader(r.c)
	most := 0
	for rd.round(t.Context()) {
		most = max(most, rd.open)
	}
	if most > maxOpen+len(part) || most < maxOpen/2 {
		t.Errorf("open lines took %d bytes, want about %d at the most", most, maxOpen)
	}
	sum := rd.open
	for _, s := range r.sink.texts() {
		sum += len(s)
	}
	if want := files * parts * len(part); sum != want {
		t.Errorf("%d bytes of text are there, want %d", sum, want)
	}
	r.wantBalance(files * parts)
}

func TestLinesWithoutStagesTakeNoMemory(t *testing.T) {
	r := newRig(t)
	lines := slices.Repeat([]string{"a line of a log"}, 2000)
	log := openLog(t, filepath.Join(r.dir("web", "app"), "0.log"))
	log.out(lines...)
	r.build()
	newScanner(r.c).scan(time.Now())
	rd := newReader(r.c)
	rd.round(t.Context())
	data := []byte(strings.Repeat(cri("stdout", "F", "a line of a log"), 2000))
	tl := rd.active[0].view[0]
	if n := testing.AllocsPerRun(10, func() {
		rd.lines(tl, data)
		rd.entries[0] = rd.entries[0][:0]
	}); n != 0 {
		t.Errorf("2000 lines took %v allocations, want 0", n)
	}
}

func TestRepairIsThatOfThePackageBytes(t *testing.T) {
	r := &reader{}
	for _, s := range []string{"", "a", "\xff", "a\xff\xfeb", "\xffa\xff", "é\xe2\x82x", "\xed\xa0\x80", "\xf4\x90\x80\x80é", "\ufffd\xff\ufffd", "x\xc3"} {
		if got, want := r.repair([]byte(s)), bytes.ToValidUTF8([]byte(s), []byte("\uFFFD")); !bytes.Equal(got, want) {
			t.Errorf("repair(%q) = %q, want %q", s, got, want)
		}
	}
}

// TestBlocksSurviveAStopAnywhere is that a stop between any two lines neither tears a block nor
// repeats one.
func TestBlocksSurviveAStopAnywhere(t *testing.T) {
	lines := []string{
		at(1, "stdout", "F", "one"), at(2, "stdout", "F", " at a"), at(3, "stdout", "P", " at"), at(4, "stdout", "F", " b"),
		at(5, "stdout", "F", "two"), at(6, "stdout", "P", "thr"), at(7, "stdout", "P", "e"), at(8, "stdout", "F", "e"),
		at(9, "stdout", "F", " at c"), at(10, "stdout", "F", "four"), at(11, "stdout", "F", "end"),
	}
	want := []string{"one\n at a\n at b", "two", "three\n at c", "four"}
	for k := range lines {
		r := newRig(t)
		r.cfg.Pods.Multiline = &stage.MultilineConfig{Firstline: `^\S`, MaxLines: 100, MaxWaitTime: stage.Duration(time.Hour), TrimNewlines: true}
		r.cfg.Pods.Stages = stages(t, "  - multiline: {firstline: '^\\S', max_wait_time: 1h}\n") // Once more, behind the first.
		log := openLog(t, filepath.Join(r.dir("web", "app"), "0.log"))
		before := strings.Join(lines[:k], "")
		log.write(before)
		r.start()
		eventually(t, "reading", func() bool {
			s, ok := r.status("0.log")
			return ok && s.Read == int64(len(before)) && r.metric("ingot_podlogs_lines_read_total") == float64(k)
		})
		r.wantBalance(float64(k))
		r.finish()
		log.write(strings.Join(lines[k:], ""))
		r.start()
		// The one behind holds another block back: three are out when the last line is read.
		got := r.sink.wait(t, len(want)-1)
		if diff := cmp.Diff(want[:len(want)-1], got); diff != "" {
			t.Errorf("stopped after %d lines (-want +got):\n%s", k, diff)
		}
		r.kill()
	}
}
