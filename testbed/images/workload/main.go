// Command workload is the pod whose lines and metrics a test looks for: it logs
// numbered lines to stdout and stderr and serves /metrics in the text format. It
// does not vary by chance, so a test knows every line and every value from the
// flags. After its last line it goes on serving.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ingot-telemetry/ingot/testbed"
)

// options are the flags.
type options struct {
	run         string
	rate        float64
	count       int
	size        int
	stderrEvery int
	longEvery   int
	longSize    int
	listen      string
	exit        bool
}

// counters are what /metrics shows.
type counters struct {
	stdout, stderr, bytes atomic.Int64
}

func main() {
	var o options
	flag.StringVar(&o.run, "run", "run", "run `id`, part of every line")
	flag.Float64Var(&o.rate, "rate", 10, "lines a second")
	flag.IntVar(&o.count, "count", 0, "lines in all, 0 for no end")
	flag.IntVar(&o.size, "size", 100, "least bytes of a line")
	flag.IntVar(&o.stderrEvery, "stderr-every", 0, "each n-th line goes to stderr, 0 for none")
	flag.IntVar(&o.longEvery, "long-every", 0, "each n-th line is long, 0 for none")
	flag.IntVar(&o.longSize, "long-size", 40_000, "bytes of a long line; a container runtime splits above 16384")
	flag.StringVar(&o.listen, "listen", ":8080", "`address` of /metrics")
	flag.BoolVar(&o.exit, "exit", false, "end after the last line")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	var c counters
	failed := make(chan error, 2)
	go func() { failed <- serve(o, &c) }()
	go func() {
		err := writeLines(o, &c)
		if err != nil || o.exit {
			failed <- err
		}
	}()
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-end:
		return nil
	case err := <-failed:
		return err
	}
}

// writeLines keeps the rate over time: after a pause it catches up.
func writeLines(o options, c *counters) error {
	begin := time.Now()
	var buf []byte
	for seq := 1; o.count == 0 || seq <= o.count; seq++ {
		due := begin.Add(time.Duration(float64(seq-1) / o.rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		line, out, lines, size := testbed.WorkloadLine{Run: o.run, Seq: seq, Stream: "stdout"}, os.Stdout, &c.stdout, o.size
		if o.stderrEvery > 0 && seq%o.stderrEvery == 0 {
			line.Stream, out, lines = "stderr", os.Stderr, &c.stderr
		}
		if o.longEvery > 0 && seq%o.longEvery == 0 {
			size = o.longSize
		}
		buf = append(line.AppendLine(buf[:0], size), '\n')
		// Counted before it is written: a scrape never shows fewer lines than the log.
		lines.Add(1)
		c.bytes.Add(int64(len(buf)))
		if _, err := out.Write(buf); err != nil {
			return fmt.Errorf("write line %d: %w", seq, err)
		}
	}
	return nil
}

func serve(o options, c *counters) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		// The scraper went away if this fails.
		_, _ = fmt.Fprintf(w, `# HELP workload_lines_total Lines written.
# TYPE workload_lines_total counter
workload_lines_total{run=%[1]q,stream="stdout"} %[2]d
workload_lines_total{run=%[1]q,stream="stderr"} %[3]d
# HELP workload_bytes_total Bytes written, newlines included.
# TYPE workload_bytes_total counter
workload_bytes_total{run=%[1]q} %[4]d
# HELP workload_constant A value that never changes.
# TYPE workload_constant gauge
workload_constant{run=%[1]q} 42
# HELP workload_latency_seconds A histogram that never changes.
# TYPE workload_latency_seconds histogram
workload_latency_seconds_bucket{run=%[1]q,le="0.1"} 1
workload_latency_seconds_bucket{run=%[1]q,le="1"} 3
workload_latency_seconds_bucket{run=%[1]q,le="+Inf"} 4
workload_latency_seconds_sum{run=%[1]q} 3.5
workload_latency_seconds_count{run=%[1]q} 4
`, o.run, c.stdout.Load(), c.stderr.Load(), c.bytes.Load())
	})
	server := &http.Server{Addr: o.listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}
