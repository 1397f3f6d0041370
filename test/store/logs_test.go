package store

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// field appends one protobuf field of bytes.
func field(dst []byte, num byte, b string) []byte {
	return append(binary.AppendUvarint(append(dst, num<<3|2), uint64(len(b))), b...)
}

// pushLines stores lines of one stream, 1 s apart from base on, with structured metadata pod.
func pushLines(t *testing.T, at, tenant, labels string, base time.Time, lines ...string) (int, string) {
	t.Helper()
	msg := field(nil, 1, labels)
	for i, line := range lines {
		when := base.Add(time.Duration(i) * time.Second)
		stamp := binary.AppendUvarint([]byte{1 << 3}, uint64(when.Unix()))
		stamp = binary.AppendUvarint(append(stamp, 2<<3), uint64(when.Nanosecond()))
		e := field(field(nil, 1, string(stamp)), 2, line)
		e = field(e, 3, string(field(field(nil, 1, "pod"), 2, "p-1")))
		msg = field(msg, 2, string(e))
	}
	return call(t, http.MethodPost, at+kit.LogsPath, tenant, snappy.Encode(nil, field(nil, 1, string(msg))))
}

func TestStoreAnswersLogQL(t *testing.T) {
	at := start(t, Config{})
	base := time.Now().Add(-time.Minute).Truncate(time.Second)
	ns := base.UnixNano()
	for range 2 { // the second time everything is an exact repeat
		if status, text := pushLines(t, at, "tiles", `{job="a",level="info"}`, base, "GET /a 200", "GET /b 500", "POST /a 200"); status != 204 {
			t.Fatalf("push = %d %s", status, text)
		}
	}
	if status, text := pushLines(t, at, "tiles", `{job="b"}`, base.Add(500*time.Millisecond), `quoted "x"`); status != 204 {
		t.Fatalf("push = %d %s", status, text)
	}
	line := func(i int, text string) string { return fmt.Sprintf(`["%d",%q]`, ns+int64(i)*1e9, text) }
	a := func(lines ...string) string {
		return `{"stream":{"job":"a","level":"info","pod":"p-1"},"values":[` + strings.Join(lines, ",") + `]}`
	}
	for _, tc := range []struct {
		query  string
		params []string
		want   string
	}{
		{`{job="a"}`, nil, a(line(2, "POST /a 200"), line(1, "GET /b 500"), line(0, "GET /a 200"))},
		{`{job="a"}`, []string{"direction", "forward", "limit", "2"}, a(line(0, "GET /a 200"), line(1, "GET /b 500"))},
		{`{job="a"}`, []string{"limit", "1"}, a(line(2, "POST /a 200"))},
		{`{job=~"a|c",level!="debug"} |= "/a" != "POST"`, nil, a(line(0, "GET /a 200"))},
		{`{job="a"} |~ "^GET.*[25]00$" !~ "2.."`, nil, a(line(1, "GET /b 500"))},
		{"{job=`b`} |= `\"x\"`", nil, `{"stream":{"job":"b","pod":"p-1"},"values":[["` + fmt.Sprint(ns+5e8) + `","quoted \"x\""]]}`},
		{`{job="a"}`, []string{"start", fmt.Sprint(ns + 1e9), "end", fmt.Sprint(ns + 2e9)}, a(line(1, "GET /b 500"))},
		{`{job="a"}`, []string{"since", "10s"}, ""},
		{`{job=~".+"} |= "nothing"`, nil, ""},
		{
			`{job=~".+"}`,
			[]string{"limit", "2", "direction", "FORWARD"},
			a(line(0, "GET /a 200")) + `,{"stream":{"job":"b","pod":"p-1"},"values":[["` + fmt.Sprint(ns+5e8) + `","quoted \"x\""]]}`,
		},
	} {
		status, got := get(t, at, "/loki/api/v1/query_range", "tiles", append([]string{"query", tc.query}, tc.params...)...)
		if status != 200 {
			t.Errorf("%s %v: %d %s", tc.query, tc.params, status, got)
			continue
		}
		sameJSON(t, fmt.Sprint(tc.query, tc.params), got, `{"status":"success","data":{"resultType":"streams","result":[`+tc.want+`]}}`)
	}
	_, got := get(t, at, "/loki/api/v1/query_range", "other", "query", `{job="a"}`)
	sameJSON(t, "another tenant", got, `{"status":"success","data":{"resultType":"streams","result":[]}}`)
}

