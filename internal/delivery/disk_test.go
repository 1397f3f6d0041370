package delivery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fill leaves the blocks from to to in a directory, as a stop without an endpoint does.
func fill(t *testing.T, cfg Config, dir string, from, to, size int) Status {
	t.Helper()
	var s Status
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, cfg, dir, b))
		synctest.Wait()
		put(t, q.Queue, from, to, size)
		synctest.Wait()
		s = q.shutdown()
	})
	return s
}

// drain runs a queue on a directory until it holds nothing and returns what was sent.
func drain(t *testing.T, cfg Config, dir string) ([]int, Status) {
	t.Helper()
	b := &backend{}
	var s Status
	synctest.Test(t, func(t *testing.T) {
		q := start(t, newQueue(t, cfg, dir, b))
		time.Sleep(time.Minute)
		synctest.Wait()
		s = q.shutdown()
	})
	return b.accepted(), s
}

// R2.
func TestQueueKeepsOrderAcrossRestart(t *testing.T) {
	dir := t.TempDir()
	for i := range 4 {
		if s := fill(t, testConfig(), dir, i*25, i*25+25, 2000); s.Disk.Blocks != int64(i*25+25) {
			t.Fatalf("run %d: %d blocks on disk, want %d", i, s.Disk.Blocks, i*25+25)
		}
	}
	got, s := drain(t, testConfig(), dir)
	if diff := cmp.Diff(numbers(0, 100), got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if s.Restored.Blocks != 100 || s.Sent.Blocks != 100 || s.CorruptRecords != 0 || s.SkippedFiles != 0 {
		t.Errorf("Status = %+v, want 100 restored and sent", s)
	}
	if got := segments(t, dir); len(got) > 0 {
		t.Errorf("segments at the end: %v, want none", got)
	}
	if got, _ := drain(t, testConfig(), dir); len(got) > 0 {
		t.Errorf("a further start sends %v again", got)
	}
	for _, name := range files(t, dir) {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v (%v), want 0600", name, info.Mode(), err)
		}
	}
}

// R11.
func TestRestartInTheMiddleOfDrainingRepeatsNothing(t *testing.T) {
	dir := t.TempDir()
	fill(t, testConfig(), dir, 0, 100, 2000)
	var sent []int
	for len(sent) < 100 {
		before := len(sent)
		synctest.Test(t, func(t *testing.T) {
			b := &backend{}
			b.set(func(r request) (*http.Response, error) {
				if len(b.accepted()) == 7 { // Then it is away, so that the stop does not drain.
					return refuse(r)
				}
				return respond(200, ""), nil
			})
			q := start(t, newQueue(t, testConfig(), dir, b))
			synctest.Wait() // The stop comes at once: it has to write the cursor itself.
			q.shutdown()
			sent = append(sent, b.accepted()...)
		})
		if len(sent) == before {
			t.Fatalf("no progress after %d blocks", before)
		}
	}
	if diff := cmp.Diff(numbers(0, 100), sent); diff != "" {
		t.Errorf("sent over all runs (-want +got):\n%s", diff)
	}
}

// R10.
func TestLiveBlocksComeAfterTheBacklog(t *testing.T) {
	dir := t.TempDir()
	fill(t, testConfig(), dir, 0, 50, 2000)
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(request) (*http.Response, error) {
			time.Sleep(50 * time.Millisecond)
			return respond(200, ""), nil
		})
		q := newQueue(t, testConfig(), dir, b)
		put(t, q, 50, 60, 100) // Before Run, as happens at a start.
		r := start(t, q)
		for id := 60; id < 100; id++ {
			put(t, q, id, id+1, 100)
			time.Sleep(70 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 100), b.accepted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if s := r.shutdown(); s.Disk.Blocks+s.Memory.Blocks != 0 {
			t.Errorf("Status = %+v, want everything sent", s)
		}
	})
}

// R9.
func TestCapDropsTheOldestAndCountsThem(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	cfg.MaxBytes = 1 << 20
	s := fill(t, cfg, dir, 0, 300, 10_000)
	if s.DiskBytes > 1<<20 {
		t.Errorf("%d bytes on disk, over the cap", s.DiskBytes)
	}
	var size int64
	for _, name := range files(t, dir) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 1<<20+2*cursorDistance {
		t.Errorf("the directory has %d bytes, over the cap", size)
	}
	kept := int(s.Disk.Blocks)
	if dropped := s.Dropped[dropQueueFull].Blocks; dropped+s.Disk.Blocks != 300 || kept < 90 {
		t.Errorf("%d dropped, %d kept, want together 300 and at least 90 kept", dropped, kept)
	}
	got, _ := drain(t, cfg, dir)
	if diff := cmp.Diff(numbers(300-kept, 300), got); diff != "" {
		t.Errorf("sent after the restart (-want +got), want the newest:\n%s", diff)
	}
}

