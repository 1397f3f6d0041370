package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

func TestTiersStopInTheOrderDataFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stopped []string
		waits := func(name string) part {
			return part{name: name, run: func(ctx context.Context) error {
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				stopped = append(stopped, name)
				return nil
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- runTiers(ctx, []part{waits("source")}, []part{waits("sink")}, []part{waits("queue")})
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Fatalf("runTiers = %v, want nil", err)
		}
		if want := []string{"source", "sink", "queue"}; !slices.Equal(stopped, want) {
			t.Errorf("stopped in order %v, want %v", stopped, want)
		}
	})
}

func TestAPartThatEndsEarlyStopsTheProgram(t *testing.T) {
	f := func(result error, want string) {
		t.Helper()
		var stopped bool
		err := runTiers(t.Context(),
			[]part{{name: "healthy", run: func(ctx context.Context) error { <-ctx.Done(); stopped = true; return nil }}},
			[]part{{name: "web", run: func(context.Context) error { return result }}},
		)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("runTiers = %v, want %q", err, want)
		}
		if !stopped {
			t.Error("the healthy part was not stopped")
		}
	}
	f(errors.New("listen tcp: address in use"), "web: listen tcp: address in use")
	f(nil, "web: returned before it was asked to")
}