func TestStoreRefusesWhatIsNoQueryOfItsPart(t *testing.T) {
	at := start(t, Config{})
	for _, params := range [][]string{
		{"query", ""},
		{"query", "job"},
		{"query", `{job="a"`},
		{"query", `{}`},
		{"query", `{job=~".*"}`},
		{"query", `rate({job="a"}[1m])`},
		{"query", `{job="a"} | json`},
		{"query", `{job="a"} |= x`},
		{"query", `{job="a"} |~ "("`},
		{"query", `{job="a"} |`},
		{"query", `{job="a"}`, "limit", "0"},
		{"query", `{job="a"}`, "start", "yesterday"},
		{"query", `{job="a"}`, "since", "x"},
		{"query", `{job="a"}`, "direction", "up"},
	} {
		if status, text := get(t, at, "/loki/api/v1/query_range", "", params...); status != 400 || text == "" {
			t.Errorf("%v = %d %q, want 400 with a reason", params, status, text)
		}
	}
}

func TestStoreKeepsTheNewestLinesWithinItsBound(t *testing.T) {
	at := start(t, Config{MaxLogBytes: 33_000})
	base := time.Now().Add(-time.Minute)
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	for from := 0; from < len(lines); from += 100 {
		job := fmt.Sprintf(`{job="%d"}`, from/500)
		if status, text := pushLines(t, at, "", job, base.Add(time.Duration(from)*time.Millisecond), lines[from:from+100]...); status != 204 {
			t.Fatalf("push = %d %s", status, text)
		}
	}
	_, got := get(t, at, "/loki/api/v1/query_range", "", "query", `{job=~".+"}`, "limit", "10000", "since", "2h", "end", fmt.Sprint(time.Now().Add(time.Hour).UnixNano()))
	if strings.Contains(got, `"line 0"`) || strings.Contains(got, `{"job":"0"`) || !strings.Contains(got, `"line 999"`) {
		t.Errorf("after eviction: %.300s ...", got)
	}
	n := strings.Count(got, `"line `)
	if n < 300 || n > 500 {
		t.Errorf("%d lines are left, want some 400", n)
	}
}

func TestStoreRefusesLinesAsLokiDoes(t *testing.T) {
	at := start(t, Config{})
	now := time.Now()
	if status, _ := pushLines(t, at, "", `{a="b"}`, now, "x"); status != 204 {
		t.Fatalf("push = %d", status)
	}
	for what, push := range map[string]func() (int, string){
		"entry too far behind":      func() (int, string) { return pushLines(t, at, "", `{a="b"}`, now.Add(-2*time.Hour), "x") },
		"at least one label pair":   func() (int, string) { return pushLines(t, at, "", `{}`, now, "x") },
		"max entry size":            func() (int, string) { return pushLines(t, at, "", `{a="b"}`, now, strings.Repeat("x", 300<<10)) },
		"snappy":                    func() (int, string) { return call(t, http.MethodPost, at+kit.LogsPath, "", []byte("garbage")) },
		"has timestamp too old":     func() (int, string) { return pushLines(t, at, "", `{c="d"}`, now.Add(-200*time.Hour), "x") },
		"error parsing labels '{a}": func() (int, string) { return pushLines(t, at, "", `{a}`, now, "x") },
	} {
		if status, text := push(); status != 400 || !strings.Contains(text, what) {
			t.Errorf("%d %s, want 400 with %q", status, text, what)
		}
	}
}
