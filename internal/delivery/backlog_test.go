package delivery

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// sparseSegment writes a finished segment of n blocks whose bodies are zeros, which take no
// space on the disk, and returns the sequence number after its last.
func sparseSegment(t *testing.T, dir string, base uint64, n, size int) uint64 {
	t.Helper()
	path := filepath.Join(dir, segmentName(base))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(b []byte, at int64) {
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	write(segmentHeader(base, time.Now()), 0)
	body := make([]byte, size)
	var c contents
	at, now := int64(segmentHeaderSize), time.Now()
	// The checksum over the body is the same in all records, and slow.
	whole := appendRecord(nil, base, at, base+1, Block{Body: body, Items: 1000, Time: now})
	bodySum := binary.LittleEndian.Uint32(whole[40:])
	for i := range n {
		b := Block{Items: 1000, Time: now, Shard: uint32(i % 16)}
		head := appendRecord(nil, base, at, base+1+uint64(i), b)
		binary.LittleEndian.PutUint32(head[4:], uint32(size))
		binary.LittleEndian.PutUint32(head[40:], bodySum)
		binary.LittleEndian.PutUint32(head[44:], checksum(seed(base), head[:44]))
		write(head, at)
		r, ok := parseRecord(head, base, at, at+recordHeaderSize+int64(size))
		if !ok {
			t.Fatal("a record that was just made is not one")
		}
		c.add(r)
		at = r.end()
	}
	write(appendTrailer(nil, base, c), at)
	return base + 1 + uint64(n)
}

// counting accepts everything and counts it.
type counting struct{ bytes, requests atomic.Int64 }

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	n, err := io.Copy(io.Discard, r.Body)
	c.bytes.Add(n)
	c.requests.Add(1)
	return respond(200, ""), err
}

// R44, P21: ten gigabytes on disk are ready at once, and draining them holds in memory only
// what is on its way.
func TestTenGigabytesAreReadyAtOnceInLittleMemory(t *testing.T) {
	const perSegment, size = 85, 760 << 10
	dir := t.TempDir()
	total := int64(0)
	for next := uint64(1); total < 10<<30; total += perSegment * size {
		next = sparseSegment(t, dir, next, perSegment, size)
	}
	cfg := testConfig()
	cfg.MaxBytes = 20 * config.GiB
	c := &counting{}
	q := newQueue(t, cfg, dir, c)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	begin := time.Now()
	r := start(t, q)
	eventually(t, "the first block arrives", func() bool { return c.requests.Load() > 0 })
	took := time.Since(begin)
	restored := q.Status().Restored
	t.Logf("%d MiB in %d blocks: the first was delivered after %s", restored.Bytes>>20, restored.Blocks, took)
	if restored.Bytes != total || took > 2*time.Second {
		t.Errorf("%d bytes found after %s, want %d at once", restored.Bytes, took, total)
	}
	eventually(t, "some are delivered", func() bool { return c.bytes.Load() > 512<<20 })
	after := heap()
	for range 5 { // What was allocated during a collection counts as well.
		after = min(after, heap())
	}
	rate := float64(c.bytes.Load()) / time.Since(begin).Seconds() / (1 << 20)
	t.Logf("heap %d KiB before, %d KiB while draining at %.0f MiB/s", before>>10, after>>10, rate)
	if grown := int64(after) - int64(before); grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes, want at most what is in flight", grown)
	}
	balanced(t, q)
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	balanced(t, q)
}

