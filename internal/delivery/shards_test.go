package delivery

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// strict is an endpoint that refuses disorder: an item of a shard that comes after a higher
// one, or while another request for the shard is on its way, is a failure of the test. Items
// are numbered through in each shard, as lineCodec and ordered have it. Repeats are allowed
// after lost answers only.
type strict struct {
	t       *testing.T
	weather func(ids []int) *http.Response // nil accepts; it is called without a lock

	mu      sync.Mutex
	last    map[int]int
	busy    map[int]bool
	got     map[int]int // how often each item was accepted
	most    int         // requests at a time
	now     int
	lenient bool // repeats are allowed: the process has died
}

const shardWidth = 1_000_000

func newStrict(t *testing.T) *strict {
	t.Helper()
	return &strict{t: t, last: map[int]int{}, busy: map[int]bool{}, got: map[int]int{}}
}

func (b *strict) answer(_ byte, ids []int) *http.Response {
	shard := ids[0] / shardWidth
	b.mu.Lock()
	if b.busy[shard] {
		b.t.Errorf("two requests for shard %d at a time", shard)
	}
	b.busy[shard] = true
	b.now++
	b.most = max(b.most, b.now)
	weather := b.weather
	b.mu.Unlock()
	var resp *http.Response
	if weather != nil {
		resp = weather(ids)
	} else {
		resp = respond(200, "")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy[shard] = false
	b.now--
	if resp == nil || resp.StatusCode/100 != 2 {
		return resp
	}
	for _, id := range ids {
		if last, ok := b.last[shard]; ok && id <= last && (!b.lenient || b.got[id] == 0) {
			b.t.Errorf("shard %d: item %d after %d", shard, id%shardWidth, last%shardWidth)
		}
		b.last[shard] = max(b.last[shard], id)
		b.got[id]++
	}
	return resp
}

func (b *strict) set(weather func(ids []int) *http.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.weather = weather
}

// peak returns the most requests at a time since the last call.
func (b *strict) peak() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	most := b.most
	b.most = 0
	return most
}

func (b *strict) accepted() map[int]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.got)
}

// source puts numbered items into shards.
type source struct {
	next []int
	rnd  *rand.Rand
}

func newSource(shards int, seed uint64) *source {
	return &source{next: make([]int, shards), rnd: rand.New(rand.NewPCG(seed, 77))}
}

func (s *source) put(t *testing.T, q *Queue) (ids []int) {
	t.Helper()
	shard := s.rnd.IntN(len(s.next))
	first := shard*shardWidth + s.next[shard]
	n := 1 + s.rnd.IntN(6)
	s.next[shard] += n
	putLines(t, q, uint32(shard), 1, numbers(first, first+n)...)
	return numbers(first, first+n)
}

func (s *source) total() (n int) {
	for _, next := range s.next {
		n += next
	}
	return n
}

// R29, R30, R12: six shards, random delays and failures, memory and disk in turn, stops and
// starts, against a receiver that refuses disorder.
func TestShardsKeepTheirOrder(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { shardsInOrder(t, seed, dir) })
		})
	}
}

func shardsInOrder(t *testing.T, seed uint64, dir string) {
	t.Helper()
	b := newStrict(t)
	var mu sync.Mutex // guards rnd
	rnd := rand.New(rand.NewPCG(seed, 5))
	roll := func(n int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) }
	weather := func(ids []int) *http.Response {
		time.Sleep(time.Duration(roll(400)) * time.Millisecond)
		switch roll(20) {
		case 0:
			return respond(503, "")
		case 1:
			return respond(429, "", "Retry-After", "1")
		case 2:
			return nil
		case 3:
			if len(ids) > 2 {
				return respond(413, "")
			}
		}
		return respond(200, "")
	}
	src := newSource(6, seed)
	for life := range 4 {
		b.set(weather)
		q := lineQueue(t, dir, &lineBackend{answer: b.answer})
		q.files.sync = func(*os.File) error { return nil }
		if seed%2 == 1 {
			q.cfg.Durability = Always
		}
		r := start(t, q)
		synctest.Wait()
		for range 400 {
			src.put(t, q)
			time.Sleep(time.Duration(roll(60)) * time.Millisecond)
			balanced(t, q)
			if roll(100) == 0 {
				b.set(func([]int) *http.Response { return respond(503, "") })
				time.Sleep(time.Duration(roll(3000)) * time.Millisecond)
				b.set(weather)
			}
		}
		if life == 3 {
			b.set(nil)
			time.Sleep(5 * time.Minute)
			synctest.Wait()
		} else {
			b.set(func([]int) *http.Response {
				time.Sleep(time.Duration(roll(100)) * time.Millisecond)
				return respond(200, "")
			})
			time.Sleep(time.Duration(roll(2000)) * time.Millisecond)
			b.set(func([]int) *http.Response { return respond(503, "") })
			time.Sleep(2 * time.Second)
			b.mu.Lock()
			b.lenient = true
			b.mu.Unlock()
		}
		r.shutdown()
	}
	if got := len(b.accepted()); got != src.total() {
		t.Errorf("%d items arrived, %d were put", got, src.total())
	}
	repeats := 0
	for _, n := range b.accepted() {
		repeats += n - 1
	}
	if repeats > 0 {
		t.Errorf("%d items repeated, want none after clean stops", repeats)
	}
	if b.peak() < 2 {
		t.Error("never two requests at a time: the test shows nothing")
	}
}

