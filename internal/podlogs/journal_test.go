package podlogs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// journaled returns a file of positions whose places moved on twice since it was written whole,
// the sizes of its parts, and the offsets after each.
func journaled(t *testing.T) (data []byte, sizes []int, offsets []int64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p.json")
	p := NewPositions(path, "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
	p.load()
	a, _ := p.open(fileID{1, 2}, "/a", []byte("head of a"))
	b, _ := p.open(fileID{1, 3}, "/\"b\\\u2028\xff", []byte("head of b"))
	for _, off := range []int64{10, 20, 30} {
		p.acknowledge([]mark{{a, off}})
		if off == 20 {
			p.acknowledge([]mark{{b, 5}})
		}
		p.write()
		var err error
		if data, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		sizes, offsets = append(sizes, len(data)), append(offsets, off)
	}
	return data, sizes, offsets
}

func TestPositionsGoOnByWhatChanged(t *testing.T) {
	data, sizes, _ := journaled(t)
	if n := sizes[2] - sizes[1]; n > 200 {
		t.Errorf("one place that changed took %d bytes", n)
	}
	recs, torn, err := decodePositions(data)
	if err != nil || torn || len(recs) != 2 {
		t.Fatalf("decodePositions() = %v, %v, %v", recs, torn, err)
	}
	if recs[0].Offset != 30 || recs[1].Offset != 5 || recs[1].Path != "/\"b\\\u2028\uFFFD" {
		t.Errorf("positions = %+v", recs)
	}
}

// L35: what was being appended when the power failed, and any damage to it, costs what was
// appended from there on and nothing else.
func TestTornEndOfPositionsGivesThoseBefore(t *testing.T) {
	data, sizes, offsets := journaled(t)
	check := func(what string, data []byte, at int) {
		t.Helper()
		part := slices.IndexFunc(sizes, func(size int) bool { return at < size })
		recs, torn, err := decodePositions(data)
		if part == 0 {
			if err == nil {
				t.Errorf("%s in what was written whole: no error", what)
			}
			return
		}
		whole := len(data) == sizes[part-1]
		if err != nil || torn == whole || recs[0].Offset != offsets[part-1] {
			t.Errorf("%s: %v, %v, %v, want the offset %d", what, recs, torn, err, offsets[part-1])
		}
	}
	for i := range data {
		check(fmt.Sprint("cut at ", i), data[:i], i)
		for _, bit := range []byte{1, 0x20, 0x80} {
			damaged := bytes.Clone(data)
			damaged[i] ^= bit
			if at := i; at >= sizes[0] {
				check(fmt.Sprintf("bit %#x of byte %d", bit, i), damaged, at)
			}
		}
	}
	check("zeros at the end", append(bytes.Clone(data[:sizes[1]]), make([]byte, 512)...), sizes[1])
	// A batch that stands in another place is not believed either.
	twice := append(bytes.Clone(data[:sizes[1]]), data[sizes[0]:sizes[1]]...)
	check("a batch twice", twice, sizes[1])
}

func TestPositionsGoneFromTheDiskAreWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	p := NewPositions(path, "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
	p.load()
	pos, _ := p.open(fileID{1, 2}, "/a", nil)
	other, _ := p.open(fileID{1, 3}, "/b", nil)
	p.acknowledge([]mark{{pos, 1}, {other, 1}})
	p.write()
	erase(t, path)
	p.acknowledge([]mark{{pos, 2}})
	p.write()
	if recs, torn, err := readPositions(path); err != nil || torn || len(recs) != 2 {
		t.Errorf("readPositions() = %v, %v, %v, want both places", recs, torn, err)
	}
}

func TestPlaceOfATruncatedFileLeavesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	p := NewPositions(path, "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
	p.load()
	pos, _ := p.open(fileID{1, 2}, "/a", nil)
	p.acknowledge([]mark{{pos, 10}})
	p.write()
	p.restart(pos)
	p.write()
	if recs, _, err := readPositions(path); err != nil || len(recs) != 0 {
		t.Errorf("readPositions() = %v, %v, want none for a file that is empty now", recs, err)
	}
}

func TestPlacesThatAreDroppedLeaveTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	p := NewPositions(path, "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
	p.load()
	for i := range uint64(3) {
		pos, _ := p.open(fileID{1, i + 1}, fmt.Sprint("/", i), nil)
		p.acknowledge([]mark{{pos, 1}})
		if i > 0 {
			p.release(pos)
		}
	}
	p.write()
	p.prune(time.Now().Add(2*keepGone), nil, nil, 0, func(string) bool { return true })
	p.write()
	if recs, _, err := readPositions(path); err != nil || len(recs) != 1 || recs[0].Path != "/0" {
		t.Errorf("readPositions() = %v, %v, want the place of the open file", recs, err)
	}
}

func TestAppendedPositionsAreWrittenWholeInTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	p := NewPositions(path, "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
	p.load()
	pos, _ := p.open(fileID{1, 2}, "/"+strings.Repeat("a", 1000), nil)
	var most int64
	for i := range int64(2 * minJournal / 1000) {
		p.acknowledge([]mark{{pos, i + 1}})
		p.write()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, fi.Size())
	}
	if most < minJournal/2 || most > 2*minJournal {
		t.Errorf("the file grew to %d bytes, want about %d", most, minJournal)
	}
	p.acknowledge([]mark{{pos, 1 << 40}})
	p.write()
	p.rewrite()
	recs, _, err := readPositions(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{1 << 40}, []int64{recs[0].Offset}); diff != "" {
		t.Errorf("offset (-want +got):\n%s", diff)
	}
	if data, err := os.ReadFile(path); err != nil || len(data) > 2000 {
		t.Errorf("%d bytes are left of one place, %v", len(data), err)
	}
}

func TestFailureToWritePositionsIsInTheStatus(t *testing.T) {
	r := newRig(t)
	blocker := filepath.Dir(r.positions)
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("a")
	r.start()
	r.sink.wait(t, 1)
	r.p.write()
	if got := r.c.Status().PositionsErr; !strings.Contains(got, blocker) {
		t.Errorf("the failure is shown as %q", got)
	}
	erase(t, blocker)
	r.p.write()
	if got := r.c.Status().PositionsErr; got != "" {
		t.Errorf("after the repair the status still says %q", got)
	}
}
