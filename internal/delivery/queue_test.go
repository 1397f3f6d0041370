package delivery

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQueueDeliversInOrderAndAcknowledgesInOrder(t *testing.T) {
	for _, dir := range []string{"", "disk"} {
		t.Run("dir "+dir, func(t *testing.T) {
			if dir != "" {
				dir = t.TempDir()
			}
			synctest.Test(t, func(t *testing.T) {
				b := &backend{}
				q := start(t, newQueue(t, testConfig(), dir, b))
				var acked ledger
				for id := range 50 {
					blk := block(id, 100)
					blk.Ack = func() { acked.add(id) }
					if err := q.Put(t.Context(), blk); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if diff := cmp.Diff(numbers(0, 50), b.accepted()); diff != "" {
					t.Errorf("order of requests (-want +got):\n%s", diff)
				}
				s := q.shutdown()
				if diff := cmp.Diff(numbers(0, 50), acked.all()); diff != "" {
					t.Errorf("order of acknowledgements (-want +got):\n%s", diff)
				}
				if s.State != StateOK || s.Sent.Blocks != 50 || s.OldestAgeSeconds != 0 {
					t.Errorf("Status = %+v, want 50 blocks sent and none old", s)
				}
			})
		})
	}
}

// R28.
func TestSteadyStateWritesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(request) (*http.Response, error) {
			time.Sleep(400 * time.Millisecond)
			return respond(204, ""), nil
		})
		q := start(t, newQueue(t, testConfig(), dir, b))
		for id := range 20 {
			put(t, q.Queue, id, id+1, 1000)
			time.Sleep(450 * time.Millisecond)
		}
		q.shutdown()
	})
	if got := files(t, dir); len(got) > 0 {
		t.Errorf("files after a run without trouble: %v, want none", got)
	}
}

func TestBlockGoesToDiskWhenNotAcknowledgedInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			select { // Slow, but not failing.
			case <-time.After(3 * time.Second):
			case <-r.ctx.Done():
				return nil, r.ctx.Err()
			}
			return respond(200, ""), nil
		})
		q := start(t, newQueue(t, testConfig(), dir, b))
		put(t, q.Queue, 0, 2, 1000)
		time.Sleep(499 * time.Millisecond)
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Disk.Blocks != 0 {
			t.Errorf("after 499 ms %d blocks are on disk, want 0", s.Disk.Blocks)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Disk.Blocks != 2 || s.Memory.Blocks != 0 {
			t.Errorf("after 501 ms %d blocks are on disk and %d in memory, want 2, the one in flight too, and 0", s.Disk.Blocks, s.Memory.Blocks)
		}
		put(t, q.Queue, 2, 3, 1000)
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Disk.Blocks != 3 {
			t.Errorf("with a backlog %d blocks are on disk, want all 3 at once", s.Disk.Blocks)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 3), b.accepted()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if s := q.shutdown(); s.Sent.Blocks != 3 || s.Disk.Blocks != 0 {
			t.Errorf("Status = %+v, want 3 sent once each", s)
		}
	})
	if got := segments(t, dir); len(got) > 0 {
		t.Errorf("segments after everything was delivered: %v, want none", got)
	}
}

func TestBlocksGoToDiskAtOnceWhileTheEndpointFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, testConfig(), dir, b))
		put(t, q.Queue, 0, 1, 100)
		synctest.Wait()
		put(t, q.Queue, 1, 30, 100)
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Disk.Blocks != 30 || s.State != StateRetrying {
			t.Errorf("%d of 30 blocks on disk in state %s, want all and retrying", s.Disk.Blocks, s.State)
		}
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 30), b.accepted()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		before := len(files(t, dir))
		put(t, q.Queue, 30, 40, 100)
		synctest.Wait()
		if s := balanced(t, q.Queue); s.Sent.Blocks != 40 || len(files(t, dir)) > before {
			t.Errorf("%d sent, %d files, want 40 and no new file after the recovery", s.Sent.Blocks, len(files(t, dir)))
		}
		q.shutdown()
	})
}

