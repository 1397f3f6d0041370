// Package app_test holds the process-level tests: the real program with real files and real
// signals between the honest receivers and targets of test/kit. They judge what the documents
// promise, by what arrives and by what the status pages say, and know nothing of the inside.
// Numbers such as L33 and R4 name the scenarios of logs and remote write, P6 and the like the
// promises that a test stands for.
//
// Ids are compared as sets. Waiting is always for the thing itself, with a bound; the only
// pauses are lives of random length before a SIGKILL.
package app_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// soon bounds what takes moments when all is well; a machine that is busy with other packages
// gets this much.
const soon = 30 * time.Second

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait far more than they compute, so more of them run at the same time than
	// there are processors, unless somebody said how many.
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "6"); err != nil {
			panic(err)
		}
	}
	os.Exit(kit.Main(m))
}

// seedVariable names the environment variable that repeats the random points of a run.
const seedVariable = "INGOT_TEST_SEED"

// random returns a source of random points whose seed is part of the output of the test.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text, ok := os.LookupEnv(seedVariable); ok {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d repeats the points of this run", seedVariable, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// between returns a random duration.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// interval is the time between two scrapes of a target in these tests, and the limit of one.
const interval = 500 * time.Millisecond

// deadline is the time after which a request that is not full is sent, for metrics and logs.
const deadline = 100 * time.Millisecond

// config puts a configuration together from flow mappings, one for each destination and job,
// and further top-level blocks.
func config(destinations, jobs []string, blocks ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "scrape: {interval: %s, timeout: %[1]s}\ndestinations:\n", interval)
	for _, d := range destinations {
		fmt.Fprintf(&b, "  - %s\n", d)
	}
	if len(jobs) > 0 {
		b.WriteString("scrape_configs:\n")
	}
	for _, j := range jobs {
		fmt.Fprintf(&b, "  - %s\n", j)
	}
	for _, block := range blocks {
		b.WriteString(block + "\n")
	}
	return b.String()
}

// prometheusTo is a destination for metrics; keys are further ones, each `key: value`.
func prometheusTo(name, url string, keys ...string) string {
	return destination(name, "prometheus", url, append(keys, "batch_send_deadline: "+deadline.String()))
}

// lokiTo is a destination for logs.
func lokiTo(name, url string, keys ...string) string {
	return destination(name, "loki", url, append(keys, "batch_wait: "+deadline.String()))
}

func destination(name, kind, url string, keys []string) string {
	return fmt.Sprintf("{name: %s, type: %s, url: %q, %s}", name, kind, url, strings.Join(keys, ", "))
}

// scrapeJob is a job over targets; keys are further ones, each `key: value`.
func scrapeJob(name string, targets []*kit.Target, keys ...string) string {
	var addresses []string
	for _, t := range targets {
		addresses = append(addresses, strconv.Quote(t.Addr()))
	}
	keys = append(keys, "static_configs: [{targets: ["+strings.Join(addresses, ", ")+"]}]")
	return fmt.Sprintf("{job_name: %s, %s}", name, strings.Join(keys, ", "))
}

// podLogs is the block that reads a tree of container logs.
func podLogs(dir string) string {
	return fmt.Sprintf("pod_logs: {enabled: true, path: %q, scan_interval: 200ms}", dir)
}

// targets starts n targets of some series each.
func targets(t *testing.T, n, series int) []*kit.Target {
	t.Helper()
	all := make([]*kit.Target, n)
	for i := range all {
		all[i] = kit.StartTarget(t, series)
	}
	return all
}

// queue is what /status/queues says about one destination, as far as these tests look.
type queue struct {
	Endpoint  string            `json:"endpoint"`
	URL       string            `json:"url"`
	State     string            `json:"state"`
	LastError string            `json:"last_error"`
	DiskError string            `json:"disk_error"`
	Put       amount            `json:"put"`
	Restored  amount            `json:"restored"`
	Sent      amount            `json:"sent"`
	Memory    amount            `json:"memory"`
	Disk      amount            `json:"disk"`
	Dropped   map[string]amount `json:"dropped"`
}

type amount struct {
	Blocks, Items, Bytes int64
}

// queues returns the state of all destinations by name.
func queues(p *kit.Process) (map[string]queue, error) {
	var all []queue
	if err := getJSON(p, "/status/queues", &all); err != nil {
		return nil, err
	}
	byName := make(map[string]queue)
	for _, q := range all {
		byName[q.Endpoint] = q
	}
	return byName, nil
}

// getJSON decodes one of ingot's own pages.
func getJSON(p *kit.Process, path string, into any) error {
	body, err := p.Get(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("decode %s: %w: %s", path, err, body)
	}
	return nil
}
