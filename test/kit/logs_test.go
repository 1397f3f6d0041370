package kit

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/snappy"
)

// pushLogs sends a Loki push and returns the status and the answer.
func pushLogs(t *testing.T, r *LogsReceiver, tenant string, streams ...PushStream) (int, string) {
	t.Helper()
	status, text, err := post(t.Context(), r.PushURL(), tenant, snappy.Encode(nil, encodePush(streams...)))
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

func TestLogsReceiverKeepsWhatItAccepted(t *testing.T) {
	r := StartLogs(t, LogsConfig{RequireTenant: true})
	now := time.Now().UnixNano()
	status, text := pushLogs(t, r, "a",
		pushStream(`{b="2", a="1"}`, PushEntry{T: now, Line: "seq=1 x", Metadata: []Pair{{"pod", "p"}, {"a", "hidden"}}}, PushEntry{T: now + 1, Line: ""}),
		pushStream(`{a="1",b="2"}`, PushEntry{T: now + 2, Line: "seq=2 x"}),
		pushStream("{a=`3`}", PushEntry{T: now, Line: "seq=3 \u2028\x00\x1b[0m"}))
	if status != http.StatusNoContent {
		t.Fatalf("push = %d %s", status, text)
	}
	pushLogs(t, r, "b", pushStream(`{a="1"}`, PushEntry{T: now, Line: "seq=4"}))

	if diff := cmp.Diff([]string{`{a="1", b="2"}`, `{a="3"}`}, r.Streams("a", "")); diff != "" {
		t.Errorf("Streams (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"seq=1 x", "", "seq=2 x"}, r.Texts("a", `{b=~"2"}`)); diff != "" {
		t.Errorf("Texts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4}, r.IDs("", "", regexp.MustCompile(`seq=(\d+)`))); diff != "" {
		t.Errorf("IDs (-want +got):\n%s", diff)
	}
	first := r.Lines("a", "")[0]
	if first.Get("pod") != "p" || first.Get("a") != "1" || first.T != now {
		t.Errorf("first line = %+v", first)
	}
	if status, _ := pushLogs(t, r, "", pushStream(`{a="1"}`, PushEntry{T: now, Line: "x"})); status != http.StatusUnauthorized {
		t.Errorf("push without a tenant = %d, want 401", status)
	}
}

func TestLogsReceiverDropsAndCountsExactRepeats(t *testing.T) {
	r := StartLogs(t, LogsConfig{})
	now := time.Now().UnixNano()
	for range 3 {
		if status, text := pushLogs(t, r, "", pushStream(`{a="1"}`, PushEntry{T: now, Line: "x"})); status != 204 {
			t.Fatalf("push = %d %s", status, text)
		}
	}
	pushLogs(t, r, "", pushStream(`{a="1"}`, PushEntry{T: now + 1, Line: "x"}), pushStream(`{a="2"}`, PushEntry{T: now, Line: "x"}))
	if got := len(r.Lines("", "")); got != 3 {
		t.Errorf("%d lines, want 3: another time or stream is another line", got)
	}
	if got := r.Repeats("", ""); got != 2 {
		t.Errorf("Repeats = %d, want 2", got)
	}
	// Other metadata makes another line; so does, for Loki, the end of a block in between.
	pushLogs(t, r, "", pushStream(`{a="1"}`, PushEntry{T: now, Line: "x", Metadata: []Pair{{"pod", "p"}}}))
	if got := len(r.Lines("", "")); got != 4 {
		t.Errorf("%d lines, want 4: other metadata make another line", got)
	}
	pushLogs(t, r, "", pushStream(`{a="1"}`, PushEntry{T: now + 2, Line: strings.Repeat("y", 256<<10)}, PushEntry{T: now, Line: "x"}, PushEntry{T: now, Line: "x"}))
	if got := r.Lines("", "")[0]; got.Repeats != 4 || got.Kept != 1 {
		t.Errorf("%d repeats and %d of them kept, want 4 and 1", got.Repeats, got.Kept)
	}
}

// The answer is about the last stream of the request alone, and about what the distributor
// found only when the ingester had nothing to say: an accounting by the answer has to know.
func TestLogsReceiverAnswersAsLokiDoes(t *testing.T) {
	limits := DefaultStreamLimits()
	limits.MaxStreams, limits.MaxBody = 2, 50_000
	r := StartLogs(t, LogsConfig{Limits: limits})
	now := time.Unix(time.Now().Unix(), 0).UTC()
	at := func(d time.Duration, line string) PushEntry { return PushEntry{T: now.Add(d).UnixNano(), Line: line} }
	long := at(0, strings.Repeat("x", limits.MaxLineSize+1))
	var all []PushEntry
	for range 12 {
		all = append(all, at(-2*time.Hour, "behind"))
	}
	behind := "entry with timestamp " + now.Add(-2*time.Hour).String() + " ignored, reason: 'entry too far behind, entry timestamp is: " +
		now.Add(-2*time.Hour).Format(time.RFC3339) + ", oldest acceptable timestamp is: " + now.Add(-time.Hour).Format(time.RFC3339) + "',\n"
	for _, tc := range []struct {
		name    string
		streams []PushStream
		status  int
		answer  string
	}{
		{"a first stream", []PushStream{pushStream(`{a="1"}`, at(0, "x"))}, 204, ""},
		{"lines too far behind", []PushStream{pushStream(`{a="1"}`, append(all, at(0, "good"))...)}, 400, strings.Repeat(behind, 10) + "user 'anonymous', total ignored: 12 out of 13 for stream: {a=\"1\"}"},
		{"the last stream is fine", []PushStream{pushStream(`{a="1"}`, all...), pushStream(`{a="2"}`, at(0, "x"))}, 204, ""},
		{"one stream too many", []PushStream{pushStream(`{a="3"}`, at(0, "x"))}, 429, "maximum active stream limit exceeded"},
		{"twice the same", []PushStream{pushStream(`{a="1"}`, long, long, at(0, "good"))}, 400, "2 errors like: max entry size"},
		{"the ingester speaks first", []PushStream{pushStream(`{a="1"}`, long, all[0])}, 400, behind + "user 'anonymous', total ignored: 1 out of 1"},
		{"no stream", nil, 422, "at least one valid stream"},
	} {
		if status, text := pushLogs(t, r, "", tc.streams...); status != tc.status || !strings.HasPrefix(strings.TrimPrefix(text, "error "), tc.answer) {
			t.Errorf("%s: %d %s, want %d %s", tc.name, status, text, tc.status, tc.answer)
		}
	}
	if status, text := pushLogs(t, r, "", pushStream(`{a="1"}`, at(0, string(noise(100_000))))); status != 413 {
		t.Errorf("a large body: %d %s, want 413", status, text)
	}
	if n := len(r.Refused()); n != 12+12+2+2 {
		t.Errorf("%d lines noted as refused, want 28", n)
	}
}

func TestLogsReceiverRefusesWhatLokiRefuses(t *testing.T) {
	now := time.Now()
	labels16 := strings.Repeat(`x,`, 16)
	for i := range 16 {
		labels16 = strings.Replace(labels16, "x", string(rune('a'+i))+`="v"`, 1)
	}
	good := PushEntry{T: now.UnixNano(), Line: "good"}
	for _, tc := range []struct {
		name   string
		stream PushStream
		reason string // "" when it is accepted
		whole  bool   // the whole request is refused
	}{
		{"no labels", pushStream(`{}`, good), "at least one label pair is required per stream", false},
		{"empty values only", pushStream(`{a=""}`, good), "at least one label pair is required per stream", false},
		{"syntax", pushStream(`{a=b}`, good), "couldn't parse labels", true},
		{"no braces", pushStream(`a="b"`, good), "couldn't parse labels", true},
		{"bad label name", pushStream(`{a-b="x"}`, good), "couldn't parse labels", true},
		{"label twice", pushStream(`{a="x",a="y"}`, good), "duplicate label name", true},
		{"not an equality", pushStream(`{a=~"x"}`, good), "couldn't parse labels", true},
		{"value not UTF-8", pushStream(`{a="\xff"}`, good), "invalid UTF-8", true},
		{"16 labels", pushStream(`{`+labels16+`}`, good), "has 16 label names; limit 15", false},
		{"15 labels and service_name", pushStream(`{service_name="s",`+strings.TrimSuffix(labels16, `p="v",`)+`}`, good), "", false},
		{"long label name", pushStream(`{`+strings.Repeat("a", 1025)+`="x"}`, good), "label name too long", false},
		{"long label value", pushStream(`{a="`+strings.Repeat("x", 2049)+`"}`, good), "label value too long", false},
		{"line at the limit", pushStream(`{a="b"}`, PushEntry{T: now.UnixNano(), Line: strings.Repeat("x", 256<<10)}), "", false},
		{"line over the limit", pushStream(`{a="b"}`, PushEntry{T: now.UnixNano(), Line: strings.Repeat("x", 256<<10+1)}), "max entry size '262144' bytes exceeded", false},
		{"too old", pushStream(`{a="b"}`, PushEntry{T: now.Add(-8 * 24 * time.Hour).UnixNano(), Line: "x"}), "timestamp too old", false},
		{"no time", pushStream(`{a="b"}`, PushEntry{Line: "x"}), "timestamp too old", false},
		{"too new", pushStream(`{a="b"}`, PushEntry{T: now.Add(time.Hour).UnixNano(), Line: "x"}), "timestamp too new", false},
		{"metadata twice", pushStream(`{a="b"}`, PushEntry{T: now.UnixNano(), Line: "x", Metadata: []Pair{{"k", "1"}, {"k", "2"}}}), "repeated name", false},
		{"big metadata", pushStream(`{a="b"}`, PushEntry{T: now.UnixNano(), Line: "x", Metadata: []Pair{{"k", strings.Repeat("x", 65<<10)}}}), "structured metadata too large", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := StartLogs(t, LogsConfig{})
			status, text := pushLogs(t, r, "", tc.stream, pushStream(`{rest="1"}`, good))
			if tc.reason == "" {
				if status != 204 || len(r.Refused()) > 0 {
					t.Errorf("push = %d %s, want 204", status, text)
				}
				return
			}
			if status != 400 || !strings.Contains(text, tc.reason) {
				t.Errorf("push = %d %s, want 400 with %q", status, text, tc.reason)
			}
			if tc.whole {
				if got := r.Streams("", ""); len(got) > 0 {
					t.Errorf("stored %v of a request that is refused as a whole", got)
				}
				return
			}
			if got := r.Streams("", ""); len(got) != 1 || got[0] != `{rest="1"}` {
				t.Errorf("stored %v, want the rest of the request and only that", got)
			}
			if got := r.Refused(); len(got) != 1 || !strings.Contains(got[0].Reason, tc.reason) {
				t.Errorf("Refused = %+v", got)
			}
		})
	}
}

func TestLogsReceiverTakesDisorderOnlyWithinAnHour(t *testing.T) {
	r := StartLogs(t, LogsConfig{})
	now := time.Now()
	at := func(d time.Duration, line string) PushEntry { return PushEntry{T: now.Add(d).UnixNano(), Line: line} }
	status, text := pushLogs(t, r, "", pushStream(`{a="b"}`,
		at(0, "newest"), at(-59*time.Minute, "late"), at(-61*time.Minute, "too late"), at(time.Second, "after")))
	if status != 400 || !strings.Contains(text, "entry too far behind") {
		t.Errorf("push = %d %s, want 400 entry too far behind", status, text)
	}
	if diff := cmp.Diff([]string{"newest", "late", "after"}, r.Texts("", "")); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	var late []string
	for _, l := range r.Lines("", "") {
		if l.Late {
			late = append(late, l.Text)
		}
	}
	if diff := cmp.Diff([]string{"late"}, late); diff != "" {
		t.Errorf("late (-want +got):\n%s", diff)
	}
	if status, _ := pushLogs(t, r, "", pushStream(`{a="c"}`, at(-2*time.Hour, "old stream"))); status != 204 {
		t.Errorf("an old line of another stream = %d, want 204", status)
	}
}

func TestLogsReceiverChecksTheRequest(t *testing.T) {
	r := StartLogs(t, LogsConfig{})
	good := encodePush(pushStream(`{a="b"}`, PushEntry{T: time.Now().UnixNano(), Line: "x"}))
	notUTF8 := encodePush(pushStream(`{a="b"}`, PushEntry{T: time.Now().UnixNano(), Line: "\xff\xfe"}))
	badNanos := appendBytes(nil, 1, appendBytes(appendBytes(nil, 1, []byte(`{a="b"}`)), 2, appendBytes(nil, 1, []byte{1 << 3, 1, 2 << 3, 0xff, 0xff, 0xff, 0xff, 0x0f})))
	for _, tc := range []struct {
		reason string
		header http.Header
		body   []byte
	}{
		{"content type", http.Header{"Content-Type": {"application/json"}}, snappy.Encode(nil, good)},
		{"content encoding", http.Header{"Content-Encoding": {"gzip"}}, snappy.Encode(nil, good)},
		{"snappy: corrupt", nil, good},
		{"ends inside a field", nil, snappy.Encode(nil, good[:len(good)-1])},
		{"not valid UTF-8", nil, snappy.Encode(nil, notUTF8)},
		{"4294967295 nanoseconds", nil, snappy.Encode(nil, badNanos)},
		{"another type", nil, snappy.Encode(nil, appendBytes(nil, 1, []byte{1 << 3, 7}))},
	} {
		status, text, err := postHeader(t.Context(), r.PushURL(), "", tc.body, tc.header)
		if err != nil || status != 400 || !strings.Contains(text, tc.reason) {
			t.Errorf("%d %s %v, want 400 with %q", status, text, err, tc.reason)
		}
	}
	if got := r.Lines("", ""); len(got) > 0 {
		t.Errorf("stored %v from bad requests", got)
	}
	unknown := append(encodePush(pushStream(`{a="b"}`, PushEntry{T: time.Now().UnixNano(), Line: "x"})), 9<<3, 1)
	if status, text, err := post(t.Context(), r.PushURL(), "", snappy.Encode(nil, unknown)); err != nil || status != 204 {
		t.Errorf("an unknown field: %d %s %v, want 204", status, text, err)
	}
}
