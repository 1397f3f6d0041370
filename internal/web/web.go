// Package web serves what the program says about itself: metrics, health, the effective
// configuration and the status of its parts.
//
// Other packages hand in snapshots as plain functions ([Pages]), so that the pages know none
// of them. Everything is read-only and answers GET alone; nothing that a request carries
// reaches another part of the program. There is no authentication: listen on an address that
// only those reach who may read.
package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Pages is what the server shows. Its functions are called once a request, from several
// goroutines at a time, and must not block. A nil one leaves its page out, or says yes.
type Pages struct {
	// Version is shown on the index.
	Version string
	// Config returns the effective configuration as YAML, with secrets hidden.
	Config func() ([]byte, error)
	// Healthy returns why the process should be restarted, Ready why it should not be
	// counted on yet; nil when all is well.
	Healthy, Ready func() error
	// Targets, Logs, Queues, Kubernetes and Memory return snapshots that encoding/json can write.
	Targets, Logs, Queues, Kubernetes, Memory func() any
	// Profiling adds /debug/pprof/, which lets everybody who can connect slow the process
	// down and look into its memory. Default false.
	Profiling bool
}

// Server serves the pages.
type Server struct {
	listen string
	log    *slog.Logger
	http   *http.Server
}

// The server gives nobody much time or memory: its clients are near and its answers small. A
// profile takes 30 seconds by default, which the write timeout must leave room for.
const (
	readTimeout    = 10 * time.Second
	writeTimeout   = 60 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
	// stopTimeout is how long requests may take to end once the server is asked to stop.
	stopTimeout = time.Second
)

// New returns a server for the address listen, host:port, where port 0 takes a free one. The
// gatherer is what /metrics shows.
func New(listen string, log *slog.Logger, gatherer prometheus.Gatherer, pages Pages) *Server {
	return &Server{
		listen: listen,
		log:    log,
		http: &http.Server{
			Handler:           secured(routes(gatherer, pages)),
			ReadHeaderTimeout: readTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
	}
}

// Run listens and serves until ctx ends. It logs the real address as "listening". An address
// that cannot be listened on is an error.
func (s *Server) Run(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another address with --listen", s.listen, cause(err))
	}
	s.log.Info("listening", "address", ln.Addr().String())
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", s.listen, err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if s.http.Shutdown(stopping) != nil {
		s.http.Close() // Requests that do not end in time are cut.
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", s.listen, err)
	}
	return nil
}

// cause drops "listen tcp 127.0.0.1:1", which the caller has said already.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// routes is every page there is.
func routes(gatherer prometheus.Gatherer, p Pages) *http.ServeMux {
	mux := http.NewServeMux()
	var index []string
	page := func(path string, h http.Handler) {
		mux.Handle("GET "+path, h)
		index = append(index, path)
	}
	page("/metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		// A collector that fails must not hide all others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 8,
		Timeout:             writeTimeout / 2,
	}))
	page("/-/healthy", verdict(p.Healthy, "healthy"))
	page("/-/ready", verdict(p.Ready, "ready"))
	if p.Config != nil {
		page("/config", configuration(p.Config))
	}
	for _, s := range []struct {
		path     string
		snapshot func() any
	}{
		{"/status/targets", p.Targets},
		{"/status/logs", p.Logs},
		{"/status/queues", p.Queues},
		{"/status/kubernetes", p.Kubernetes},
		{"/status/memory", p.Memory},
	} {
		if s.snapshot != nil {
			page(s.path, status(s.snapshot))
		}
	}
	if p.Profiling {
		page("/debug/pprof/", http.HandlerFunc(pprof.Index))
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	mux.Handle("GET /{$}", indexPage(p.Version, index))
	return mux
}

// secured sets the headers that keep browsers from doing anything with a page but show it.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

func verdict(check func() error, yes string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if check != nil {
			if err := check(); err != nil {
				http.Error(w, "not "+yes+": "+err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		text(w, "text/plain", []byte(yes+"\n"))
	})
}

func configuration(yaml func() ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		out, err := yaml()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		// As text/plain a browser shows it; application/yaml it would download.
		text(w, "text/plain", out)
	})
}

func status(snapshot func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// Into memory first, so that what cannot be written is an error and not half a page.
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(snapshot()); err != nil {
			http.Error(w, fmt.Sprintf("write status as JSON: %v", err), http.StatusInternalServerError)
			return
		}
		text(w, "application/json", b.Bytes())
	})
}

func indexPage(version string, paths []string) http.Handler {
	var b strings.Builder
	b.WriteString("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Ingot</title>\n<h1>Ingot</h1>\n")
	fmt.Fprintf(&b, "<p>%s</p>\n<ul>\n", html.EscapeString(version))
	for _, p := range paths {
		fmt.Fprintf(&b, "<li><a href=\"%s\">%s</a></li>\n", p, p)
	}
	b.WriteString("</ul>\n</html>\n")
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { text(w, "text/html", []byte(b.String())) })
}

// text writes a whole answer. The client being gone is not our concern.
func text(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType+"; charset=utf-8")
	_, _ = w.Write(body)
}
