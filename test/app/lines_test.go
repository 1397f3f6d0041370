package app_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// L29: lines that look odd and are right arrive with the time and text that the kubelet's own
// reader gives them; those that it cannot read are counted and cost only themselves.
func TestL29OddHeadersAreReadAsTheKubeletReadsThem(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	now := time.Now().UTC().Truncate(time.Microsecond)
	east := time.FixedZone("", 2*3600)
	type want struct {
		at   time.Time
		text string
	}
	var wants []want
	at := func(i int) time.Time { return now.Add(time.Duration(i) * time.Millisecond) }
	good := func(at time.Time, header, text, arrives string) {
		c.Raw([]byte(header + " " + text + "\n"))
		wants = append(wants, want{at, arrives})
	}
	const layout = "2006-01-02T15:04:05.999999999Z07:00"
	good(at(0), at(0).Format(layout)+" stdout F", "an ordinary line", "an ordinary line")
	good(at(1), at(1).Format(layout)+" stdout F:more:tags", "tagged", "tagged")
	good(at(2), at(2).In(east).Format(layout)+" stderr F", "two hours east", "two hours east")
	good(at(3), at(3).Format(layout)+" stdout F", "", "")
	good(at(4), at(4).Format(layout)+" stdout F", "  spaces kept  ", "  spaces kept  ")
	second := now.Truncate(time.Second)
	good(second, second.Format(layout)+" stdout F", "no fraction", "no fraction")
	c.Raw([]byte(at(6).Format(layout) + " stdout P:x first, \n"))
	good(at(7), at(7).Format(layout)+" stdout F:y", "second", "first, second")
	bad := []string{
		"0001-01-01T00:00:00Z stdout F the year one", "stdout F no time", at(8).Format(layout), at(8).Format(layout) + " stdout",
		at(8).Format(layout) + " stdout F", at(8).Format(layout) + " stdin F no such stream", "2026-13-01T00:00:00Z stdout F month 13", "",
		at(8).Format(layout) + "stdout F no blank", "\x00\x01\x02",
	}
	for _, line := range bad {
		c.Raw([]byte(line + "\n"))
	}
	good(at(9), at(9).Format(layout)+" stdout F", "the last", "the last")
	kit.Eventually(t, soon, "the last line", func() error {
		if n := len(loki.Lines("", "")); n < len(wants) {
			return fmt.Errorf("%d lines, want %d", n, len(wants))
		}
		return nil
	})
	got := make(map[want]int)
	for _, l := range loki.Lines("", "") {
		got[want{time.Unix(0, l.T).UTC(), l.Text}]++
	}
	for _, w := range wants {
		w.at = w.at.UTC()
		if got[w] != 1 {
			t.Errorf("%q of %s arrived %d times", w.text, w.at.Format(layout), got[w])
		}
		delete(got, w)
	}
	if len(got) > 0 {
		t.Errorf("nobody wrote %v", got)
	}
	if refused := loki.Refused(); len(refused) > 0 {
		t.Errorf("refused: %.300v", refused)
	}
	waitMetric(t, p, "ingot_podlogs_lines_dropped_total", float64(len(bad)))
	waitBalance(t, p)
}

// L30: bytes that hurt terminals and encoders are kept as they are where they are text.
func TestL30UnpleasantTextArrivesAsItIs(t *testing.T) {
	t.Parallel()
	loki, tree, p := collect(t)
	c := tree.Pod("shop", "cart").Container("main")
	valid := []string{
		"ends with a return\r", "\x1b[31mred\x1b[0m", "tab\tbell\avertical\v", "line\u2028separator\u2029", "\ufeffmark", "\u0000inside\u0000",
		`{"json": "kept", "quote": "\""}`, `back\slash`, "emoji \U0001F600", "\u202eturned", "  blanks  ", "\u007f", "\u0085next",
	}
	for _, text := range valid {
		c.Line("stdout", "v "+text)
	}
	wantOnce(t, tree, loki)
	for _, in := range []string{"i \xff", "i caf\xe9 au lait", "i \xc3", "i \xed\xa0\x80", "i \xf4\x90\x80\x80", "i a\xf0\x9f\x98"} {
		// The ledger holds what must come out, not what goes in.
		c.Raw([]byte(criLine(in) + "\n"))
	}
	kit.Eventually(t, soon, "the lines that are no UTF-8", func() error {
		if n := len(loki.Texts("", "")); n != len(valid)+6 {
			return fmt.Errorf("%d lines, want %d", n, len(valid)+6)
		}
		return nil
	})
	for _, text := range loki.Texts("", "") {
		if strings.HasPrefix(text, "i ") && !strings.Contains(text, "\uFFFD") {
			t.Errorf("%q has no replacement character", text)
		}
	}
	waitMetric(t, p, `ingot_podlogs_lines_altered_total{reason="invalid_utf8"}`, 6)
	waitBalance(t, p)
}

// L40: the clock of the node jumps an hour ahead and two back while lines are written. Each
// line has the time that stands in the file, and they come in the order of the file.
func TestL40JumpingClockChangesNeitherTimesNorOrder(t *testing.T) {
	t.Parallel()
	limits := kit.DefaultStreamLimits()
	limits.MaxAhead, limits.MaxBehind = 2*time.Hour, 3*time.Hour
	loki := kit.StartLogs(t, kit.LogsConfig{Limits: limits})
	tree := kit.NewPodLogWriter(t, t.TempDir())
	var jump atomic.Int64
	tree.Now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogs(tree.Dir))})
	c := tree.Pod("shop", "cart").Container("main")
	for _, d := range []time.Duration{0, time.Hour, -time.Hour, 0, -10 * time.Minute, time.Hour} {
		jump.Store(int64(d))
		c.Write(50)
		c.Rotate(5)
		c.Write(50)
		wantOnce(t, tree, loki)
	}
	waitBalance(t, p)
}
