package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// part is one running piece of the program. Its run blocks until ctx ends and has by then
// handed on, delivered or persisted everything it holds.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runTiers runs parts in tiers ordered the way data flows: the first tier produces, the last
// one serves all others. Tiers start last to first and stop first to last, so that nothing is
// produced for a part that is gone. It blocks until ctx ends or a part fails; the first
// failure stops everything and is returned. A part that returns without being asked to has
// failed.
func runTiers(ctx context.Context, tiers ...[]part) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stops := make([]func(), len(tiers))
	for i := len(tiers) - 1; i >= 0; i-- {
		stops[i] = startTier(ctx, tiers[i], fail)
	}
	<-ctx.Done()
	for _, stop := range stops {
		stop()
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// startTier starts every part of one tier and returns the function that stops them and waits.
// The parts do not see the end of ctx itself, or all tiers would stop at once.
func startTier(ctx context.Context, parts []part, fail context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			err := p.run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("returned before it was asked to")
			}
			if err != nil {
				fail(fmt.Errorf("%s: %w", p.name, err))
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}
