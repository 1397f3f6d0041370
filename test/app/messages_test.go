package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// R16: a backend of version 2.0 refuses one series of a request and says in its answer how
// much it has stored. That is sent, the rest is dropped, to the sample; nothing comes again.
func TestR16PartialWritesAreAccounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{
		targets: 1, series: 5, receiver: kit.MetricsConfig{Messages: []kit.Message{kit.Message2}},
		keys: []string{"protobuf_message: " + string(kit.Message2)},
	})
	r.all[0].SetExtra(fmt.Sprintf("refused{text=%q} 1\n", strings.Repeat("x", 3000)))
	r.scrapes(t, 6)
	waitScrapes(t, r.all, r.mimir, before(time.Now()))
	var refused, sent int64
	kit.Eventually(t, soon, "accounts that agree with the backend's", func() error {
		refused = 0
		for _, req := range r.mimir.Requests() {
			if req.Status == http.StatusBadRequest {
				refused++
			}
		}
		q := r.queue(t)
		sent = q.Sent.Items
		if have, repeated := stored(r.mimir); sent != have || repeated > 0 || q.Dropped["rejected"].Items != refused || len(q.Dropped) != 1 {
			return fmt.Errorf("%d samples stored, %d again, %d requests refused in part; sent %+v, dropped %v", have, repeated, refused, q.Sent, q.Dropped)
		}
		return nil
	})
	if refused < 4 {
		t.Errorf("%d requests were refused in part, want one a scrape", refused)
	}
	if again := resent(r.mimir.Requests()); again > 0 {
		t.Errorf("%d requests were sent twice", again)
	}
	waitBalance(t, r.p)
}

// R20, P2: with protobuf_message auto a backend that answers 2.0 with 415, or one that says
// yes without having read it, gets version 1.0, the refused data included, and is not asked
// again and again. A backend that takes 2.0 gets nothing else.
func TestR20FallsBackTo1AndRemembers(t *testing.T) {
	t.Parallel()
	is2 := func(h http.Header) bool { return strings.Contains(h.Get("Content-Type"), string(kit.Message2)) }
	for _, c := range []struct {
		name     string
		messages []kit.Message
		deaf     bool // answers 204 to what it does not know, without the Written headers
		most     int  // requests of version 2.0
	}{
		{name: "415", messages: []kit.Message{kit.Message1}, most: 8},
		{name: "a silent yes", messages: []kit.Message{kit.Message1}, deaf: true, most: 8},
		{name: "2.0 taken", messages: []kit.Message{kit.Message1, kit.Message2}, most: 1000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := kit.StartMetrics(t, kit.MetricsConfig{Messages: c.messages})
			if c.deaf {
				r.Faults.Choose(func(req *http.Request) (kit.Fault, bool) {
					return kit.Fault{Status: http.StatusNoContent, Fill: -1}, is2(req.Header)
				})
			}
			all := targets(t, 4, 5)
			p := kit.Start(t, kit.ProcessConfig{Config: config(
				[]string{prometheusTo("metrics", r.PushURL(), "protobuf_message: auto")}, []string{scrapeJob("app", all)},
			)})
			(&rig{all: all}).scrapes(t, 6)
			waitScrapes(t, all, r, before(time.Now()))
			version2, later := 0, 0
			requests := r.Requests()
			for i, req := range requests {
				if is2(req.Header) {
					version2++
					if i > len(requests)/2 {
						later++
					}
				}
			}
			t.Logf("%d requests, %d of them of version 2.0", len(requests), version2)
			if version2 == 0 || version2 > c.most {
				t.Errorf("%d requests of version 2.0, want some and at most %d", version2, c.most)
			}
			if len(c.messages) == 1 && later > 0 {
				t.Errorf("%d requests of version 2.0 in the second half, want it remembered", later)
			}
			if len(c.messages) == 2 && version2 < len(requests) {
				t.Errorf("%d of %d requests were of version 1.0 although 2.0 is taken", len(requests)-version2, len(requests))
			}
			if have, err := queues(p); err != nil || len(have["metrics"].Dropped) > 0 || have["metrics"].State != "ok" {
				t.Errorf("status %+v (%v)", have["metrics"], err)
			}
			for _, s := range r.Disorder() {
				t.Errorf("out of order: %+v", s)
			}
			waitBalance(t, p)
		})
	}
}
