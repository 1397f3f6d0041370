package scrape

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// fleet returns n addresses.
func fleet(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("t%d:1", i))
	}
	return all
}

func TestManyTargetsAreEachScrapedAtTheirPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, rounds = 2000, 3
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList(fleet(n)...), script("m 1\n")))
		time.Sleep(rounds*10*time.Second - time.Millisecond)
		synctest.Wait()
		phase := make(map[string]time.Duration)
		r.pools[0].mu.Lock()
		for _, l := range r.pools[0].loops {
			phase[l.target.publicKey.Get("instance")] = l.target.phase()
		}
		r.pools[0].mu.Unlock()
		last, count := make(map[string]int64), make(map[string]int)
		slots := make(map[time.Duration]int)
		for _, b := range r.take() {
			instance, at := b[0].Labels.Get("instance"), b[0].T
			got := time.Duration(at%10_000) * time.Millisecond
			if got != phase[instance] || got%grid != 0 {
				t.Fatalf("%s was scraped at phase %s, want %s, a multiple of %s", instance, got, phase[instance], grid)
			}
			if before, ok := last[instance]; ok && at-before != 10_000 {
				t.Fatalf("%s was scraped %dms after the last time, want 10000", instance, at-before)
			}
			last[instance] = at
			count[instance]++
			slots[got]++
		}
		if len(count) != n {
			t.Errorf("%d targets were scraped, want %d", len(count), n)
		}
		for instance, c := range count {
			if c != rounds {
				t.Errorf("%s was scraped %d times in %d intervals", instance, c, rounds)
			}
		}
		for slot, c := range slots {
			if mean := rounds * n * int(grid) / int(10*time.Second); c > 3*mean {
				t.Errorf("%d scrapes in %d rounds at phase %s, want them spread", c, rounds, slot)
			}
		}
		r.checkConservation(t)
	})
}

func TestTargetsThatWaitHaveNoGoroutine(t *testing.T) {
	count := func(n int) (idle int) {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s}", newList(fleet(n)...), script("m 1\n")))
			time.Sleep(20*time.Second + time.Millisecond)
			r.shared.scheduler.mu.Lock()
			for _, l := range r.pools[0].loops { // Nothing is due for a while.
				l.turn.due = l.turn.due.Add(time.Hour)
			}
			r.shared.scheduler.mu.Unlock()
			time.Sleep(2 * idleWorkers)
			synctest.Wait()
			idle = runtime.NumGoroutine()
		})
		return idle
	}
	if one, many := count(1), count(1000); many > one+3 { // The runtime has some of its own.
		t.Errorf("%d goroutines with 1000 targets that wait, %d with one, want the same", many, one)
	}
}

// stuck is a body that yields some text and then nothing more until ctx ends.
type stuck struct {
	ctx  context.Context
	text *strings.Reader
}

func (s *stuck) Read(p []byte) (int, error) {
	if n, err := s.text.Read(p); err == nil {
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (s *stuck) Close() error { return nil }

// transport is a function in place of targets.
type transport func(req *http.Request) (*http.Response, error)

func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// respond returns a response of 200 with the given type and body.
func respond(req *http.Request, contentType string, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{"Content-Type": {contentType}}, Body: body, ContentLength: -1, Request: req}
}

func TestTargetsThatHangHoldNoPlaceForParsing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("m 1\n", windowSize/4) + "m 1\n" // More than a window, so that some of it is parsed.
		hanging := 4 * runtime.GOMAXPROCS(0)
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 1s, scrape_timeout: 1s}", newList(append(fleet(hanging), "good:1")...), transport(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good:1" {
				return respond(req, "text/plain", io.NopCloser(strings.NewReader("good 1\n"))), nil
			}
			return respond(req, "text/plain", &stuck{req.Context(), strings.NewReader(text)}), nil
		})))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		r.stop()
		good, failed := 0, 0
		for _, b := range r.take() {
			switch text := brief(b); {
			case strings.Contains(text, "good 1"):
				good++
			case strings.HasSuffix(text, "up 0"):
				failed++
			default:
				t.Fatalf("batch %.100s of a target that hangs", text)
			}
		}
		if good < 19 || failed < hanging*18 {
			t.Errorf("in 20s, %d scrapes of the good target and %d failed ones of %d that hang, want one a second of each", good, failed, hanging)
		}
		r.checkConservation(t)
		r.checkOrder(t)
	})
}

// slow answers with the body after a pause.
func slow(pause time.Duration, body string) http.RoundTripper {
	return answer(func(*http.Request) (int, string) {
		time.Sleep(pause)
		return 200, body
	})
}