func TestAlwaysIsOnDiskWhenPutReturns(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		cfg := testConfig()
		cfg.Durability = Always
		q := start(t, newQueue(t, cfg, dir, b))
		for id := range 20 {
			put(t, q.Queue, id, id+1, 500)
			if s := balanced(t, q.Queue); s.Disk.Blocks != int64(id+1) || s.Memory.Blocks != 0 {
				t.Fatalf("after Put %d: %d blocks on disk, %d in memory", id, s.Disk.Blocks, s.Memory.Blocks)
			}
		}
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 20), b.accepted()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		q.shutdown()
	})
}

func TestMemoryQueueBlocksWhenFullAndDropsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, Config{}, "", b))
		put(t, q.Queue, 0, 8, 1<<20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := q.Put(ctx, block(99, 1<<20)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put into a full queue = %v, want the context's error", err)
		}
		for id := 8; id < 12; id++ { // In order, though all wait at the same time.
			go func() { _ = q.Put(t.Context(), block(id, 1<<20)) }()
			synctest.Wait()
		}
		b.set(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if diff := cmp.Diff(numbers(0, 12), b.accepted()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if err := q.Put(t.Context(), block(12, 20<<20)); err != nil {
			t.Errorf("Put of a block larger than the memory = %v, want nil once that is empty", err)
		}
		q.shutdown()
		if err := q.Put(t.Context(), block(13, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after Run = %v, want ErrClosed", err)
		}
	})
}

func TestPutThatWaitsEndsWithTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, Config{}, "", b))
		put(t, q.Queue, 0, 8, 1<<20)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- q.Put(t.Context(), block(9, 1<<20)) }()
		}
		synctest.Wait()
		q.shutdown()
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrClosed) {
				t.Errorf("Put = %v, want ErrClosed", err)
			}
		}
	})
}

// R12.
func TestBackoffDoublesToAMinuteAndSendsRetryAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(always(503, "busy")) //nolint:bodyclose // The queue closes it.
		q := start(t, newQueue(t, Config{}, "", b))
		put(t, q.Queue, 0, 1, 10)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		seen := b.seen()
		want := 100 * time.Millisecond
		for i := 1; i < len(seen); i++ {
			got := seen[i].at.Sub(seen[i-1].at)
			if got > want || got < want-want/10 {
				t.Errorf("pause %d = %s, want at most %s and a tenth less", i, got, want)
			}
			want = min(2*want, time.Minute)
		}
		if len(seen) < 15 {
			t.Errorf("%d requests in ten minutes, want at least 15", len(seen))
		}
		if got := seen[0].header.Get("Retry-Attempt"); got != "" {
			t.Errorf("Retry-Attempt of the first request = %q, want none", got)
		}
		if got := seen[3].header.Get("Retry-Attempt"); got != "3" {
			t.Errorf("Retry-Attempt of the fourth request = %q, want 3", got)
		}
		s := balanced(t, q.Queue)
		if s.State != StateRetrying || s.LastError != "status 503 Service Unavailable: busy" || s.Attempt != len(seen) ||
			s.Retried.Blocks != int64(len(seen)-1) || s.URL != "http://backend.test/push" {
			t.Errorf("Status = %+v", s)
		}
		q.shutdown()
	})
}

