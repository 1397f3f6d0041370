package main

import (
	"context"
	"fmt"
	"time"
)

// stay refreshes the rates until ctx ends: often on a terminal, now and then in a log.
func (d *demo) stay(ctx context.Context) error {
	pause := 3 * time.Second
	if !d.out.Terminal() {
		pause = 30 * time.Second
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		text, err := d.status(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
		d.out.Status(text)
	}
}

// status asks the store for the present rates.
func (d *demo) status(ctx context.Context) (string, error) {
	jobs, err := d.lookJobs(ctx)
	if err != nil {
		return "", err
	}
	recent, err := d.logQL(ctx, `{job=~".+"}`, window.String())
	if err != nil {
		return "", err
	}
	var sps, up, targets float64
	for _, j := range jobs {
		sps, up, targets = sps+j.sps, up+j.up, targets+j.targets
	}
	return fmt.Sprintf("  %s  %.0f of %.0f targets up, %.0f samples/s, %.1f lines/s",
		time.Now().Format("15:04:05"), up, targets, sps, float64(len(recent))/window.Seconds()), nil
}
