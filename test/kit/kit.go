// Package kit holds what Ingot's tests are judged by: honest receivers for remote write and
// for Loki's push, metric targets, a writer of kubelet's log tree, a TCP fault proxy and a
// handle on the real program.
//
// Everything that sends keeps a ledger of what it gave away, everything that receives a
// ledger of what it took, and [Compare] holds the two against each other as sets of ids: two
// equal counts prove nothing, since a repeated record can hide a lost one.
//
// The kit imports nothing of Ingot's own packages. It decodes and checks what arrives from
// the formats' definitions alone, so a mistake in Ingot's encoders cannot repeat itself here.
// It is not a backend: it keeps everything in memory for the length of one test and answers
// no queries over HTTP (test/store does).
package kit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Report is the outcome of holding what was given away against what arrived. Every record is
// written out as text, so that a failing test names it.
type Report struct {
	// Lost was given away and never arrived.
	Lost []string
	// Invented arrived and was never given away; a corrupted record is one Lost and one Invented.
	Invented []string
	// Repeated arrived more than once, one element a surplus arrival.
	Repeated []string
	// Disorder arrived after a newer record of the same series or stream.
	Disorder []string
}

// Err returns nil when nothing was lost, invented or out of order, and otherwise an error
// with the numbers and the first few records of each kind. Repeats are not an error here:
// after a crash some are allowed, and how many is for the test to say.
func (r Report) Err() error {
	var parts []string
	for _, kind := range []struct {
		name    string
		records []string
	}{{"lost", r.Lost}, {"invented", r.Invented}, {"out of order", r.Disorder}} {
		if n := len(kind.records); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", n, kind.name, excerpt(kind.records)))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("compare ledgers: %s", strings.Join(parts, "; "))
}

// excerpt joins the first few records and says how many follow.
func excerpt(records []string) string {
	const most = 5
	if len(records) <= most {
		return strings.Join(records, ", ")
	}
	return strings.Join(records[:most], ", ") + fmt.Sprintf(", and %d more", len(records)-most)
}

// Compare holds the ids that were given away against those that arrived, as sets. The order
// of got decides nothing; a sender's own repeats in want are one id.
func Compare[K comparable](want, got []K) Report {
	var rep Report
	wanted := make(map[K]struct{}, len(want))
	for _, id := range want {
		wanted[id] = struct{}{}
	}
	seen := make(map[K]struct{}, len(got))
	for _, id := range got {
		if _, again := seen[id]; again {
			rep.Repeated = append(rep.Repeated, fmt.Sprint(id))
			continue
		}
		seen[id] = struct{}{}
		if _, ok := wanted[id]; !ok {
			rep.Invented = append(rep.Invented, fmt.Sprint(id))
		}
	}
	for _, id := range want {
		if _, ok := seen[id]; !ok {
			seen[id] = struct{}{}
			rep.Lost = append(rep.Lost, fmt.Sprint(id))
		}
	}
	slices.Sort(rep.Lost)
	return rep
}

// Eventually calls check until it returns nil, at most for the given time, and fails the test
// with what was waited for and the last error. It is how tests of the kit wait: for the thing
// itself, never for a time.
func Eventually(tb testing.TB, within time.Duration, what string, check func() error) {
	tb.Helper()
	if err := poll(tb.Context(), within, check); err != nil {
		tb.Fatalf("%s: not within %s: %v", what, within, err)
	}
}

// pollEvery is short against everything a test waits for and long against one check.
const pollEvery = 20 * time.Millisecond

// poll calls check until it returns nil and returns its last error when time or ctx run out.
func poll(ctx context.Context, within time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
