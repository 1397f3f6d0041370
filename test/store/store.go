// Package store is a small backend for the demo: it takes remote write and Loki pushes and
// answers PromQL and a part of LogQL about them.
//
// Samples go into Prometheus' own TSDB, one for each tenant, and are queried with Prometheus'
// own engine. Log lines stay in memory, the oldest go first when a limit is reached, and are
// queried by label selector and line filters. Requests are decoded and checked by test/kit,
// so what is stored here has passed the same checks as in the tests.
//
// It is not a database: nothing is kept from one run to the next, no LogQL beyond filters is
// understood, and nobody is authenticated.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// Config says where and how much a [Store] keeps.
type Config struct {
	// Dir is an existing directory for the samples; the caller removes it after [Store.Close].
	Dir string
	// MaxLogBytes bounds the log lines of all tenants together; 0 means 64 MiB.
	MaxLogBytes int
}

// Store keeps samples and log lines by tenant. A request without X-Scope-OrgID belongs to
// the tenant [kit.AnonymousTenant].
type Store struct {
	cfg    Config
	log    *slog.Logger
	engine *promql.Engine
	logs   *logStore

	mu      sync.Mutex // guards the rest
	tenants map[string]*tsdb.DB
	closed  bool
}

// maxTenants bounds what the header of a request can make us open.
const maxTenants = 16

// maxBody bounds one request.
const maxBody = 64 << 20

// New returns an empty store; [Store.Handler] serves it and [Store.Close] ends it.
func New(cfg Config, log *slog.Logger) *Store {
	if cfg.MaxLogBytes == 0 {
		cfg.MaxLogBytes = 64 << 20
	}
	return &Store{
		cfg: cfg,
		log: log,
		engine: promql.NewEngine(promql.EngineOpts{
			Logger: log, MaxSamples: 5_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
			EnableAtModifier: true, EnableNegativeOffset: true, Parser: parser.NewParser(parser.Options{}),
		}),
		logs:    newLogStore(cfg.MaxLogBytes),
		tenants: make(map[string]*tsdb.DB),
	}
}

// Handler returns the routes of the store. Those of PromQL are there with and without Mimir's
// prefix /prometheus.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+kit.MetricsPath, s.pushMetrics)
	mux.HandleFunc("POST "+kit.LogsPath, s.pushLogs)
	for _, prefix := range []string{"", "/prometheus"} {
		mux.HandleFunc(prefix+"/api/v1/query", s.query)
		mux.HandleFunc(prefix+"/api/v1/query_range", s.queryRange)
	}
	mux.HandleFunc("/loki/api/v1/query_range", s.queryLogs)
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ready\n") // a client that left is no error of ours
	})
	return mux
}

// Close closes the databases. No request may be running or come any more.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for name, db := range s.tenants {
		if err := db.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close samples of tenant %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// tenant returns the database of a tenant. One that does not exist is created when create is
// set and nil otherwise.
func (s *Store) tenant(name string, create bool) (*tsdb.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if db := s.tenants[name]; db != nil || !create {
		return db, nil
	}
	if s.closed || len(s.tenants) >= maxTenants {
		return nil, fmt.Errorf("open tenant %q: there are %d already", name, len(s.tenants))
	}
	opts := tsdb.DefaultOptions()
	opts.WALSegmentSize = -1 // nothing here outlives the process
	// A directory by number: the name comes from a header and must not become a path.
	dir := filepath.Join(s.cfg.Dir, fmt.Sprintf("tenant-%d", len(s.tenants)))
	db, err := tsdb.Open(dir, s.log, nil, opts, nil)
	if err != nil {
		return nil, fmt.Errorf("open samples of tenant %q: %w", name, err)
	}
	s.tenants[name] = db
	return db, nil
}

// tenantName returns the tenant of a request.
func tenantName(r *http.Request) string {
	if name := r.Header.Get("X-Scope-OrgID"); name != "" {
		return name
	}
	return kit.AnonymousTenant
}

// readBody reads the body of a push within its limit.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
}

// reply writes a successful answer of the query APIs.
func reply(w http.ResponseWriter, resultType string, result any) {
	type data struct {
		ResultType string `json:"resultType"`
		Result     any    `json:"result"`
	}
	body, err := json.Marshal(struct {
		Status string `json:"status"`
		Data   data   `json:"data"`
	}{"success", data{resultType, result}})
	if err != nil {
		refuse(w, http.StatusInternalServerError, "internal", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that left is no error of ours
}

// refuse writes a failed answer of the query APIs.
func refuse(w http.ResponseWriter, status int, kind string, err error) {
	body, marshalErr := json.Marshal(map[string]string{"status": "error", "errorType": kind, "error": err.Error()})
	if marshalErr != nil {
		panic(marshalErr) // three strings marshal
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that left is no error of ours
}