func TestCapSparesTheBlockInFlight(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	cfg.MaxBytes = 1 << 20
	fill(t, cfg, dir, 0, 90, 10_000)
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			if r.id == 0 {
				time.Sleep(20 * time.Second)
			}
			return respond(200, ""), nil
		})
		q := start(t, newQueue(t, cfg, dir, b))
		synctest.Wait()
		var acked ledger
		for id := 90; id < 200; id++ {
			blk := block(id, 10_000)
			blk.Ack = func() { acked.add(id) }
			if err := q.Put(t.Context(), blk); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		s := balanced(t, q.Queue)
		if s.Dropped[dropQueueFull].Blocks < 90 || s.Disk.Blocks < 95 {
			t.Errorf("dropped %+v, %d left, want the cap used up", s.Dropped, s.Disk.Blocks)
		}
		if got := acked.all(); len(got) > 0 {
			t.Errorf("blocks %v acknowledged before the one in flight", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := b.accepted()
		want := append([]int{0}, numbers(200-len(got)+1, 200)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sent (-want +got), want the one in flight and the newest:\n%s", diff)
		}
		if diff := cmp.Diff(numbers(90, 200), acked.all()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		q.shutdown()
	})
}

func TestBlockInFlightIsNotAcknowledgedWhenItsSegmentIsDropped(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	cfg.MaxBytes = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(request) (*http.Response, error) {
			time.Sleep(20 * time.Second)
			return respond(503, "", "Retry-After", "60"), nil
		})
		q := start(t, newQueue(t, cfg, dir, b))
		var acked ledger
		for id := range 200 {
			blk := block(id, 10_000)
			blk.Ack = func() { acked.add(id) }
			if err := q.Put(t.Context(), blk); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		// 100 blocks fit under the cap, besides the one in flight and its segment's file.
		if s := balanced(t, q.Queue); s.Dropped[dropQueueFull].Blocks == 0 || s.Disk.Blocks < 102 || len(acked.all()) > 0 {
			t.Errorf("dropped %v, acknowledged %v, want some dropped and none acknowledged before block 0", s.Dropped, acked.all())
		}
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 200), acked.all()); diff != "" || b.accepted()[0] != 0 {
			t.Errorf("sent %v, acknowledged (-want +got):\n%s", b.accepted(), diff)
		}
		q.shutdown()
	})
}

func TestDeliveredSegmentThatComesBackIsNotSentAgain(t *testing.T) {
	dir := t.TempDir()
	fill(t, testConfig(), dir, 0, 10, 1000)
	path := segments(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, testConfig(), dir, 10, 20, 1000)
	drain(t, testConfig(), dir)
	fill(t, testConfig(), dir, 20, 30, 1000)
	if err := os.WriteFile(path, b, 0o600); err != nil { // As if it could not be removed.
		t.Fatal(err)
	}
	got, s := drain(t, testConfig(), dir)
	if diff := cmp.Diff(numbers(20, 30), got); diff != "" || s.Restored.Blocks != 10 {
		t.Errorf("%d restored, sent (-want +got):\n%s", s.Restored.Blocks, diff)
	}
	if got := segments(t, dir); len(got) > 0 {
		t.Errorf("segments: %v, want none", got)
	}
}

func TestBlocksOverTheAgeAreDropped(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, cfg, dir, b))
		synctest.Wait()
		var acked ledger
		for id := range 10 {
			blk := block(id, 100)
			blk.Ack = func() { acked.add(id) }
			if err := q.Put(t.Context(), blk); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(24 * time.Hour)
		put(t, q.Queue, 10, 20, 100)
		time.Sleep(24*time.Hour + 2*time.Minute) // The first ten go one by one, when their turn comes.
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Dropped[dropTooOld].Blocks != 10 || s.Disk.Blocks != 10 {
			t.Errorf("dropped %v, %d left, want ten of each", s.Dropped, s.Disk.Blocks)
		}
		if diff := cmp.Diff(numbers(0, 10), acked.all()); diff != "" {
			t.Errorf("acknowledged (-want +got):\n%s", diff)
		}
		time.Sleep(24 * time.Hour) // The rest goes as a segment.
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Dropped[dropTooOld].Blocks != 20 || s.OldestAgeSeconds != 0 {
			t.Errorf("dropped %v, oldest %f s, want all", s.Dropped, s.OldestAgeSeconds)
		}
		if got := segments(t, dir); len(got) > 0 {
			t.Errorf("segments: %v, want none", got)
		}
		q.shutdown()
	})
}