// R10, R14, R30: the parallelism grows with the lag while requests succeed, halves when the
// endpoint asks for less, and does not grow while it does.
func TestParallelismFollowsTheEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newStrict(t)
		b.set(func([]int) *http.Response { time.Sleep(100 * time.Millisecond); return respond(200, "") })
		q := lineQueue(t, "", &lineBackend{answer: b.answer})
		r := start(t, q)
		src := newSource(64, 1)
		for range 20 { // One at a time is enough for this.
			src.put(t, q)
			time.Sleep(200 * time.Millisecond)
		}
		if s, most := q.Status(), b.peak(); s.Parallelism != 1 || most != 1 {
			t.Errorf("parallelism %d, %d at a time, want 1 while it keeps up", s.Parallelism, most)
		}
		load := func(n int) {
			for range n {
				src.put(t, q)
			}
		}
		load(300)
		time.Sleep(3*time.Second + 50*time.Millisecond) // In the middle of a request.
		if s, most := q.Status(), b.peak(); s.Parallelism != 8 || s.InFlight.Blocks != 8 || most != 8 {
			t.Errorf("parallelism %d, %d at a time, want 8 with a lag", s.Parallelism, most)
		}
		b.set(func([]int) *http.Response { return respond(429, "", "Retry-After", "2") })
		time.Sleep(time.Second)
		if s := q.Status(); s.Parallelism != 4 || s.InFlight.Blocks != 0 {
			t.Errorf("parallelism %d, %d in flight, want it halved once and nothing sent", s.Parallelism, s.InFlight.Blocks)
		}
		b.peak()
		time.Sleep(time.Hour)
		if s, most := balanced(t, q), b.peak(); s.Parallelism != 1 || most != 1 || len(s.Dropped) > 0 {
			t.Errorf("after an hour of 429: parallelism %d, %d at a time, dropped %v, want 1 and nothing", s.Parallelism, most, s.Dropped)
		}
		b.set(func([]int) *http.Response { time.Sleep(100 * time.Millisecond); return respond(200, "") })
		load(300)
		time.Sleep(5 * time.Second)
		if s := q.Status(); s.Parallelism < 2 || s.Parallelism > 7 {
			t.Errorf("parallelism %d, want it to grow back slowly", s.Parallelism)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := len(b.accepted()); got != src.total() {
			t.Errorf("%d items arrived, %d were put", got, src.total())
		}
		r.shutdown()
	})
}

// R25: a shard whose request hangs does not hold up the others.
func TestHangingRequestHoldsUpItsShardOnly(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newStrict(t)
		hang := make(chan struct{})
		b.set(func(ids []int) *http.Response {
			if ids[0]/shardWidth == 0 {
				<-hang
			}
			return respond(200, "")
		})
		q := lineQueue(t, dir, &lineBackend{answer: b.answer})
		r := start(t, q)
		for i := range 50 {
			putLines(t, q, 0, 1, i)
			putLines(t, q, 1, 1, shardWidth+i)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := len(b.accepted()); got != 50 {
			t.Errorf("%d items arrived, want the 50 of the other shard", got)
		}
		if s := balanced(t, q); s.Disk.Blocks != 50 {
			t.Errorf("%d blocks on disk, want those of the shard that hangs", s.Disk.Blocks)
		}
		close(hang)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(b.accepted()); got != 100 {
			t.Errorf("%d items arrived, want all", got)
		}
		r.shutdown()
	})
}

