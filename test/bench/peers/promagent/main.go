// Command promagent is `prometheus --agent` for the benchmark: Prometheus' own scrape
// manager, agent storage and remote-write queue, put together as its command does, with the
// same defaults. It has no pages, no rules, and of service discovery only static_configs,
// which cost nothing while they run.
//
//	promagent CONFIG DATADIR
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/agent"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/prometheus/prometheus/util/logging"
)

// flushDeadline is how long the queue may take at the end, as in Prometheus.
const flushDeadline = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: promagent CONFIG DATADIR")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "promagent:", err)
		os.Exit(1)
	}
}

// scraper gives the remote storage the scrape manager, which is made after it.
type scraper struct{ manager *scrape.Manager }

func (s *scraper) Get() (*scrape.Manager, error) { return s.manager, nil }

func run(ctx context.Context, file, dir string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg, err := config.LoadFile(file, true, log)
	if err != nil {
		return err
	}
	debug.SetGCPercent(cfg.Runtime.GoGC) // 75 unless told otherwise.

	var db *agent.DB
	ready := &scraper{}
	reg := prometheus.NewRegistry()
	away := remote.NewStorage(log, reg, func() (int64, error) { return db.StartTime() }, dir, flushDeadline, ready, false)
	opts := agent.DefaultOptions()
	opts.WALCompression = compression.Snappy
	if db, err = agent.Open(log, reg, away, dir, opts); err != nil {
		return err
	}
	db.SetWriteNotified(away)
	both := storage.NewFanout(log, db, away)
	if ready.manager, err = scrape.NewManager(&scrape.Options{}, log, logging.NewJSONFileLogger, nil, both, reg); err != nil {
		return err
	}
	if err = away.ApplyConfig(cfg); err != nil {
		return err
	}
	if err = ready.manager.ApplyConfig(cfg); err != nil {
		return err
	}
	groups, err := static(cfg)
	if err != nil {
		return err
	}
	found := make(chan map[string][]*targetgroup.Group, 1)
	found <- groups
	go func() {
		<-ctx.Done()
		ready.manager.Stop()
	}()
	if err = ready.manager.Run(found); err != nil {
		return err
	}
	return both.Close()
}

// static returns the targets of all jobs.
func static(cfg *config.Config) (map[string][]*targetgroup.Group, error) {
	jobs, err := cfg.GetScrapeConfigs()
	if err != nil {
		return nil, err
	}
	all := map[string][]*targetgroup.Group{}
	for _, job := range jobs {
		for _, sd := range job.ServiceDiscoveryConfigs {
			groups, ok := sd.(discovery.StaticConfig)
			if !ok {
				return nil, fmt.Errorf("job %s: %s is not supported here", job.JobName, sd.Name())
			}
			all[job.JobName] = append(all[job.JobName], groups...)
		}
	}
	return all, nil
}