func TestTargetThatGoesAndComesDuringItsScrapeContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList("a:1")
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s, scrape_timeout: 9s}", source, slow(8*time.Second, "m 1\n")))
		first := untilScraped(t, r.ledger)
		time.Sleep(time.Until(first.Add(3 * time.Second))) // The second scrape begins.
		r.take()
		source.set()
		time.Sleep(1100 * time.Millisecond)
		source.set("a:1") // Waits for the scrape under way.
		time.Sleep(1100 * time.Millisecond)
		source.set() // Goes again before it was scraped.
		time.Sleep(1100 * time.Millisecond)
		source.set("a:1")
		time.Sleep(60 * time.Second)
		synctest.Wait()
		for _, b := range r.take() {
			if text := brief(b); strings.Contains(text, "stale") || !strings.Contains(text, "m 1") {
				t.Errorf("batch %s, want the series to go on", text)
			}
		}
		if n := len(r.shared.scheduler.gone); n != 0 {
			t.Errorf("%d targets that are gone are still known", n)
		}
		r.checkOrder(t)
		r.checkConservation(t)
	})
}

func TestTargetThatGoesDuringItsScrapeEndsTwoIntervalsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newList("a:1")
		r := run(t, DefaultConfig(), jobOf(t, "{job_name: j, scrape_interval: 10s, scrape_timeout: 9s}", source, slow(8*time.Second, "m 1\n")))
		first := untilScraped(t, r.ledger) // 8s after the scrape began.
		due := r.take()[0][0].T
		time.Sleep(time.Until(first.Add(3 * time.Second)))
		source.set()
		time.Sleep(40 * time.Second)
		synctest.Wait()
		b := r.take()
		if len(b) != 2 || !strings.Contains(brief(b[0]), "m 1") || !strings.Contains(brief(b[1]), "m stale") {
			t.Fatalf("%d batches, want the last scrape and the markers", len(b))
		}
		if got := b[1][0].T - due; got != 20_000 {
			t.Errorf("markers are %dms after the scrape before the last, want 20000", got)
		}
		if n := len(r.shared.scheduler.gone); n != 0 {
			t.Errorf("%d targets that are gone are still known", n)
		}
	})
}

func TestTargetThatMovesToAnotherJobEndsOnlyWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := labels.FromStrings("__address__", "a:1", "job", "same")
		old, next := newList(), newList()
		old.setLabels(at)
		r := run(t, DefaultConfig(),
			jobOf(t, "{job_name: old, scrape_interval: 10s}", old, script("both 1\nold 1\n")),
			jobOf(t, "{job_name: new, scrape_interval: 10s}", next, script("both 1\n")))
		untilScraped(t, r.ledger)
		time.Sleep(time.Second) // Both have one phase, which is this very moment.
		old.setLabels()
		next.setLabels(at)
		time.Sleep(60 * time.Second)
		synctest.Wait()
		var ended []string
		for _, b := range r.take() {
			for _, s := range b {
				if math.Float64bits(s.V) == value.StaleNaN {
					ended = append(ended, s.Labels.Get("__name__"))
				}
			}
		}
		if diff := cmp.Diff([]string{"old"}, ended); diff != "" {
			t.Errorf("stale markers (-want +got):\n%s", diff)
		}
		r.checkOrder(t)
		if len(r.keys) != 1 {
			t.Errorf("%d keys for targets with the same labels, want one, which keeps their order", len(r.keys))
		}
	})
}

func TestScrapesMissedByALongStopAreMadeUpForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("m 1\n")))
		untilScraped(t, r.ledger)
		l := r.pools[0].anyLoop()
		s := r.shared.scheduler
		s.mu.Lock()
		l.turn.due = l.turn.due.Add(-35 * time.Second) // As if the process had been stopped.
		s.mu.Unlock()
		s.rouse()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if n := len(r.take()) - 1; n < 1 || n > 2 {
			t.Errorf("%d scrapes after a stop over three of them, want the one that is due and at most one more", n)
		}
		r.checkOrder(t)
	})
}

// TestMarkersFollowAClockThatWasSetBack has a loop whose next scrape was reckoned when the
// clock was an hour ahead.
func TestMarkersFollowAClockThatWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, DefaultConfig(), jobOf(t, job10s, newList("a:1"), script("m 1\n")))
		untilScraped(t, r.ledger)
		r.stop()
		l, s, now := r.pools[0].anyLoop(), newScheduler(), time.Now()
		l.turn.due = now.Add(time.Hour + 7*time.Second)
		l.turn.aligned = now.Add(-3 * time.Second).Round(0)
		s.release(l)
		if want := now.Add(7 * time.Second); !l.turn.at.Equal(want) {
			t.Errorf("the series end at %s, want %s", l.turn.at, want)
		}
	})
}
