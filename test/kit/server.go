package kit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves one handler on a loopback port. The port is chosen at the first [Server.Up]
// and stays the same, so that a test can take a backend away and bring it back.
type Server struct {
	handler http.Handler
	busy    sync.WaitGroup // the requests being served

	mu   sync.Mutex // guards addr, srv, done
	addr string
	srv  *http.Server
	done chan struct{} // closed when srv.Serve has returned
}

// NewServer returns a server that is down.
func NewServer(h http.Handler) *Server {
	return &Server{handler: h}
}

// Up starts to listen; it does nothing when the server is up.
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv != nil {
		return nil
	}
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	err := poll(context.Background(), 5*time.Second, func() (err error) {
		// The port may be another process' for a moment: it was free while we were down.
		ln, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	s.addr = ln.Addr().String()
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.busy.Add(1)
			defer s.busy.Done()
			s.handler.ServeHTTP(w, r)
		}),
	}
	done := make(chan struct{})
	s.srv, s.done = srv, done
	go func() {
		defer close(done)
		if serveErr := srv.Serve(ln); !errors.Is(serveErr, http.ErrServerClosed) {
			// Serve returns otherwise only when the listener broke, which nothing here does.
			panic(fmt.Sprintf("serve %s: %v", s.addr, serveErr))
		}
	}()
	return nil
}

// Down stops to listen, cuts every connection and returns when no request is being served
// any more. Until the next [Server.Up] connections are refused.
func (s *Server) Down() {
	s.mu.Lock()
	srv, done := s.srv, s.done
	s.srv, s.done = nil, nil
	s.mu.Unlock()
	if srv == nil {
		return
	}
	_ = srv.Close() // the listener is ours and open: closing it reports nothing of use
	<-done
	s.busy.Wait()
}

// Addr returns the host:port, "" before the first [Server.Up].
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// URL returns the root URL without a slash at its end.
func (s *Server) URL() string {
	return "http://" + s.Addr()
}
