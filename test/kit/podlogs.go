package kit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// PodLogWriter writes a tree like the kubelet's /var/log/pods and keeps the ledger of every
// complete line in it.
//
// Calls may come from several goroutines; one container is best written by one of them, so
// that its order is known.
type PodLogWriter struct {
	// Dir is the root of the tree.
	Dir string
	// Now gives the time of the next line; [time.Now] unless a test replaces it before writing.
	Now func() time.Time

	fail func(error)

	mu      sync.Mutex // guards the rest and everything below it
	written []*WrittenLine
	pods    int
	rotated time.Time // the time in the name of the last rotated file
}

// WrittenLine is one complete line of the ledger.
type WrittenLine struct {
	Namespace, Pod, Container string
	Stream                    string // stdout or stderr
	Restart                   int
	// Times are those of the line's parts, in order; a line that was not split has one.
	Times []time.Time
	Text  string
	// Removed means that the node has deleted the file that held the line, or its end.
	Removed bool
}

// String names the line in a report.
func (l *WrittenLine) String() string {
	return fmt.Sprintf("%s/%s/%s %s %.80q", l.Namespace, l.Pod, l.Container, l.Stream, l.Text)
}

// LoggedPod is one pod of the tree.
type LoggedPod struct {
	w                    *PodLogWriter
	Namespace, Name, UID string
}

// LoggedContainer is one container of a pod and its log files.
type LoggedContainer struct {
	pod  *LoggedPod
	Name string

	restart int
	file    *os.File
	seq     int
	current []*WrittenLine            // lines of the open file
	older   map[string][]*WrittenLine // lines of the rotated files, by path without .gz
	partial map[string]*WrittenLine   // the unfinished line of each stream
}

// NewPodLogWriter returns a writer below dir, which it creates. A failed write ends the test.
func NewPodLogWriter(tb testing.TB, dir string) *PodLogWriter {
	tb.Helper()
	return NewPodLogWriterFunc(dir, func(err error) { tb.Fatal(err) })
}

// NewPodLogWriterFunc is [NewPodLogWriter] without a test around it: fail is called with what
// went wrong, on the goroutine of the call.
func NewPodLogWriterFunc(dir string, fail func(error)) *PodLogWriter {
	w := &PodLogWriter{Dir: dir, Now: time.Now, fail: fail}
	w.check(os.MkdirAll(dir, 0o755))
	return w
}

func (w *PodLogWriter) check(err error) {
	if err != nil {
		w.fail(fmt.Errorf("write pod logs: %w", err))
	}
}

// Pod adds a pod with a UID of its own.
func (w *PodLogWriter) Pod(namespace, name string) *LoggedPod {
	w.mu.Lock()
	w.pods++
	uid := fmt.Sprintf("%08x-0000-4000-8000-%012x", w.pods, w.pods)
	w.mu.Unlock()
	return w.PodUID(namespace, name, uid)
}

// PodUID adds a pod with a given UID; that of a static pod is a hash without hyphens.
func (w *PodLogWriter) PodUID(namespace, name, uid string) *LoggedPod {
	p := &LoggedPod{w: w, Namespace: namespace, Name: name, UID: uid}
	w.check(os.MkdirAll(p.Dir(), 0o755))
	return p
}

// Dir returns the pod's directory, <namespace>_<name>_<uid>.
func (p *LoggedPod) Dir() string {
	return filepath.Join(p.w.Dir, p.Namespace+"_"+p.Name+"_"+p.UID)
}

// Container adds a container and opens its first log file, 0.log.
func (p *LoggedPod) Container(name string) *LoggedContainer {
	c := &LoggedContainer{pod: p, Name: name, older: make(map[string][]*WrittenLine), partial: make(map[string]*WrittenLine)}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.check(os.MkdirAll(c.dir(), 0o755))
	c.open()
	return c
}