func TestAgeSparesYoungerSegmentsWhileABlockIsInFlight(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig()
	cfg.MaxBytes = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(request) (*http.Response, error) { // It hangs, so that a block is in flight nearly always.
			time.Sleep(29 * time.Minute)
			return respond(503, ""), nil
		})
		q := newQueue(t, cfg, dir, b)
		q.ep.Timeout = time.Hour
		r := start(t, q)
		synctest.Wait()
		put(t, q, 0, 6, 10_000) // They fill a segment.
		time.Sleep(24 * time.Hour)
		put(t, q, 6, 60, 10_000) // And these nine more.
		for range 26 * 60 {
			time.Sleep(time.Minute)
			synctest.Wait()
			if s := balanced(t, q); s.Disk.Blocks < 54 {
				t.Errorf("after %s: dropped %v, %d left, want no more than the first six dropped", time.Since(q.begun), s.Dropped, s.Disk.Blocks)
				break
			}
		}
		if s := balanced(t, q); s.Dropped[dropTooOld].Blocks != 6 {
			t.Errorf("dropped %v, want the first six", s.Dropped)
		}
		r.shutdown()
	})
}

// R40.
func TestSecondProcessGetsAClearError(t *testing.T) {
	dir := t.TempDir()
	first := start(t, newQueue(t, testConfig(), dir, &backend{}))
	eventually(t, "the first queue opens", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.diskReady
	})
	err := newQueue(t, testConfig(), dir, &backend{}).Run(t.Context())
	if !errors.Is(err, errInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Run of a second queue = %v, want errInUse with the directory", err)
	}
	first.shutdown()
	third := start(t, newQueue(t, testConfig(), dir, &backend{}))
	third.shutdown()
}

// R38, R41.
func TestForeignDamagedAndNewerFilesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	fill(t, testConfig(), dir, 0, 10, 1000)
	fill(t, testConfig(), dir, 10, 20, 1000)
	segs := segments(t, dir)
	if len(segs) != 2 {
		t.Fatalf("segments: %v, want 2", segs)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := segmentHeader(999, time.Now())
	binary.LittleEndian.PutUint32(newer[8:], segmentVersion+1)
	binary.LittleEndian.PutUint32(newer[segmentHeaderSize-4:], checksum(newer[:segmentHeaderSize-4]))
	newer = append(newer, "what only the future understands"...)
	kept := []string{
		write("notes.txt", []byte("hello")),
		write("1.seg", nil),
		write("99999999999999999999.seg", []byte("x")), // More than 64 bits.
		write(segmentName(5), []byte(strings.Repeat("not a segment ", 100))),
		write(segmentName(999), newer),
	}
	write(segmentName(6), nil)
	if err := os.Mkdir(filepath.Join(dir, segmentName(7)), 0o700); err != nil {
		t.Fatal(err)
	}
	got, s := drain(t, testConfig(), dir)
	if diff := cmp.Diff(numbers(0, 20), got); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if s.SkippedFiles != 6 {
		t.Errorf("%d files skipped, want 6", s.SkippedFiles)
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a file that is not ours is gone: %v", err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, segmentName(999))); err != nil || string(b) != string(newer) {
		t.Errorf("the newer file was changed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, segmentName(6))); !isGone(err) {
		t.Errorf("the empty segment is still there: %v", err)
	}
}

// R38, R35: a segment that cannot be read at a start blocks nothing, and is sent when a later
// start can read it, though the cursor has gone past it.
func TestUnreadableSegmentIsSentWhenItCanBeReadAgain(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		fill(t, testConfig(), dir, i*10, i*10+10, 1000)
	}
	path := segments(t, dir)[1]
	if err := errors.Join(os.Rename(path, path+".away"), os.Symlink(path, path)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // The second start has nothing to send, and remembers too.
		got, s := drain(t, testConfig(), dir)
		if s.SkippedFiles != 2 || len(got) > 0 && !slices.Equal(got, append(numbers(0, 10), numbers(20, 30)...)) {
			t.Errorf("sent %v, %d files skipped, want all but one segment, and 2", got, s.SkippedFiles)
		}
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	if got, _ := drain(t, testConfig(), dir); !slices.Equal(got, numbers(10, 20)) {
		t.Errorf("sent %v, want the segment that could not be read", got)
	}
	if got, _ := drain(t, testConfig(), dir); len(got) > 0 {
		t.Errorf("sent %v again", got)
	}
}

// R39: a cursor that cannot be read now is no lost cursor.
func TestCursorThatCannotBeReadIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	fill(t, testConfig(), dir, 0, 10, 1000)
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			if r.id == 5 {
				return refuse(r)
			}
			return respond(200, ""), nil
		})
		q := start(t, newQueue(t, testConfig(), dir, b))
		time.Sleep(2 * time.Second)
		q.shutdown()
	})
	path := filepath.Join(dir, cursorName)
	if err := errors.Join(os.Rename(path, dir+".cursor"), os.Symlink(path, path)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		q := start(t, newQueue(t, testConfig(), dir, b))
		put(t, q.Queue, 10, 11, 1000)
		time.Sleep(time.Second)
		if s := balanced(t, q.Queue); s.State != StateDegraded || !slices.Equal(b.accepted(), []int{10}) {
			t.Errorf("%+v, sent %v, want degraded and what is new", s, b.accepted())
		}
		if err := os.Rename(dir+".cursor", path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.accepted(); !slices.Equal(got, append([]int{10}, numbers(5, 10)...)) {
			t.Errorf("sent %v, want what was left and nothing again", got)
		}
		q.shutdown()
	})
}

