package delivery

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	whole := appendRecord(nil, base, at, base+1, Block{Body: NewBody(nil, body), Items: 1000, Time: now})
	bodySum := binary.LittleEndian.Uint32(whole[40:])
	for i := range n {
		b := Block{Body: NewBody(nil), Items: 1000, Time: now, Shard: uint32(i % 16)}
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
	eventually(t, "some are delivered", func() bool { return c.bytes.Load() > 128<<20 })
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

// R8, P21: ten minutes without the endpoint, and the catching up, hold next to nothing in
// memory but what is on its way.
func TestOutageHoldsNoBodiesInMemory(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &counting{}
		away := true
		q := newQueue(t, testConfig(), dir, roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := c.RoundTrip(r)
			time.Sleep(50 * time.Millisecond)
			if away {
				return respond(503, ""), nil
			}
			return resp, err
		}))
		q.cfg.MaxBytes = config.GiB
		q.files.sync = func(*os.File) error { return nil }
		r := start(t, q)
		step := func(n int) (heap int64) {
			for i := range n {
				if err := q.Put(t.Context(), Block{Body: NewBody(nil, make([]byte, 200<<10)), Items: 5000, Shard: uint32(i % 4)}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(250 * time.Millisecond)
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before := step(10)
		highest := step(10 * 60 * 4)
		if onDisk := balanced(t, q).Disk.Bytes; onDisk < 400<<20 {
			t.Errorf("%d bytes on disk, want all of the outage", onDisk)
		}
		away = false
		for q.Status().Disk.Blocks > 0 {
			highest = max(highest, step(10))
		}
		t.Logf("heap %d KiB before, at most %d KiB later", before>>10, highest>>10)
		if highest-before > 3<<20 {
			t.Errorf("the heap has grown by %d bytes, want at most 3 MiB", highest-before)
		}
		r.shutdown()
	})
}

type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

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

// R41 the other way round: the queue of a version before the first release is left alone, said
// so, and does not disturb what comes.
func TestOlderQueueIsSkippedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	file, _ := image(700, 3, 100, true)
	binary.LittleEndian.PutUint32(file[8:], segmentVersion-1)
	binary.LittleEndian.PutUint32(file[segmentHeaderSize-4:], checksum(file[:segmentHeaderSize-4]))
	older := map[string][]byte{segmentName(700): file, "cursor": make([]byte, 8192), "cursor-2": make([]byte, 8192)}
	for name, content := range older {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for life := range 3 {
		synctest.Test(t, func(t *testing.T) {
			var said bytes.Buffer
			b := &backend{}
			if life == 0 {
				b.set(refuse)
			}
			q := New(testConfig(), dir, slog.New(slog.NewTextHandler(&said, nil)), newTestMetrics(), Endpoint{
				Name: "test", URL: "http://backend.test/", Client: &http.Client{Transport: b},
			})
			r := start(t, q)
			if life == 0 {
				put(t, q, 0, 5, 1000)
			}
			time.Sleep(time.Minute)
			s := r.shutdown()
			if got := b.accepted(); s.SkippedFiles != 3 || s.CorruptRecords > 0 || len(got) > 0 != (life == 1) || life == 1 && !slices.Equal(got, numbers(0, 5)) {
				t.Errorf("life %d: sent %v, %+v, want the new blocks once and 3 files skipped", life, got, s)
			}
			for _, words := range []string{segmentName(700) + ": " + errOlder.Error(), "cursor: " + errCursor.Error(), "cursor-2: " + errCursor.Error()} {
				if !strings.Contains(said.String(), words) {
					t.Errorf("the log is %q, want it to say %q", &said, words)
				}
			}
		})
	}
	for name, content := range older {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s has changed: %v", name, err)
		}
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
		c.skipped = append(c.skipped, 1<<50+i)
	}
	b = c.append(nil)
	got, ok = parseCursor(b)
	if !ok || len(b) > cursorDistance || got.settled[1] != 103 || got.begun[maxBegun-1] != c.begun[maxBegun-1] || got.refused[maxRefused-1] != c.refused[maxRefused-1] ||
		got.skipped[maxSkipped-1] != c.skipped[maxSkipped-1] {
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
	f.Add(cursor{begun: []begun{{seq: 9, items: 2, bytes: 40}}, refused: []refusal{{format: 2, at: 1}}, skipped: []uint64{3}}.append(nil))
	f.Add([]byte(cursorMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parseCursor(b)
		if !ok {
			return
		}
		if c.off < 0 || 4*len(c.settled)+12*len(c.begun)+12*len(c.refused)+8*len(c.skipped) > len(b) {
			t.Fatalf("%+v from %d bytes", c, len(b))
		}
	})
}