// R13, R17, R18.
func TestEndpointDecidesWhenItIsAskedAgain(t *testing.T) {
	f := func(name string, code int, header string, least, most time.Duration, state State) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if header == "date in 20 s" {
					header = time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)
				}
				b := &backend{}
				b.set(always(code, "no", "Retry-After", header)) //nolint:bodyclose // The queue closes it.
				q := start(t, newQueue(t, Config{}, "", b))
				put(t, q.Queue, 0, 1, 10)
				time.Sleep(most)
				synctest.Wait()
				seen := b.seen()
				if len(seen) < 2 {
					t.Fatalf("%d requests, want a second one", len(seen))
				}
				if got := seen[1].at.Sub(seen[0].at); got < least || got > most {
					t.Errorf("second request after %s, want between %s and %s", got, least, most)
				}
				if s := balanced(t, q.Queue); s.State != state || s.Memory.Blocks != 1 {
					t.Errorf("state %s with %d blocks, want %s with the block kept", s.State, s.Memory.Blocks, state)
				}
				q.shutdown()
			})
		})
	}
	const ms = time.Millisecond
	f("429 with seconds", 429, "30", 30*time.Second, 33*time.Second, StateRetrying)
	f("503 with a date", 503, "date in 20 s", 20*time.Second, 22*time.Second, StateRetrying)
	f("a past date", 503, "Sun, 02 Jan 1994 15:04:05 GMT", 90*ms, 100*ms, StateRetrying)
	f("garbage", 503, "soon", 90*ms, 100*ms, StateRetrying)
	f("far too long", 429, "1000000000", 5*time.Minute, 330*time.Second, StateRetrying)
	f("401", 401, "1", 30*time.Second, 30*time.Second, StatePaused)
	f("403", 403, "", 30*time.Second, 30*time.Second, StatePaused)
	f("404", 404, "", 30*time.Second, 30*time.Second, StateMisconfigured)
	f("501", 501, "", 30*time.Second, 30*time.Second, StateMisconfigured)
	f("302", 302, "", 30*time.Second, 30*time.Second, StateMisconfigured)
}

// R15.
func TestRefusedDataIsDroppedCountedAndNeverResent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := make([]byte, 10_000)
		for i := range long {
			long[i] = 'x'
		}
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			switch r.id % 4 {
			case 1:
				return respond(400, "out of order\nsample\x1b[31m"), nil
			case 2:
				return respond(413, string(long)), nil
			}
			return respond(202, ""), nil
		})
		q := start(t, newQueue(t, Config{}, "", b))
		var acked ledger
		for id := range 12 {
			blk := block(id, 10)
			blk.Ack = func() { acked.add(id) }
			if err := q.Put(t.Context(), blk); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := len(b.seen()); got != 12 || len(acked.all()) != 12 {
			t.Errorf("%d requests and %d acknowledgements for 12 blocks, want 12 of each", got, len(acked.all()))
		}
		s := q.shutdown()
		if s.Dropped[dropRejected].Blocks != 3 || s.Dropped[dropTooLarge].Blocks != 3 || s.Sent.Blocks != 6 || s.State != StateOK {
			t.Errorf("Status = %+v, want 3 rejected, 3 too large, 6 sent, state ok", s)
		}
		if want := "status 413 Request Entity Too Large: " + string(long[:1024]); s.LastError != want {
			t.Errorf("LastError = %q, want the first 1 KiB of the answer", s.LastError)
		}
	})
}

// R2, R25.
func TestShutdownGivesUpOnAHangingEndpoint(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			<-r.ctx.Done()
			return nil, r.ctx.Err()
		})
		q := start(t, newQueue(t, testConfig(), dir, b))
		put(t, q.Queue, 0, 5, 100)
		synctest.Wait()
		begin := time.Now()
		s := q.shutdown()
		if took := time.Since(begin); took != drainTime {
			t.Errorf("shutdown took %s, want %s", took, drainTime)
		}
		if s.Disk.Blocks != 5 || s.Memory.Blocks != 0 {
			t.Errorf("%d blocks on disk, %d in memory, want all 5 on disk", s.Disk.Blocks, s.Memory.Blocks)
		}
	})
}

// R1.
func TestShutdownDrainsWhileRequestsSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(request) (*http.Response, error) {
			time.Sleep(100 * time.Millisecond)
			return respond(200, ""), nil
		})
		q := start(t, newQueue(t, Config{}, "", b))
		put(t, q.Queue, 0, 20, 100)
		if s := q.shutdown(); s.Sent.Blocks != 20 {
			t.Errorf("%d blocks sent, want all 20", s.Sent.Blocks)
		}
	})
}

