//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/exporter"
	"github.com/ingot-telemetry/ingot/test/bench/sink"
)

// outage is what it cost a collector that its receiver was away, and how it caught up.
type outage struct {
	away    usage // While the receiver was away.
	scraped int64 // Samples and histograms of that time.
	drain   usage // From its return until nothing but the last seconds was missing.
	drained int64 // Samples and histograms that arrived meanwhile.
	noticed time.Duration
	// speed is how many times faster than they were scraped samples arrived, from the first
	// that came after the return.
	speed float64
}

// rssHigh is the most memory of the whole time.
func (o outage) rssHigh() int64 { return max(o.away.rssHigh, o.drain.rssHigh) }

// diskPerSample is what was written for each sample that could not be sent.
func (o outage) diskPerSample() float64 { return float64(o.away.disk) / float64(o.scraped) }

// upToDate is how much a collector that has caught up may still hold: what was scraped in this
// time, since it is being put together.
const upToDate = 2500 * time.Millisecond

// outage takes the receiver away for a time, then waits until the collector has caught up. The
// counts at the collector's begin tell how far behind it is.
func (b *bench) outage(ctx context.Context, p running, name string, begin exporter.Counts, e *exporter.Exporter, receiver *sink.Metrics) (*outage, error) {
	var o outage
	defer receiver.Away(false)
	b.progress("%s: the receiver is away for %s", name, b.opts.outage)
	receiver.Away(true)
	before := e.Counts()
	var err error
	if o.away, err = b.measure(ctx, p.Process, name+"-away", func() error { return wait(ctx, p.Process, b.opts.outage) }); err != nil {
		return nil, err
	}
	o.scraped = e.Counts().Sub(before).Values()
	if o.scraped == 0 {
		return nil, fmt.Errorf("it scraped nothing in %s", b.opts.outage)
	}
	perSecond := float64(o.scraped) / o.away.window.Seconds()
	limit := b.opts.outage + 2*time.Minute // Slower than real time is no catching up.
	at, back := receiver.Counts().Values(), time.Now()
	var first time.Time
	receiver.Away(false)
	caughtUp := false
	o.drain, err = b.measure(ctx, p.Process, name+"-drain", func() (err error) {
		caughtUp, err = until(ctx, p.Process, limit, func() bool {
			got := receiver.Counts().Values()
			if first.IsZero() && got > at {
				first = time.Now()
			}
			return float64(e.Counts().Sub(begin).Values()-got) <= perSecond*upToDate.Seconds()
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	o.drained = receiver.Counts().Values() - at
	if !caughtUp {
		return nil, fmt.Errorf("%s after the return of the receiver %d samples are still missing", limit, e.Counts().Sub(begin).Values()-receiver.Counts().Values())
	}
	if first.IsZero() {
		return nil, fmt.Errorf("it was not behind after %s: the outage is too short for this load", b.opts.outage)
	}
	o.noticed = first.Sub(back)
	// Polling sees the first request up to its period late.
	draining := max(time.Since(first), 20*time.Millisecond)
	o.speed = float64(o.drained) / perSecond / draining.Seconds()
	b.progress("%s: caught up %.1f s after the return, %.1f times real time, highest %.1f MB", name, o.drain.window.Seconds(), o.speed, megabytes(o.rssHigh()))
	return &o, nil
}
