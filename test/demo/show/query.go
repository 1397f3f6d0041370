package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// promQL evaluates an instant query and returns the value for each value of a label.
func (d *demo) promQL(ctx context.Context, query, label string) (map[string]float64, error) {
	var result []struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	if err := d.query(ctx, "/api/v1/query", url.Values{"query": {query}}, &result); err != nil {
		return nil, err
	}
	values := make(map[string]float64)
	for _, r := range result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("query %s: bad value %q", query, text)
		}
		values[r.Metric[label]] = v
	}
	return values, nil
}

// logLine is one line of the store.
type logLine struct {
	labels map[string]string
	t      time.Time
	text   string
}

// logQL returns the lines of the last time span (10s, 1w) that a query finds, newest first
// within each stream.
func (d *demo) logQL(ctx context.Context, query, since string) ([]logLine, error) {
	var result []struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	params := url.Values{"query": {query}, "limit": {"1000000"}, "since": {since}}
	if err := d.query(ctx, "/loki/api/v1/query_range", params, &result); err != nil {
		return nil, err
	}
	var lines []logLine
	for _, r := range result {
		for _, v := range r.Values {
			ns, err := strconv.ParseInt(v[0], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("query %s: bad time %q", query, v[0])
			}
			lines = append(lines, logLine{labels: r.Stream, t: time.Unix(0, ns), text: v[1]})
		}
	}
	return lines, nil
}

// query asks the store and decodes the result.
func (d *demo) query(ctx context.Context, path string, params url.Values, result any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.server.URL()+path+"?"+params.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("X-Scope-OrgID", tenant)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("query %s: %w", params.Get("query"), err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("query %s: %s: %s", params.Get("query"), resp.Status, body)
	}
	answer := struct {
		Data struct {
			Result any `json:"result"`
		} `json:"data"`
	}{}
	answer.Data.Result = result
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("query %s: %w", params.Get("query"), err)
	}
	return nil
}

// addresses says where to look and what to try.
func (d *demo) addresses() string {
	store := d.server.URL()
	return fmt.Sprintf(`
ADDRESSES
  ingot     %[1]s/                    index: status of targets, logs and queues, configuration
            %[1]s/metrics             its own metrics
  store     %[2]s%[3]s        takes remote write
            %[2]s%[4]s   takes Loki pushes
  files     %[5]s

TRY
  curl -s %[1]s/status/targets
  curl -sG %[2]s/api/v1/query -H 'X-Scope-OrgID: %[6]s' --data-urlencode 'query=sum by (job) (up)'
  curl -sG %[2]s/api/v1/query -H 'X-Scope-OrgID: %[6]s' --data-urlencode 'query=sum by (path) (rate(http_requests_total[30s]))'
  curl -sG %[2]s/loki/api/v1/query_range -H 'X-Scope-OrgID: %[6]s' --data-urlencode 'query={namespace="shop"} |= "500"' --data-urlencode limit=5

Ctrl-C ends the demo and removes everything.
`, d.ingot.URL(), store, kit.MetricsPath, kit.LogsPath, d.dir, tenant)
}