// R7: a queue that a reboot loses says so.
func TestDirectoryInMemoryIsWarnedOf(t *testing.T) {
	for parent, warned := range map[string]bool{"/dev/shm": true, t.TempDir(): false} {
		dir, err := os.MkdirTemp(parent, "ingot-test") //nolint:usetesting // It has to be on that file system.
		if err != nil {
			t.Skipf("make a directory: %v", err)
		}
		defer os.RemoveAll(dir)
		probe, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		known := inMemory(probe)
		probe.Close()
		if known != warned {
			t.Skipf("%s is not what this test takes it for", parent)
		}
		synctest.Test(t, func(t *testing.T) {
			var said bytes.Buffer
			q := New(testConfig(), filepath.Join(dir, "queue"), slog.New(slog.NewTextHandler(&said, nil)), newTestMetrics(), Endpoint{Name: "test", URL: "http://backend.test/"})
			r := start(t, q)
			time.Sleep(time.Second)
			r.shutdown()
			if got := strings.Contains(said.String(), "a reboot loses"); got != warned {
				t.Errorf("a queue in %s: warned is %v, want %v", dir, got, warned)
			}
		})
	}
}

// R38.
func TestMissingSegmentAndGapDoNotBlock(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		fill(t, testConfig(), dir, i*10, i*10+10, 1000)
	}
	if err := os.Remove(segments(t, dir)[1]); err != nil {
		t.Fatal(err)
	}
	got, s := drain(t, testConfig(), dir)
	want := append(numbers(0, 10), numbers(20, 30)...)
	if diff := cmp.Diff(want, got); diff != "" || s.Restored.Blocks != 20 {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
}

// R38: what somebody has emptied is seen, and so is the segment that delivery was in when it is
// gone. The others' numbers have gaps anyhow.
func TestEmptiedAndRemovedSegmentsAreCountedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		hurt func(path string) error
		at   int
		want int64
	}{
		"emptied":        {hurt: func(path string) error { return os.Truncate(path, 0) }, at: 1, want: 1},
		"emptied first":  {hurt: func(path string) error { return os.Truncate(path, 0) }, at: 0, want: 1},
		"emptied last":   {hurt: func(path string) error { return os.Truncate(path, 0) }, at: 2, want: 0},
		"removed first":  {hurt: os.Remove, at: 0, want: 1},
		"removed second": {hurt: os.Remove, at: 1, want: 0},
		"none":           {hurt: func(string) error { return nil }, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for i := range 3 {
				fill(t, testConfig(), dir, i*10, i*10+10, 1000)
			}
			if err := c.hurt(segments(t, dir)[c.at]); err != nil {
				t.Fatal(err)
			}
			if got, s := drain(t, testConfig(), dir); s.SkippedFiles != c.want || !slices.Contains(got, 5+10*((c.at+1)%2)) {
				t.Errorf("sent %v, %d files skipped, want what is left and %d", got, s.SkippedFiles, c.want)
			}
			if got, s := drain(t, testConfig(), dir); s.SkippedFiles != 0 || len(got) > 0 {
				t.Errorf("the next start: sent %v, %d files skipped, want nothing", got, s.SkippedFiles)
			}
		})
	}
}

