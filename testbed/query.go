package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Series is one series of a query's result.
type Series struct {
	Labels  map[string]string
	Samples []Sample
}

// Sample is one value. Time has milliseconds.
type Sample struct {
	Time  time.Time
	Value float64
}

// PromQL evaluates query now, at Cortex, for one tenant. A selector with a range,
// like up[5m], returns the samples as they were written; any other vector has one
// sample a series, at the time of the query.
func (c *Cluster) PromQL(ctx context.Context, tenant, query string) ([]Series, error) {
	body, err := c.query(ctx, c.CortexURL+"/prometheus/api/v1/query", tenant, url.Values{"query": {query}})
	if err != nil {
		return nil, fmt.Errorf("query cortex for %s: %w", query, err)
	}
	series, err := parsePromQL(body)
	if err != nil {
		return nil, fmt.Errorf("query cortex for %s: %w", query, err)
	}
	return series, nil
}

func parsePromQL(body []byte) ([]Series, error) {
	var answer struct {
		Data struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if kind := answer.Data.ResultType; kind != "vector" && kind != "matrix" {
		return nil, fmt.Errorf("the result is a %s, not series", kind)
	}
	var result []struct {
		Metric map[string]string
		Value  *jsonSample
		Values []jsonSample
	}
	if err := json.Unmarshal(answer.Data.Result, &result); err != nil {
		return nil, err
	}
	series := make([]Series, len(result))
	for i, r := range result {
		series[i].Labels = r.Metric
		if r.Value != nil {
			r.Values = []jsonSample{*r.Value}
		}
		for _, v := range r.Values {
			series[i].Samples = append(series[i].Samples, Sample(v))
		}
	}
	return series, nil
}

// jsonSample reads [1700000000.123, "42"].
type jsonSample Sample

func (s *jsonSample) UnmarshalJSON(text []byte) error {
	var seconds float64
	var value string
	if err := json.Unmarshal(text, &[]any{&seconds, &value}); err != nil {
		return err
	}
	s.Time = time.UnixMilli(int64(math.Round(seconds * 1000)))
	var err error
	s.Value, err = strconv.ParseFloat(value, 64)
	return err
}

// Line is one log line.
type Line struct {
	Time     time.Time
	Text     string
	Labels   map[string]string // of its stream
	Metadata map[string]string // structured metadata
}

// LogQL returns the lines that query selects from Loki for one tenant, the oldest
// first, with times from start to before end, and no more than limit of them.
func (c *Cluster) LogQL(ctx context.Context, tenant, query string, start, end time.Time, limit int) ([]Line, error) {
	body, err := c.query(ctx, c.LokiURL+"/loki/api/v1/query_range", tenant, url.Values{
		"query":     {query},
		"start":     {strconv.FormatInt(start.UnixNano(), 10)},
		"end":       {strconv.FormatInt(end.UnixNano(), 10)},
		"limit":     {strconv.Itoa(limit)},
		"direction": {"forward"},
	})
	if err != nil {
		return nil, fmt.Errorf("query loki for %s: %w", query, err)
	}
	lines, err := parseLogQL(body)
	if err != nil {
		return nil, fmt.Errorf("query loki for %s: %w", query, err)
	}
	return lines, nil
}

// query asks one of the two backends.
func (c *Cluster) query(ctx context.Context, address, tenant string, args url.Values) ([]byte, error) {
	return c.get(ctx, address+"?"+args.Encode(), http.Header{
		"X-Scope-Orgid": {tenant},
		// Without it Loki adds the structured metadata to the stream's labels.
		"X-Loki-Response-Encoding-Flags": {"categorize-labels"},
	})
}

func parseLogQL(body []byte) ([]Line, error) {
	var answer struct {
		Data struct {
			ResultType string
			Result     []struct {
				Stream map[string]string
				Values []jsonLine
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if kind := answer.Data.ResultType; kind != "streams" {
		return nil, fmt.Errorf("the result is a %s, not streams", kind)
	}
	var lines []Line
	for _, r := range answer.Data.Result {
		for _, v := range r.Values {
			v.Labels = r.Stream
			lines = append(lines, Line(v))
		}
	}
	// Each stream is in order already; equal times keep the order within theirs.
	slices.SortStableFunc(lines, func(a, b Line) int { return a.Time.Compare(b.Time) })
	return lines, nil
}

// jsonLine reads ["1700000000000000000", "text", {"structuredMetadata": {...}}].
type jsonLine Line

func (l *jsonLine) UnmarshalJSON(text []byte) error {
	var stamp string
	var rest struct {
		StructuredMetadata map[string]string
	}
	if err := json.Unmarshal(text, &[]any{&stamp, &l.Text, &rest}); err != nil {
		return err
	}
	nanos, err := strconv.ParseInt(stamp, 10, 64)
	l.Time, l.Metadata = time.Unix(0, nanos), rest.StructuredMetadata
	return err
}
