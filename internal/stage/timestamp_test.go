package stage

import (
	"testing"
	"time"
)

func TestTimestampReadsItsFormats(t *testing.T) {
	f := func(options, text, want string) {
		t.Helper()
		b := newBench(t, "- regex: {expression: '(?P<time>.*)'}\n- timestamp: {source: time, "+options+"}")
		got := "unchanged"
		if e := b.one(text); e.T != b.now.UnixNano() {
			got = time.Unix(0, e.T).UTC().Format(time.RFC3339Nano)
		}
		if got != want {
			t.Errorf("%s\n%q is %s, want %s", options, text, got, want)
		}
	}
	f("format: RFC3339Nano", "2019-01-01T01:00:00.000000001Z", "2019-01-01T01:00:00.000000001Z")
	f("format: RFC3339", "2019-01-01T01:00:00.5+01:00", "2019-01-01T00:00:00.5Z")
	f("format: RFC3339", "2019-01-01 01:00:00", "unchanged")
	f("format: RFC3339", "", "unchanged")
	f("format: ANSIC", "Mon Jan  2 15:04:05 2017", "2017-01-02T15:04:05Z")
	f("format: UnixDate", "Mon Jan  2 15:04:05 UTC 2017", "2017-01-02T15:04:05Z")
	f("format: RubyDate", "Mon Jan 02 15:04:05 -0700 2017", "2017-01-02T22:04:05Z")
	f("format: RFC822", "02 Jan 17 15:04 UTC", "2017-01-02T15:04:00Z")
	f("format: RFC822Z", "02 Jan 17 15:04 -0700", "2017-01-02T22:04:00Z")
	f("format: RFC850", "Monday, 02-Jan-17 15:04:05 UTC", "2017-01-02T15:04:05Z")
	f("format: RFC1123", "Mon, 02 Jan 2017 15:04:05 UTC", "2017-01-02T15:04:05Z")
	f("format: RFC1123Z", "Mon, 02 Jan 2017 15:04:05 -0700", "2017-01-02T22:04:05Z")
	f("format: Unix", "1562708916", "2019-07-09T21:48:36Z")
	f("format: Unix", "1562708916.000000123", "2019-07-09T21:48:36.000000123Z")
	f("format: Unix", "1562708916.5", "2019-07-09T21:48:36.5Z")
	f("format: Unix", "1562708916.", "unchanged")
	f("format: Unix", "1562708916.x", "unchanged")
	f("format: Unix", "99999999999999", "unchanged")
	f("format: UnixMs", "1562708916414", "2019-07-09T21:48:36.414Z")
	f("format: UnixMs", "1562708916.414", "unchanged")
	f("format: UnixUs", "1562708916414123", "2019-07-09T21:48:36.414123Z")
	f("format: UnixNs", "1562708916000000123", "2019-07-09T21:48:36.000000123Z")
	f("format: '2006-01-02 15:04:05'", "2017-01-02 15:04:05", "2017-01-02T15:04:05Z")
	f("format: '2006-01-02 15:04:05', location: America/New_York", "2019-07-09 22:32:06", "2019-07-10T02:32:06Z")
	f("format: '2006-01-02 15:04:05,000'", "2017-01-02 15:04:05,123", "2017-01-02T15:04:05.123Z")
	f("format: UnixMs, fallback_formats: [Unix, RFC3339]", "2019-01-01T01:00:00Z", "2019-01-01T01:00:00Z")
	f("format: RFC3339, fallback_formats: [UnixMs]", "1562708916414", "2019-07-09T21:48:36.414Z")
	f("format: '2006'", "0001", "unchanged") // beyond what counts in nanoseconds

	// Without a year it is this one; the test's clock stands in March 2026.
	f("format: 'Jan _2 15:04:05'", "Mar  3 10:00:00", "2026-03-03T10:00:00Z")
	f("format: 'Jan _2 15:04:05'", "Dec 31 23:59:59", "2026-12-31T23:59:59Z")
}

func TestTimesWithoutYearAreNearNewYearsEve(t *testing.T) {
	l := newLayout("Jan _2 15:04:05")
	f := func(text, now, want string) {
		t.Helper()
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := l.parse([]byte(text), time.UTC, at)
		if s := time.Unix(0, got).UTC().Format(time.RFC3339); !ok || s != want {
			t.Errorf("%q at %s is %s, want %s", text, now, s, want)
		}
	}
	f("Dec 31 23:59:59", "2026-01-01T00:00:01Z", "2025-12-31T23:59:59Z")
	f("Jan  1 00:00:01", "2025-12-31T23:59:59Z", "2026-01-01T00:00:01Z")
	f("Jan  1 00:00:01", "2026-01-01T00:00:02Z", "2026-01-01T00:00:01Z")
}

func TestTimestampFudgesOrSkips(t *testing.T) {
	const parse = "- regex: {expression: 'ts=(?P<time>.*)'}\n"
	times := func(options string) []int64 {
		b := newBench(t, parse+"- timestamp: {source: time, format: RFC3339Nano"+options+"}")
		var all []int64
		zero := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
		for _, line := range []string{"first", "ts=2026-01-01T00:00:00Z", "none", "ts=bad", "ts=2026-01-01T00:00:01Z", "ts=2026-01-01T00:00:01Z", "none"} {
			e := b.one(line)
			if e.T == b.now.UnixNano() {
				all = append(all, -1)
			} else {
				all = append(all, e.T-zero)
			}
		}
		return all
	}
	f := func(options string, want ...int64) {
		t.Helper()
		got := times(options)
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: times = %v, want %v", options, got, want)
				return
			}
		}
	}
	f("", -1, 0, 1, 2, 1e9, 1e9, 1e9+1)
	f(", action_on_failure: fudge", -1, 0, 1, 2, 1e9, 1e9, 1e9+1)
	f(", action_on_failure: skip", -1, 0, -1, -1, 1e9, 1e9, -1)
	f(", action_on_duplicate_timestamp: fudge", -1, 0, 1, 2, 1e9, 1e9+1, 1e9+2)
	f(", action_on_failure: skip, action_on_duplicate_timestamp: fudge", -1, 0, -1, -1, 1e9, 1e9+1, -1)
}