// The look-ahead is bounded, and what was delivered in it is not sent again after a kill.
func TestKillBehindAHangingShardRepeatsOnlyWhatWasInFlight(t *testing.T) {
	const blocks = 2 * maxAhead
	dir := t.TempDir()
	copied := filepath.Join(t.TempDir(), "copy")
	b := newStrict(t)
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		b.set(func(ids []int) *http.Response {
			if ids[0]/shardWidth == 0 {
				<-hang
			}
			return respond(200, "")
		})
		q := lineQueue(t, dir, &lineBackend{answer: b.answer})
		q.cfg.Durability = Always
		r := start(t, q)
		for i := range blocks {
			putLines(t, q, uint32(i%5), 1, i%5*shardWidth+i)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		q.mu.Lock()
		ahead := len(q.window.entries)
		q.mu.Unlock()
		if ahead > maxAhead || len(b.accepted()) < maxAhead/2 {
			t.Errorf("%d blocks in the window, %d delivered, want at most %d and many", ahead, len(b.accepted()), maxAhead)
		}
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		close(hang)
		time.Sleep(time.Minute)
		r.shutdown()
	})
	before := len(b.accepted())
	b = newStrict(t)
	synctest.Test(t, func(t *testing.T) {
		r := start(t, lineQueue(t, copied, &lineBackend{answer: b.answer}))
		time.Sleep(time.Minute)
		synctest.Wait()
		s := r.shutdown()
		if s.Restored != s.Sent || s.CorruptRecords > 0 {
			t.Errorf("Status = %+v, want all that was restored sent", s)
		}
	})
	got := b.accepted()
	for i := range blocks / 5 {
		if got[5*i] != 1 {
			t.Errorf("item %d of the hanging shard arrived %d times after the kill, want once", 5*i, got[5*i])
		}
	}
	// Most others were in the look-ahead, delivered, and are noted in the cursor.
	if want := blocks - (maxAhead - maxAhead/5); len(got) > want+8 || before != blocks {
		t.Errorf("%d items sent after the kill, want about %d; %d in the first life", len(got), want, before)
	}
}

// Kill between any two disk operations: nothing that Put has promised is lost, order holds,
// and little is repeated.
func TestKillBetweenAnyTwoDiskOperations(t *testing.T) {
	t.Parallel()
	type image struct {
		dir      string
		promised []int
		accepted map[int]int
	}
	dir, copies := t.TempDir(), t.TempDir()
	var images []image
	var promised []int
	var mu sync.Mutex // guards both
	synctest.Test(t, func(t *testing.T) {
		b := newStrict(t)
		rnd := rand.New(rand.NewPCG(9, 9))
		b.set(func([]int) *http.Response {
			mu.Lock()
			n := rnd.IntN(40)
			mu.Unlock()
			time.Sleep(time.Duration(n) * time.Millisecond)
			if n == 0 {
				return respond(503, "")
			}
			return respond(200, "")
		})
		q := lineQueue(t, dir, &lineBackend{answer: b.answer})
		q.cfg.Durability, q.cfg.MaxBytes = Always, 16*minSegmentBytes
		snapshot := func() {
			mu.Lock()
			defer mu.Unlock()
			if len(images) >= 400 {
				return
			}
			at := filepath.Join(copies, fmt.Sprint(len(images)))
			// What was accepted is read first, what is promised was so before the copy.
			im := image{dir: at, promised: slices.Clone(promised), accepted: b.accepted()}
			if err := os.CopyFS(at, os.DirFS(dir)); err != nil {
				t.Error(err)
			}
			images = append(images, im)
		}
		q.files.writeAt = func(f *os.File, p []byte, at int64) (int, error) {
			snapshot() // Between the operations, and in the middle of one.
			if len(images)%3 == 0 {
				if n, err := f.WriteAt(p[:len(p)/2], at); err != nil {
					return n, err
				}
				snapshot()
			}
			return f.WriteAt(p, at)
		}
		q.files.sync = func(*os.File) error { snapshot(); return nil }
		r := start(t, q)
		src := newSource(5, 9)
		for range 250 {
			ids := src.put(t, q)
			mu.Lock()
			promised = append(promised, ids...)
			mu.Unlock()
		}
		time.Sleep(time.Minute)
		r.shutdown()
	})
	if len(images) < 300 {
		t.Fatalf("only %d images", len(images))
	}
	worst := 0
	for i, im := range images {
		b := newStrict(t)
		synctest.Test(t, func(t *testing.T) {
			q := lineQueue(t, im.dir, &lineBackend{answer: b.answer})
			q.files.sync = func(*os.File) error { return nil }
			r := start(t, q)
			time.Sleep(time.Second)
			synctest.Wait()
			if s := r.shutdown(); s.Disk.Blocks > 0 || s.CorruptRecords > 1 || s.SkippedFiles > 0 {
				t.Errorf("image %d: %+v, want everything sent", i, s)
			}
		})
		got := b.accepted()
		repeated := 0
		for _, id := range im.promised {
			if got[id] == 0 && im.accepted[id] == 0 {
				t.Errorf("image %d: item %d was on disk and is lost", i, id)
			}
			if got[id] > 0 && im.accepted[id] > 0 {
				repeated++
			}
		}
		worst = max(worst, repeated)
	}
	t.Logf("%d images, at most %d items repeated", len(images), worst)
	if worst > 2*8*6 { // Two rounds of eight blocks of up to six items.
		t.Errorf("%d items repeated after one kill", worst)
	}
}

