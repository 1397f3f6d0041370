package kube

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPaceGrowsToAnEndAndForgetsItOnProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		p.jitter = func() float64 { return 0 }
		pause := func() time.Duration {
			begin := time.Now()
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		for i, want := range []time.Duration{0, 800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 14 * time.Second, 14 * time.Second} {
			if got := pause(); got != want {
				t.Errorf("pause %d = %s, want %s", i, got, want)
			}
		}
		for range 100 { // No overflow.
			if got := pause(); got != 14*time.Second {
				t.Fatalf("late pause = %s, want 14s", got)
			}
		}
		p.jitter = func() float64 { return 0.999999 }
		if got := pause(); got >= 30*time.Second {
			t.Errorf("longest pause = %s, want less than 30s", got)
		}
		p.jitter = func() float64 { return 0 }
		p.progress()
		if got := pause(); got != 0 {
			t.Errorf("pause after an event = %s, want none", got)
		}
		p.lasted(100 * time.Millisecond)
		if got := pause(); got == 0 {
			t.Error("no pause after a watch that ended at once")
		}
		p.lasted(time.Second)
		if got := pause(); got != 0 {
			t.Errorf("pause after a watch that was open = %s, want none", got)
		}
		p.notBefore(7 * time.Second)
		p.lasted(time.Second)
		if got := pause(); got != 7*time.Second {
			t.Errorf("pause after Retry-After 7 = %s, want it", got)
		}
		p.lasted(time.Second)
		p.notBefore(24 * time.Hour)
		if got := pause(); got != retryAfterMax {
			t.Errorf("pause after Retry-After of a day = %s, want %s", got, retryAfterMax)
		}
	})
}

func TestAnswersEndThePausesOfAnOutage(t *testing.T) {
	p := newPace()
	p.jitter = func() float64 { return 0 }
	next := func() time.Duration { return p.pause(p.misses) }
	p.misses = 30 // A long outage.
	p.answered(true)
	if got := next(); got != pauseBase {
		t.Errorf("pause after a first fault = %s, want %s", got, pauseBase)
	}
	p.misses++ // The list that follows,
	p.answered(false)
	p.misses++ // and the watch behind it, which says the same again.
	p.answered(true)
	if got := next(); got != 2*pauseBase {
		t.Errorf("pause after a second fault = %s, want %s", got, 2*pauseBase)
	}
	p.progress()
	p.misses++
	p.answered(false)
	if got := next(); got != 0 {
		t.Errorf("pause between a list and its watch = %s, want none", got)
	}
}

// The most that a store is behind an API server that has come back.
func TestLongestPauseIsUnderAMinute(t *testing.T) {
	p := newPace()
	p.jitter = func() float64 { return 0.9999999 }
	if got := p.pause(1000); got > 50*time.Second {
		t.Errorf("longest pause = %s, want it well below a minute", got)
	}
	if other := newPace(); p.pause(3) == other.pause(3) {
		t.Error("two agents pause for the same time, want them spread")
	}
}

func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		p.notBefore(time.Hour)
		begin := time.Now()
		if err := p.wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Millisecond {
			t.Errorf("wait = %v after %s, want the end of the context", err, time.Since(begin))
		}
		if err := p.wait(ctx); err == nil {
			t.Error("wait with a context that has ended lets a request pass")
		}
	})
}