// R2.
func TestShutdownSendsNothingToAFailingEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(refuse)
		q := start(t, newQueue(t, Config{}, "", b))
		put(t, q.Queue, 0, 3, 100)
		time.Sleep(time.Second)
		synctest.Wait()
		before := len(b.seen())
		begin := time.Now()
		q.shutdown()
		if took := time.Since(begin); took != 0 || len(b.seen()) != before {
			t.Errorf("shutdown took %s and %d more requests, want none", took, len(b.seen())-before)
		}
	})
}

func TestShutdownCutsOffTheRequestToAFailingEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			if len(b.seen()) == 1 {
				return refuse(r)
			}
			<-r.ctx.Done()
			return nil, r.ctx.Err()
		})
		q := start(t, newQueue(t, Config{}, "", b))
		put(t, q.Queue, 0, 1, 100)
		time.Sleep(time.Second)
		synctest.Wait()
		begin := time.Now()
		if s := q.shutdown(); time.Since(begin) != 0 || s.Memory.Blocks != 1 || len(b.seen()) != 2 {
			t.Errorf("shutdown took %s after %d requests, want no time after 2", time.Since(begin), len(b.seen()))
		}
	})
}

// R42.
func TestWallClockThatIsSetDropsNothing(t *testing.T) {
	q := newQueue(t, testConfig(), t.TempDir(), &backend{})
	now := time.Now()
	f := func(what string, wallAtStart, finished time.Time, want bool) {
		t.Helper()
		q.begunWall = wallAtStart.UnixMilli()
		if got := q.tooOld(finished.UnixMilli()); got != want {
			t.Errorf("%s: tooOld = %v, want %v", what, got, want)
		}
	}
	const year = 365 * 24 * time.Hour
	f("young", now, now.Add(-time.Hour), false)
	f("old", now, now.Add(-49*time.Hour), true)
	f("clock went ten years ahead after the start", now.Add(-10*year), now.Add(-10*year), false)
	f("clock was ten years ahead at the start", now.Add(10*year), now, false)
	f("block from the future", now, now.Add(year), false)
	if age := q.age(now.Add(year).UnixMilli()); age != 0 {
		t.Errorf("age of a block from the future = %s, want 0", age)
	}
}

func TestAcksWaitForTheBlockInFlight(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(func(r request) (*http.Response, error) {
			select {
			case <-time.After(20 * time.Second):
			case <-r.ctx.Done():
			}
			return respond(200, ""), nil
		})
		q := newQueue(t, testConfig(), dir, b)
		q.memoryLimit = 1000
		q.files.writeAt = failingWrite
		r := start(t, q)
		var acked ledger
		for id := range 5 {
			blk := block(id, 400)
			blk.Ack = func() { acked.add(id) }
			if err := q.Put(t.Context(), blk); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if s := balanced(t, q); s.Dropped[dropMemoryFull].Blocks != 3 || len(acked.all()) != 0 {
			t.Errorf("dropped %v, acknowledged %v, want 3 dropped and no call before the one in flight", s.Dropped, acked.all())
		}
		time.Sleep(45 * time.Second)
		synctest.Wait()
		if !slices.Equal(acked.all(), numbers(0, 5)) || !slices.Equal(b.accepted(), []int{0, 4}) {
			t.Errorf("acknowledged %v, accepted %v, want 0 to 4 and 0, 4", acked.all(), b.accepted())
		}
		r.shutdown()
	})
}

func TestQueueSaysThatItIsBehind(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		b := &backend{answer: refuse}
		r := start(t, newQueue(t, testConfig(), dir, b))
		if r.Behind() {
			t.Error("a queue without blocks is behind")
		}
		put(t, r.Queue, 1, 4, 100)
		eventually(t, "a failing endpoint to count as behind", r.Behind)
		b.set(nil)
		eventually(t, "all to be delivered", func() bool { return len(b.accepted()) == 3 })
		eventually(t, "the queue to have caught up", func() bool { return !r.Behind() })
		r.shutdown()
	}
}
