package store

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// logQuery is the part of LogQL that is understood here: a label selector and line filters.
type logQuery struct {
	matchers []*labels.Matcher
	filters  []lineFilter
}

// lineFilter is one of |= != |~ !~ with its argument.
type lineFilter struct {
	text string         // for |= and !=
	re   *regexp.Regexp // for |~ and !~
	not  bool
}

func (q logQuery) matchesStream(lset labels.Labels) bool {
	return !slices.ContainsFunc(q.matchers, func(m *labels.Matcher) bool { return !m.Matches(lset.Get(m.Name)) })
}

func (q logQuery) matchesLine(line string) bool {
	for _, f := range q.filters {
		has := strings.Contains(line, f.text)
		if f.re != nil {
			has = f.re.MatchString(line)
		}
		if has == f.not {
			return false
		}
	}
	return true
}

// parseLogQuery parses {label="value"} |= "text" != "text" |~ "regexp" !~ "regexp".
func parseLogQuery(text string) (q logQuery, err error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "{") {
		return q, fmt.Errorf("parse query %q: it must begin with a selector in braces; only a selector and line filters are answered here", text)
	}
	matchers, rest, err := kit.ParseSelectorPrefix(text)
	if err != nil {
		return q, fmt.Errorf("parse query %q: %w", text, err)
	}
	q.matchers = matchers
	if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches("") }) {
		return q, fmt.Errorf("parse query %q: at least one matcher must not match the empty value, as Loki demands", text)
	}
	for rest != "" {
		op := rest[:min(2, len(rest))]
		quoted, quoteErr := strconv.QuotedPrefix(strings.TrimSpace(rest[len(op):]))
		if quoteErr != nil || !slices.Contains([]string{"|=", "!=", "|~", "!~"}, op) {
			return q, fmt.Errorf("parse query %q: expected |=, !=, |~ or !~ and a quoted text at %q; other stages are not answered here", text, rest)
		}
		arg, err := strconv.Unquote(quoted)
		if err != nil {
			return q, fmt.Errorf("parse query %q: %w", text, err)
		}
		f := lineFilter{text: arg, not: op[0] == '!'}
		if op[1] == '~' {
			if f.re, err = regexp.Compile(arg); err != nil {
				return q, fmt.Errorf("parse query %q: %w", text, err)
			}
		}
		q.filters = append(q.filters, f)
		rest = strings.TrimSpace(strings.TrimSpace(rest[len(op):])[len(quoted):])
	}
	return q, nil
}

// queryLogs answers a range query of log lines in Loki's form. As with Loki, the default is
// the last hour, 100 lines, newest first.
func (s *Store) queryLogs(w http.ResponseWriter, r *http.Request) {
	q, errQuery := parseLogQuery(r.FormValue("query"))
	end, errEnd := nanosParam(r, "end", time.Now())
	span := time.Hour
	var errSince error
	if text := r.FormValue("since"); text != "" {
		var d model.Duration
		d, errSince = model.ParseDuration(text)
		span = time.Duration(d)
	}
	start, errStart := nanosParam(r, "start", time.Unix(0, end).Add(-span))
	limit, errLimit := 100, error(nil)
	if text := r.FormValue("limit"); text != "" {
		if limit, errLimit = strconv.Atoi(text); errLimit == nil && (limit <= 0 || limit > 1_000_000) {
			errLimit = fmt.Errorf("parameter limit: %d is not between 1 and 1000000", limit)
		}
	}
	direction := strings.ToLower(r.FormValue("direction"))
	err := errors.Join(errQuery, errStart, errEnd, errSince, errLimit)
	if err == nil && direction != "" && direction != "backward" && direction != "forward" {
		err = fmt.Errorf("parameter direction: %q is neither backward nor forward", direction)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest) // Loki's errors are plain text
		return
	}
	reply(w, "streams", group(s.logs.find(tenantName(r), q, start, end, limit, direction == "forward")))
}

// resultStream is one stream of an answer.
type resultStream struct {
	Stream labels.Labels `json:"stream"`
	Values [][2]string   `json:"values"`
}

// group puts lines with equal labels together and keeps their order.
func group(found []match) []*resultStream {
	streams := []*resultStream{} // an empty answer is [], not null
	byLabels := make(map[string]*resultStream)
	for _, m := range found {
		key := m.labels.String()
		st := byLabels[key]
		if st == nil {
			st = &resultStream{Stream: m.labels}
			byLabels[key] = st
			streams = append(streams, st)
		}
		st.Values = append(st.Values, [2]string{strconv.FormatInt(m.t, 10), m.line})
	}
	return streams
}

// nanosParam reads a time as Loki's API takes it: Unix nanoseconds, Unix seconds when there
// are at most ten digits or a fraction, or RFC 3339.
func nanosParam(r *http.Request, name string, fallback time.Time) (int64, error) {
	text := r.FormValue(name)
	if text == "" {
		return fallback.UnixNano(), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if len(text) <= 10 {
			return n * int64(time.Second), nil
		}
		return n, nil
	}
	if sec, err := strconv.ParseFloat(text, 64); err == nil && sec > -9e9 && sec < 9e9 {
		return int64(sec * 1e9), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, fmt.Errorf("parameter %s: %q is neither Unix nanoseconds nor seconds nor RFC 3339", name, text)
	}
	return t.UnixNano(), nil
}
