// Package sink is where the benchmark's collectors push to: a receiver of remote write 1.0
// and 2.0 and of Loki's push, on loopback, that takes everything and counts it. It can be away
// for a time, as a receiver behind a gateway whose backends are down.
//
// Bodies are read into buffers that are used again, decompressed, and their protobuf is
// walked without building anything, so that the receiver costs little beside the collector.
// [Metrics] counts samples by kind and adds up their values; asked to verify, it also keeps
// each series' last timestamp and finds repeats, disorder and missing stale markers. To remote
// write 2.0 it answers how much it has written. [Logs] knows each line by the number it
// carries, so it always verifies.
//
// It refuses only what it cannot read. Receivers as strict as the real ones are in package
// kit.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// maxBody bounds a request, compressed and not.
const maxBody = 256 << 20

// A request is a push that has been read.
type request struct {
	header http.Header
	body   []byte // Decompressed. It is used again once take has returned.
	wire   int    // Bytes of the body as it came.
	at     time.Time
}

// A server takes pushes and gives them to take, which may add headers to the answer.
type server struct {
	take    func(r request, answer http.Header) error
	zstd    *zstd.Decoder
	away    atomic.Bool
	srv     *http.Server
	url     string
	buffers sync.Pool
	done    sync.WaitGroup

	mu    sync.Mutex // guards wrong
	wrong error      // The first body that could not be read.
}

// buffers are one request's, compressed and not.
type buffers struct{ wire, plain []byte }

func newServer(ctx context.Context, path string, take func(request, http.Header) error) (*server, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("make decoder of receiver: %w", err)
	}
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen as receiver: %w", err)
	}
	s := &server{take: take, zstd: decoder, url: "http://" + l.Addr().String() + path}
	s.buffers.New = func() any { return new(buffers) }
	s.srv = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.done.Go(func() {
		if err := s.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.fail(err)
		}
	})
	return s, nil
}

// URL is the address to push to.
func (s *server) URL() string { return s.url }

// Away refuses every push with status 503 from now on, or takes them again.
func (s *server) Away(on bool) { s.away.Store(on) }

// Close ends the server and its connections.
func (s *server) Close() {
	_ = s.srv.Close() // Only the listener can fail to close, which ends it all the same.
	s.done.Wait()
	s.zstd.Close()
}

// Err returns why the first request that was refused since the last Reset could not be read.
func (s *server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wrong
}

// forgive forgets what was wrong so far.
func (s *server) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = nil
}

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wrong == nil {
		s.wrong = err
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.away.Load() {
		_, _ = io.Copy(io.Discard, r.Body) // What it is does not matter, nor whether it was whole.
		http.Error(w, "the receiver is away", http.StatusServiceUnavailable)
		return
	}
	b, _ := s.buffers.Get().(*buffers)
	defer s.buffers.Put(b)
	err := b.read(r)
	if err == nil {
		err = b.decompress(r.Header.Get("Content-Encoding"), s.zstd)
	}
	if err == nil {
		err = s.take(request{header: r.Header, body: b.plain, wire: len(b.wire), at: time.Now()}, w.Header())
	}
	if err != nil {
		s.fail(fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// read fills the buffer of what came.
func (b *buffers) read(r *http.Request) error {
	b.wire = b.wire[:0]
	body := http.MaxBytesReader(nil, r.Body, maxBody)
	for {
		if len(b.wire) == cap(b.wire) {
			b.wire = append(b.wire, make([]byte, 64<<10)...)[:len(b.wire)]
		}
		n, err := body.Read(b.wire[len(b.wire):cap(b.wire)])
		b.wire = b.wire[:len(b.wire)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read body: %w", err)
		}
	}
}

// decompress fills the other buffer. Loki's clients name no encoding and mean snappy.
func (b *buffers) decompress(encoding string, decoder *zstd.Decoder) (err error) {
	switch encoding {
	case "zstd":
		b.plain, err = decoder.DecodeAll(b.wire, b.plain[:0])
	case "snappy", "":
		var n int
		if n, err = s2.DecodedLen(b.wire); err != nil || n > maxBody {
			return fmt.Errorf("decompress body of %d bytes: %w", len(b.wire), errors.Join(err, errSize))
		}
		if cap(b.plain) < n {
			b.plain = make([]byte, n)
		}
		b.plain, err = s2.Decode(b.plain[:cap(b.plain)], b.wire)
	default:
		err = fmt.Errorf("the encoding %q is none of snappy and zstd", encoding)
	}
	if err != nil {
		return fmt.Errorf("decompress body: %w", err)
	}
	return nil
}

var errSize = errors.New("not snappy, or too large")