// R36, R37: whatever is cut off or flipped, a start is quick, the blocks that are whole arrive in
// order, the others are counted, and what arrives is what was put.
func TestQueueOnDamagedSegmentSendsOnlyWhatIsWhole(t *testing.T) {
	t.Parallel()
	clean, ends := image(1, 6, 120, true)
	check := func(what string, file []byte, hit int) {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), file, 0o600); err != nil {
			t.Fatal(err)
		}
		got, s := drain(t, testConfig(), dir)
		want := 0
		for id := range ends {
			if id == hit || int64(len(file)) < ends[id] {
				continue
			}
			if want >= len(got) || got[want] != id {
				t.Fatalf("%s: sent %v, %d is missing", what, got, id)
			}
			want++
		}
		if len(got) != want || hit >= 0 && s.CorruptRecords != 1 || s.Disk.Blocks > 0 {
			t.Fatalf("%s: sent %v, %d corrupt, %d left", what, got, s.CorruptRecords, s.Disk.Blocks)
		}
	}
	for cut := 0; cut <= len(clean); cut += 3 {
		check(fmt.Sprintf("cut to %d", cut), clean[:cut], -1)
	}
	for i := range 1000 {
		bit := i * 7919 % (len(clean) * 8)
		file := append([]byte(nil), clean...)
		file[bit/8] ^= 1 << (bit % 8)
		hit := -1
		for id, end := range ends {
			if bit/8 >= segmentHeaderSize && int64(bit/8) < end {
				hit = id
				break
			}
		}
		check(fmt.Sprintf("bit %d flipped", bit), file, hit)
	}
}

// R41 the other way round: a file of the format before the first release is left alone.
func TestOlderSegmentIsSkippedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	file, _ := image(1, 3, 100, true)
	binary.LittleEndian.PutUint32(file[8:], segmentVersion-1)
	binary.LittleEndian.PutUint32(file[segmentHeaderSize-4:], checksum(file[:segmentHeaderSize-4]))
	path := filepath.Join(dir, segmentName(1))
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	got, s := drain(t, testConfig(), dir)
	if len(got) > 0 || s.SkippedFiles != 1 {
		t.Errorf("sent %v, %d files skipped, want none and 1", got, s.SkippedFiles)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is gone: %v", err)
	}
}

func TestCursorKeepsWhatIsSettledBehindIt(t *testing.T) {
	c := cursor{generation: 3, base: 7, off: 99}
	for i := range uint64(2 * maxSettled) {
		c.settled = append(c.settled, 100+3*i)
	}
	b := c.append(nil)
	got, ok := parseCursor(b)
	if !ok || len(b) > cursorDistance || len(got.settled) != maxSettled || got.settled[1] != 103 || got.off != 99 {
		t.Errorf("%d bytes with %d settled, want what fits", len(b), len(got.settled))
	}
	if maxAhead*2 > maxSettled {
		t.Errorf("the look-ahead of %d does not fit the cursor twice over a restart", maxAhead)
	}
	for i := range uint64(100) {
		c.begun = append(c.begun, begun{seq: 50 + i, items: 7, bytes: 1 << 30})
		c.refused = append(c.refused, refusal{format: byte(i), at: -5})
	}
	b = c.append(nil)
	got, ok = parseCursor(b)
	if !ok || len(b) > cursorDistance || got.settled[1] != 103 || got.begun[maxBegun-1] != c.begun[maxBegun-1] || got.refused[maxRefused-1] != c.refused[maxRefused-1] {
		t.Errorf("%d bytes, %+v, want what fits", len(b), got)
	}
	c = cursor{settled: []uint64{1, 1 << 40}}
	if got, ok := parseCursor(c.append(nil)); !ok || len(got.settled) != 1 {
		t.Errorf("settled %v, want what can be said", got.settled)
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{generation: 1, base: 2, off: 3}.append(nil))
	f.Add(cursor{generation: 1, base: 2, off: 3, settled: []uint64{5, 9, 4000}}.append(nil))
	f.Add(cursor{begun: []begun{{seq: 9, items: 2, bytes: 40}}, refused: []refusal{{format: 2, at: 1}}}.append(nil))
	f.Add([]byte(cursorMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseCursor(b)
		if !ok {
			return
		}
		if c.off < 0 || 4*len(c.settled)+12*len(c.begun)+12*len(c.refused) > len(b) {
			t.Fatalf("%+v from %d bytes", c, len(b))
		}
	})
}