// R27: an endpoint that is dead does not touch another one.
func TestDeadEndpointDoesNotTouchAnother(t *testing.T) {
	dirs := [2]string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		dead, alive := &backend{}, &backend{}
		dead.set(func(r request) (*http.Response, error) { <-r.ctx.Done(); return nil, r.ctx.Err() })
		one, two := start(t, newQueue(t, testConfig(), dirs[0], dead)), start(t, newQueue(t, testConfig(), dirs[1], alive))
		synctest.Wait()
		for id := range 100 {
			begin := time.Now()
			put(t, one.Queue, id, id+1, 1000)
			put(t, two.Queue, id, id+1, 1000)
			synctest.Wait()
			if took := time.Since(begin); took != 0 || len(alive.accepted()) != id+1 {
				t.Fatalf("block %d took %s, %d have arrived", id, took, len(alive.accepted()))
			}
			time.Sleep(time.Second)
		}
		one.shutdown()
		two.shutdown()
	})
}

// R8, R10, R28: a day without the endpoint. Nothing is lost, memory holds nothing but what is on
// its way, and the backlog drains at more than five times real time while new blocks come.
func TestDayOfOutageDrainsInOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newStrict(t)
		b.set(func([]int) *http.Response { return nil })
		q := lineQueue(t, dir, &lineBackend{answer: b.answer})
		q.files.sync = func(*os.File) error { return nil }
		r := start(t, q)
		synctest.Wait()
		src := newSource(16, 3)
		const every = 10 * time.Second
		for range 24 * time.Hour / every {
			src.put(t, q)
			time.Sleep(every)
			if s := q.Status(); s.Memory.Blocks > 1 {
				t.Fatalf("%d blocks in memory during the outage", s.Memory.Blocks)
			}
		}
		b.set(func([]int) *http.Response { time.Sleep(2 * time.Second); return respond(200, "") })
		begin, put := time.Now(), 0
		for q.Status().Disk.Blocks > 8 {
			src.put(t, q)
			time.Sleep(every)
			if put++; put > 20_000 {
				t.Fatal("the backlog does not drain")
			}
		}
		speed := (24*time.Hour + time.Since(begin)).Seconds() / time.Since(begin).Seconds()
		t.Logf("drained in %s, %.0f times real time", time.Since(begin), speed)
		if speed < 5 {
			t.Errorf("drained at %.1f times real time, want 5", speed)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := len(b.accepted()); got != src.total() {
			t.Errorf("%d items arrived, %d were put", got, src.total())
		}
		if s := r.shutdown(); len(s.Dropped) > 0 || s.Retries < 1000 {
			t.Errorf("Status = %+v, want nothing dropped and a try each minute", s)
		}
	})
}

