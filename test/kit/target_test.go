package kit

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// scrape fetches a target's page as a scraper would and returns the body.
func scrape(ctx context.Context, t *Target) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL()+TargetPath, http.NoBody)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	return string(body), err
}

func TestTargetNumbersItsScrapes(t *testing.T) {
	target := StartTarget(t, 2)
	target.SetExtra("extra 5\n")
	for n := 1; n <= 3; n++ {
		body, err := scrape(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		exp, err := ParseExposition([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if got := exp.Sum(`seq{i="1"}`); got != float64(n) || len(exp.Find("seq")) != 2 || exp.Sum("extra") != 5 {
			t.Errorf("scrape %d: %s", n, body)
		}
		if n == 1 {
			target.SetMode(ModeError) // a failed scrape takes no number
			if _, err := scrape(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			target.SetMode(ModeHonest)
		}
	}
	if got := target.Served(); len(got) != 4 || !got[3].Complete || got[3].N != 3 {
		t.Errorf("Served = %+v", got)
	}
}

func TestTargetReportTellsEveryKindOfDifference(t *testing.T) {
	// Each case says what arrives of three scrapes of one series.
	for _, tc := range []struct {
		name                               string
		values                             []float64
		lost, invented, repeated, disorder int
	}{
		{"everything", []float64{1, 2, 3}, 0, 0, 0, 0},
		{"one lost", []float64{1, 3}, 1, 0, 0, 0},
		{"corrupt", []float64{1, 2.5, 3}, 1, 1, 0, 0},
		{"invented", []float64{1, 2, 3, 4}, 0, 1, 0, 0},
		{"another series again", []float64{1, 1, 2, 3}, 0, 0, 1, 0},
		{"out of order", []float64{1, 3, -2}, 1, 0, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target, r := StartTarget(t, 1), StartMetrics(t, MetricsConfig{})
			for range 3 {
				if _, err := scrape(t.Context(), target); err != nil {
					t.Fatal(err)
				}
			}
			now := time.Now().UnixMilli()
			for i, v := range tc.values {
				at := now + int64(i)
				if v < 0 {
					at, v = now, -v // older than what came before
				}
				push(t, r, "", series(at, v, "__name__", "seq", "i", "0", "instance", target.Addr()))
			}
			rep := target.Report(r, "", time.Now())
			if len(rep.Lost) != tc.lost || len(rep.Invented) != tc.invented || len(rep.Repeated) != tc.repeated || len(rep.Disorder) != tc.disorder {
				t.Errorf("Report = %+v, want %d lost, %d invented, %d repeated, %d out of order", rep, tc.lost, tc.invented, tc.repeated, tc.disorder)
			}
		})
	}
}

func TestTargetReportDoesNotDemandWhatWasServedLater(t *testing.T) {
	target, r := StartTarget(t, 1), StartMetrics(t, MetricsConfig{})
	until := time.Now()
	if _, err := scrape(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if rep := target.Report(r, "", until); len(rep.Lost) != 0 {
		t.Errorf("Report = %+v, want nothing lost", rep)
	}
	if rep := target.Report(r, "", time.Now()); len(rep.Lost) != 1 {
		t.Errorf("Report = %+v, want one lost", rep)
	}
}

func TestTargetIsHostileInEveryMode(t *testing.T) {
	target := StartTarget(t, 1)
	for mode, want := range map[Mode]func(body string, err error) bool{
		ModeGarbage:      func(b string, err error) bool { return err == nil && strings.Contains(b, "\x00") },
		ModeHTML:         func(b string, err error) bool { return err == nil && strings.HasPrefix(b, "<!DOCTYPE html>") },
		ModeError:        func(b string, err error) bool { return err == nil && strings.Contains(b, "broken") },
		ModeEndless:      func(b string, err error) bool { return err == nil && len(b) == 8<<20 },
		ModeGzipBomb:     func(b string, err error) bool { return err == nil && len(b) == 8<<20 },
		ModeSlow:         func(_ string, err error) bool { return err != nil },
		ModeHang:         func(_ string, err error) bool { return err != nil },
		ModeRedirectLoop: func(_ string, err error) bool { return err != nil && strings.Contains(err.Error(), "redirects") },
		ModeTruncated:    func(_ string, err error) bool { return err != nil },
	} {
		target.SetMode(mode)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		body, err := scrape(ctx, target)
		cancel()
		if !want(body, err) {
			t.Errorf("%s: %.100q, %v", mode, body, err)
		}
	}
	target.SetMode(ModeHonest)
	if body, err := scrape(t.Context(), target); err != nil || !strings.Contains(body, "seq") {
		t.Errorf("honest again: %q, %v", body, err)
	}
	for _, s := range target.Served() {
		if s.Complete && (s.Mode == ModeEndless || s.Mode == ModeHang || s.Mode == ModeSlow) {
			t.Errorf("%s counts as served completely", s.Mode)
		}
	}
}