// Remove deletes the pod's directory at once, read or not, as the kubelet does after the pod
// was deleted. Its containers may not be written any more.
func (p *LoggedPod) Remove(containers ...*LoggedContainer) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, c := range containers {
		p.w.check(c.file.Close())
		markRemoved(c.current)
		for _, lines := range c.older {
			markRemoved(lines)
		}
	}
	p.w.check(os.RemoveAll(p.Dir()))
}

func (c *LoggedContainer) dir() string {
	return filepath.Join(c.pod.Dir(), c.Name)
}

// Path returns the path of the file that is being written.
func (c *LoggedContainer) Path() string {
	return filepath.Join(c.dir(), fmt.Sprintf("%d.log", c.restart))
}

func (c *LoggedContainer) open() {
	f, err := os.OpenFile(c.Path(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	c.pod.w.check(err)
	c.file = f
}

// Write writes n lines to stdout, each with the next sequence number of the container:
// seq=7 and some text. It returns the last number.
func (c *LoggedContainer) Write(n int) int {
	last := 0
	for range n {
		c.pod.w.mu.Lock()
		c.seq++
		last = c.seq
		c.pod.w.mu.Unlock()
		c.Line("stdout", fmt.Sprintf("seq=%d pod=%s/%s container=%s", last, c.pod.Namespace, c.pod.Name, c.Name))
	}
	return last
}

// Line writes one whole line to a stream, stdout or stderr.
func (c *LoggedContainer) Line(stream, text string) {
	c.Part(stream, text, true)
}

// Part writes one part of a line, tagged P, or its end, tagged F when last is true. Parts of
// the two streams may alternate, and a rotation or restart may come in between.
func (c *LoggedContainer) Part(stream, text string, last bool) {
	w := c.pod.w
	w.mu.Lock()
	defer w.mu.Unlock()
	tag, now := "P", w.Now().UTC()
	if last {
		tag = "F"
	}
	line := c.partial[stream]
	if line == nil {
		line = &WrittenLine{Namespace: c.pod.Namespace, Pod: c.pod.Name, Container: c.Name, Stream: stream, Restart: c.restart}
		c.partial[stream] = line
	}
	line.Times = append(line.Times, now)
	line.Text += text
	if last {
		// In the ledger before it is in the file: a fast reader must not know more than we do.
		delete(c.partial, stream)
		w.written = append(w.written, line)
		c.current = append(c.current, line)
	}
	_, err := fmt.Fprintf(c.file, "%s %s %s %s\n", now.Format(criTime), stream, tag, text)
	w.check(err)
}

// criTime is how containerd writes times: nine digits, always.
const criTime = "2006-01-02T15:04:05.000000000Z07:00"

// Long writes one line as containerd does, cut into parts of 16 KiB.
func (c *LoggedContainer) Long(stream, text string) {
	const size = 16 << 10
	for len(text) > size {
		c.Part(stream, text[:size], false)
		text = text[size:]
	}
	c.Part(stream, text, true)
}

// Raw writes bytes that are not part of the ledger: half lines, NULs, garbage.
func (c *LoggedContainer) Raw(b []byte) {
	c.pod.w.mu.Lock()
	defer c.pod.w.mu.Unlock()
	_, err := c.file.Write(b)
	c.pod.w.check(err)
}

// Truncate cuts the file to nothing, as a shell in the container's place would; what it held
// counts as removed.
func (c *LoggedContainer) Truncate() {
	c.pod.w.mu.Lock()
	defer c.pod.w.mu.Unlock()
	c.pod.w.check(c.file.Truncate(0))
	markRemoved(c.current)
	c.current = nil
}

// Restart ends the container and starts it anew with the next number as its file. The old
// files stay; an unfinished line stays unfinished.
func (c *LoggedContainer) Restart() {
	c.pod.w.mu.Lock()
	defer c.pod.w.mu.Unlock()
	c.pod.w.check(c.file.Close())
	c.older[c.Path()] = c.current
	c.current, c.partial = nil, make(map[string]*WrittenLine)
	c.restart++
	c.open()
}

// Prune removes the files of all restarts but the last keep, rotated ones included, as the
// kubelet does with dead containers of a crash loop.
func (c *LoggedContainer) Prune(keep int) {
	c.pod.w.mu.Lock()
	defer c.pod.w.mu.Unlock()
	for n := 0; n <= c.restart-keep; n++ {
		path := filepath.Join(c.dir(), fmt.Sprintf("%d.log", n))
		files, err := filepath.Glob(path + "*")
		c.pod.w.check(err)
		for _, f := range files {
			c.pod.w.check(os.Remove(f))
			markRemoved(c.older[strings.TrimSuffix(f, ".gz")])
		}
	}
}

// Written returns a copy of the ledger in the order of writing.
func (w *PodLogWriter) Written() []WrittenLine {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := make([]WrittenLine, len(w.written))
	for i, l := range w.written {
		lines[i] = *l
		lines[i].Times = slices.Clone(l.Times)
	}
	return lines
}

func markRemoved(lines []*WrittenLine) {
	for _, l := range lines {
		l.Removed = true
	}
}

// Report holds the ledger against what a receiver got from these pods, line by line with its
// container, text and time. Repeated has what the receiver dropped as an exact repeat and,
// since no backend would drop those, what came again under another time or label. Disorder
// has the lines that arrived after a later one of the same container and stream.
//
// Lines are found by the labels or structured metadata namespace, pod and container. Lines
// that the node has removed count as lost like any other; see [WrittenLine.Removed] and
// [PodLogWriter.ReportPresent].
func (w *PodLogWriter) Report(r *LogsReceiver, tenant string) Report {
	return reportLines(w.Written(), r.Lines(tenant, ""))
}

// ReportPresent is [PodLogWriter.Report] that does not call a line lost which the node has
// removed.
func (w *PodLogWriter) ReportPresent(r *LogsReceiver, tenant string) Report {
	rep := w.Report(r, tenant)
	present := slices.DeleteFunc(w.Written(), func(l WrittenLine) bool { return l.Removed })
	rep.Lost = reportLines(present, r.Lines(tenant, "")).Lost
	return rep
}

// origin names one container's stream of lines, which has an order of its own.
type origin struct{ namespace, pod, container string }

func reportLines(written []WrittenLine, got []Line) Report {
	type id struct {
		origin
		text string
	}
	var rep Report
	open := make(map[id][]int, len(written)) // indices not yet matched, in the order of writing
	spent := make(map[id]int)
	for i, l := range written {
		k := id{origin{l.Namespace, l.Pod, l.Container}, l.Text}
		open[k] = append(open[k], i)
	}
	type lane struct {
		origin
		stream string
	}
	newest := make(map[lane]int)
	for _, l := range got {
		k := id{origin{l.Get("namespace"), l.Get("pod"), l.Get("container")}, l.Text}
		name := fmt.Sprintf("%s/%s/%s %s %.80q", k.namespace, k.pod, k.container, timeText(l.T), l.Text)
		for range l.Repeats {
			rep.Repeated = append(rep.Repeated, name)
		}
		at := slices.IndexFunc(open[k], func(i int) bool {
			return slices.ContainsFunc(written[i].Times, func(t time.Time) bool { return t.UnixNano() == l.T })
		})
		switch {
		case at < 0 && len(open[k]) == 0 && spent[k] > 0:
			rep.Repeated = append(rep.Repeated, name)
			continue
		case at < 0:
			rep.Invented = append(rep.Invented, name)
			continue
		}
		i := open[k][at]
		open[k] = slices.Delete(open[k], at, at+1)
		spent[k]++
		from := lane{k.origin, written[i].Stream}
		if i < newest[from] {
			rep.Disorder = append(rep.Disorder, name)
		}
		newest[from] = max(newest[from], i)
	}
	for _, indices := range open {
		for _, i := range indices {
			rep.Lost = append(rep.Lost, written[i].String())
		}
	}
	slices.SortFunc(rep.Lost, strings.Compare)
	return rep
}
