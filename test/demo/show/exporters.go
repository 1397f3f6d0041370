package main

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// exporters are the programs that expose metrics, each on an address of its own.
type exporters struct {
	jobs    []exporterJob
	servers []*kit.Server
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// exporterJob is the addresses of the exporters of one kind.
type exporterJob struct {
	name    string
	targets []string
}

// startExporters starts two shops, a database and a batch job whose metrics move.
func startExporters() (*exporters, error) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &exporters{cancel: cancel}
	for _, kind := range []struct {
		job   string
		count int
		build func(prometheus.Registerer, *rand.Rand) func()
	}{{"shop", 2, shopMetrics}, {"database", 1, databaseMetrics}, {"batch", 1, batchMetrics}} {
		job := exporterJob{name: kind.job}
		for i := range kind.count {
			reg := prometheus.NewRegistry()
			step := kind.build(reg, rand.New(rand.NewPCG(uint64(len(e.servers)), uint64(i))))
			srv := kit.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
			if err := srv.Up(); err != nil {
				e.stop()
				return nil, err
			}
			e.servers = append(e.servers, srv)
			job.targets = append(job.targets, srv.Addr())
			e.wg.Go(func() { every(ctx, 100*time.Millisecond, step) })
		}
		e.jobs = append(e.jobs, job)
	}
	return e, nil
}

// stop ends all exporters.
func (e *exporters) stop() {
	e.cancel()
	e.wg.Wait()
	for _, srv := range e.servers {
		srv.Down()
	}
}

// every calls f until ctx ends.
func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

// shopMetrics are those of a web server: requests by path and code, and how long they took.
func shopMetrics(reg prometheus.Registerer, rnd *rand.Rand) func() {
	requests := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "http_requests_total", Help: "The requests by path and status code.",
	}, []string{"path", "code"})
	seconds := promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "How long requests took.", Buckets: prometheus.DefBuckets,
	}, []string{"path"})
	open := promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "http_requests_in_flight", Help: "The requests being served."})
	paths := []string{"/", "/cart", "/checkout", "/search"}
	return func() {
		for range rnd.IntN(10) {
			path, code := paths[rnd.IntN(len(paths))], 200
			if rnd.IntN(50) == 0 {
				code = 500
			}
			requests.WithLabelValues(path, strconv.Itoa(code)).Inc()
			seconds.WithLabelValues(path).Observe(rnd.ExpFloat64() / 10)
		}
		open.Set(float64(rnd.IntN(8)))
	}
}

// databaseMetrics are those of a database: gauges by table and a summary.
func databaseMetrics(reg prometheus.Registerer, rnd *rand.Rand) func() {
	rows := promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: "db_table_rows", Help: "The rows of a table."}, []string{"table"})
	queries := promauto.With(reg).NewSummary(prometheus.SummaryOpts{
		Name: "db_query_duration_seconds", Help: "How long queries took.",
		Objectives: map[float64]float64{0.5: 0.05, 0.9: 0.01, 0.99: 0.001},
	})
	tables := []string{"orders", "customers", "products", "stock", `odd "name"`}
	return func() {
		rows.WithLabelValues(tables[rnd.IntN(len(tables))]).Add(float64(rnd.IntN(5)))
		queries.Observe(rnd.ExpFloat64() / 100)
	}
}

// batchMetrics are those of a job that runs now and then.
func batchMetrics(reg prometheus.Registerer, rnd *rand.Rand) func() {
	runs := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: "batch_runs_total", Help: "The runs by outcome."}, []string{"outcome"})
	last := promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: "batch_last_run_timestamp_seconds", Help: "When the last run ended."})
	last.SetToCurrentTime()
	runs.WithLabelValues("ok")
	return func() {
		if rnd.IntN(20) > 0 {
			return
		}
		outcome := "ok"
		if rnd.IntN(10) == 0 {
			outcome = "failed"
		}
		runs.WithLabelValues(outcome).Inc()
		last.SetToCurrentTime()
	}
}