// R39.
func TestLostCursorRepeatsButLosesNothing(t *testing.T) {
	dir := t.TempDir()
	fill(t, testConfig(), dir, 0, 20, 1000)
	synctest.Test(t, func(t *testing.T) { // Deliver a few, so that there is a cursor.
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			if r.id == 5 {
				return refuse(r)
			}
			time.Sleep(150 * time.Millisecond) // More than one write of the cursor.
			return respond(200, ""), nil
		})
		q := start(t, newQueue(t, testConfig(), dir, b))
		time.Sleep(2 * time.Second)
		q.shutdown()
	})
	path := filepath.Join(dir, cursorName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	older, newer := b[:cursorDistance], b[cursorDistance:]
	for _, slot := range [][]byte{older, newer} {
		if _, ok := parseCursor(slot); !ok {
			t.Errorf("slot %x is not a cursor: both are to be used in turn", slot)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, _ := drain(t, testConfig(), dir); !slices.Equal(got, numbers(0, 20)) {
		t.Errorf("sent %v, want all 20 from the oldest on", got)
	}
}

// R37.
func TestDamageOnDiskLosesOnlyWhatItHits(t *testing.T) {
	for name, offset := range map[string]int64{"header": 5, "body": recordHeaderSize + 9} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, testConfig(), dir, 0, 10, 1000)
			path := segments(t, dir)[0]
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{0xff, 0xff}, segmentHeaderSize+3*(recordHeaderSize+1000)+offset); err != nil {
				t.Fatal(err)
			}
			f.Close()
			got, s := drain(t, testConfig(), dir)
			want := append(numbers(0, 3), numbers(4, 10)...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if lost := s.Dropped[dropCorrupt]; s.CorruptRecords != 1 || lost.Blocks != 1 || lost.Items != 4 {
				t.Errorf("%d corrupt, dropped %+v, want one block with 4 items", s.CorruptRecords, s.Dropped)
			}
		})
	}
}

func TestDamagedHeaderIsCountedWhereverReadingBegins(t *testing.T) {
	for _, finished := range []bool{true, false} {
		for _, delivered := range []int{0, 2} {
			dir := t.TempDir()
			file, ends := image(7, 10, 1000, finished)
			file[ends[4]+5] ^= 0xff // In the header of the sixth record.
			if err := os.WriteFile(filepath.Join(dir, segmentName(7)), file, 0o600); err != nil {
				t.Fatal(err)
			}
			if delivered > 0 {
				at := cursor{generation: 1, base: 7, off: ends[delivered-1]}
				slots := make([]byte, cursorDistance) // The first slot is empty.
				if err := os.WriteFile(filepath.Join(dir, cursorName), at.append(slots), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, s := drain(t, testConfig(), dir)
			want := append(numbers(delivered, 5), numbers(6, 10)...)
			if diff := cmp.Diff(want, got); diff != "" || s.CorruptRecords != 1 {
				t.Errorf("finished %v, first %d delivered: %d damaged, want 1; sent (-want +got):\n%s", finished, delivered, s.CorruptRecords, diff)
			}
		}
	}
}

func TestSegmentThatVanishesWhileRunningIsCounted(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		fill(t, testConfig(), dir, i*10, i*10+10, 1000)
	}
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, testConfig(), dir, b))
		synctest.Wait()
		if err := os.Remove(segments(t, dir)[1]); err != nil {
			t.Fatal(err)
		}
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		s := q.shutdown()
		want := append(numbers(0, 10), numbers(20, 30)...)
		if diff := cmp.Diff(want, b.accepted()); diff != "" || s.Dropped[dropCorrupt].Blocks != 10 {
			t.Errorf("dropped %v, sent (-want +got):\n%s", s.Dropped, diff)
		}
	})
}