// Blocks that are all on their way are no backlog: a new one does not go to disk for them.
func TestHealthyQueueLeavesTheDiskAlone(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newStrict(t)
		b.set(func(ids []int) *http.Response {
			if ids[0] == 0 {
				time.Sleep(time.Second) // This one goes to disk.
			} else {
				time.Sleep(100 * time.Millisecond)
			}
			return respond(200, "")
		})
		q := lineQueue(t, dir, &lineBackend{answer: b.answer})
		r := start(t, q)
		synctest.Wait()
		q.mu.Lock()
		q.limit = 8
		q.mu.Unlock()
		putLines(t, q, 0, 1, 0)
		time.Sleep(600 * time.Millisecond)
		for i := range 100 {
			putLines(t, q, uint32(i%7+1), 1, (i%7+1)*shardWidth+i)
			time.Sleep(20 * time.Millisecond)
			if s := q.Status(); s.Disk.Blocks > 1 || s.Memory.Blocks > 8 {
				t.Fatalf("%d blocks on disk, %d in memory, want only what is on its way", s.Disk.Blocks, s.Memory.Blocks)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := r.shutdown(); s.Sent.Blocks != 101 || s.Memory != (Amount{}) {
			t.Errorf("Status = %+v, want everything sent", s)
		}
	})
}

// Blocks that were settled in memory while an older one was not are noted in the cursor, too;
// their numbers must not be given to other blocks after a restart.
func TestNumbersOfSettledBlocksAreNotUsedAgain(t *testing.T) {
	dir := t.TempDir()
	b := newStrict(t)
	total := 0
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			b.set(func(ids []int) *http.Response {
				if ids[0]/shardWidth == 0 {
					time.Sleep(20 * time.Second)
					return nil
				}
				return respond(200, "")
			})
			q := lineQueue(t, dir, &lineBackend{answer: b.answer})
			r := start(t, q)
			synctest.Wait()
			q.mu.Lock()
			q.limit = 8
			q.mu.Unlock()
			for i := range 20 {
				shard := min(i, 1)
				putLines(t, q, uint32(shard), 1, shard*shardWidth+total)
				total++
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(10 * time.Second)
			if s := r.shutdown(); s.CorruptRecords > 0 {
				t.Errorf("%d corrupt records, want none", s.CorruptRecords)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		b.set(nil)
		r := start(t, lineQueue(t, dir, &lineBackend{answer: b.answer}))
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := r.shutdown(); s.CorruptRecords > 0 || s.Disk.Blocks > 0 {
			t.Errorf("Status = %+v, want everything sent", s)
		}
	})
	if got := len(b.accepted()); got != total {
		t.Errorf("%d items arrived, %d were put", got, total)
	}
}

// R25, R12: a request that hangs or fails whenever it is tried holds up its shard, not the
// others, and is tried with growing pauses.
func TestRequestThatNeverSucceedsHoldsUpItsShardOnly(t *testing.T) {
	for name, poison := range map[string]func() *http.Response{
		"500":   func() *http.Response { return respond(500, "") },
		"hangs": func() *http.Response { time.Sleep(30 * time.Second); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := newStrict(t)
				var tries atomic.Int64
				b.set(func(ids []int) *http.Response {
					if ids[0] == 0 {
						tries.Add(1)
						return poison()
					}
					time.Sleep(50 * time.Millisecond)
					return respond(200, "")
				})
				q := lineQueue(t, dir, &lineBackend{answer: b.answer})
				r := start(t, q)
				synctest.Wait()
				putLines(t, q, 0, 1, 0)
				putLines(t, q, 0, 1, 1)
				const seconds = 300
				for i := range seconds {
					putLines(t, q, 1, 1, shardWidth+i)
					time.Sleep(time.Second)
					balanced(t, q)
				}
				if got := len(b.accepted()); got < seconds-5 {
					t.Errorf("%d items of the other shard arrived, want nearly all %d", got, seconds)
				}
				if n := tries.Load(); n > 20 || n < 4 {
					t.Errorf("%d tries in five minutes, want doubling pauses up to one", n)
				}
				b.set(nil)
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if got := len(b.accepted()); got != seconds+2 {
					t.Errorf("%d items arrived, want all", got)
				}
				r.shutdown()
			})
		})
	}
}
