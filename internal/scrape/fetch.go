package scrape

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
)

const (
	// maxHeaderBytes is how much a target may send as headers.
	maxHeaderBytes = 64 << 10
	// maxRatio is how many times larger than its compressed form a response may be, once
	// it has more than ratioFrom bytes. Expositions reach about 30.
	maxRatio  = 200
	ratioFrom = 1 << 20
)

// fetcher sends scrape requests and reads responses within limits. It is shared by all loops.
type fetcher struct {
	userAgent string
	near      []netip.Prefix // Networks whose targets answer uncompressed.
	buffers   *buffers
	unzip     sync.Pool // of *gzip.Reader
}

// newFetcher returns a fetcher for all targets of a manager. max bounds the bytes of all
// responses being read, 0 is no limit.
func newFetcher(cfg Config, version string) *fetcher {
	return &fetcher{userAgent: "Ingot/" + version, near: cfg.IdentityNetworks, buffers: newBuffers(int(cfg.MaxBodiesInFlight))}
}

// request is what a target is asked with, and what is remembered of its answers. A target
// has one, made once; scrapes of a target do not overlap.
type request struct {
	cfg     *JobConfig
	timeout time.Duration
	http    *http.Request

	redirects   bool // The target has redirected, so that net/http's client is needed.
	contentType string
	format      expfmt.Format // Of contentType.
	last        int           // Bytes of the last answer that was read to its end.
}

// newRequest returns the request of a target.
func (f *fetcher) newRequest(t *target, cfg *JobConfig) (*request, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, t.url, http.NoBody)
	if err != nil {
		return nil, fail(reasonNetwork, "build the request: %w", withoutURL(err))
	}
	req.Header.Set("Accept", acceptHeader(cfg))
	req.Header.Set("Accept-Encoding", encodingFor(cfg, f.near, req.URL.Hostname()))
	req.Header.Set("User-Agent", f.userAgent)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(t.timeout.Seconds(), 'f', -1, 64))
	return &request{cfg: cfg, timeout: t.timeout, http: req, format: formatOf("", cfg.FallbackScrapeProtocol)}, nil
}

// open sends the request, reads the header of the answer and returns how the body is to be
// read. The scrape timeout runs from here to the end of the body. See [response] for what
// comes next, and for the errors.
func (f *fetcher) open(ctx context.Context, client *http.Client, ask *request, r *response) (expfmt.Format, error) {
	*r = response{from: f, ask: ask}
	r.timed, r.cancel = context.WithTimeout(ctx, ask.timeout)
	resp, err := ask.send(r.timed, client)
	if err != nil {
		return 0, r.timeout(err)
	}
	r.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		return 0, fail(reasonStatus, "server returned HTTP status %s", resp.Status)
	}
	if err := checkHeaderSize(resp.Header); err != nil {
		return 0, err
	}
	if limit := int64(ask.cfg.BodySizeLimit); limit > 0 && resp.ContentLength > limit {
		return 0, bodyTooLarge(ask.cfg)
	}
	if err := r.decode(resp.Header.Get("Content-Encoding")); err != nil {
		return 0, err
	}
	if ct := resp.Header.Get("Content-Type"); ct != ask.contentType {
		ask.contentType, ask.format = ct, formatOf(ct, ask.cfg.FallbackScrapeProtocol)
	}
	r.whole = ask.format == expfmt.Proto || *ask.cfg.ConvertClassicHistogramsToNHCB
	return ask.format, nil
}

// send sends the request. It goes around http.Client, which copies the header of each
// request in case there is a redirect, until the target sends one.
func (q *request) send(ctx context.Context, client *http.Client) (*http.Response, error) {
	req := q.http.WithContext(ctx)
	if !q.redirects && client.Transport != nil {
		resp, err := client.Transport.RoundTrip(req)
		if err != nil {
			return nil, withoutURL(explained(err))
		}
		if resp.StatusCode/100 != 3 || resp.Header.Get("Location") == "" {
			return resp, nil
		}
		resp.Body.Close()
		q.redirects = true
	}
	resp, err := client.Do(req)
	if err != nil {
		if resp != nil { // Only when following redirects ended.
			return nil, fail(reasonRedirect, "follow redirects: %w", withoutURL(err))
		}
		return nil, withoutURL(err)
	}
	return resp, nil
}

// explained gives the error of an HTTPS request to an HTTP server the words that
// http.Client has for it.
func explained(err error) error {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(e.RecordHeader[:]) == "HTTP/" {
		return http.ErrSchemeMismatch
	}
	return err
}

// request returns the request of a target; it is built once and sent with the context of
// each scrape.
func (f *fetcher) request(t *target, cfg *JobConfig) (*http.Request, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, t.url, http.NoBody)
	if err != nil {
		return nil, fail(reasonNetwork, "build the request: %w", withoutURL(err))
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4;q=0.6,*/*;q=0.5")
	req.Header.Set("Accept-Encoding", encodingFor(cfg, f.near, req.URL.Hostname()))
	req.Header.Set("User-Agent", f.userAgent)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(t.timeout.Seconds(), 'f', -1, 64))
	return req, nil
}

// fetch sends the request and reads the response into body. ctx carries the timeout.
func (f *fetcher) fetch(ctx context.Context, client *http.Client, req *http.Request, cfg *JobConfig, body *body) error {
	resp, err := client.Do(req.WithContext(ctx))
	if err != nil {
		if resp != nil { // Only when following redirects ended.
			return fail(reasonRedirect, "follow redirects: %w", withoutURL(err))
		}
		return withoutURL(err)
	}
	// A body that was not read to its end costs the connection, which is cheaper than
	// reading on what may never end.
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(reasonStatus, "server returned HTTP status %s", resp.Status)
	}
	if err := checkHeader(resp.Header); err != nil {
		return err
	}
	limit := int(cfg.BodySizeLimit)
	if declared := resp.ContentLength; limit > 0 && declared > int64(limit) {
		return bodyTooLarge(cfg)
	}
	switch encoding := resp.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return body.read(resp.Body, limit, resp.ContentLength, func() error { return nil }, cfg)
	case "gzip", "x-gzip":
		return f.readGzip(resp.Body, limit, body, cfg)
	default:
		return fail(reasonEncoding, "content encoding is %q, which was not asked for", encoding)
	}
}

func (f *fetcher) readGzip(r io.Reader, limit int, body *body, cfg *JobConfig) error {
	counted := &countingReader{r: r}
	z, _ := f.unzip.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	defer f.unzip.Put(z)
	err := z.Reset(counted)
	if err == nil {
		err = body.read(z, limit, -1, func() error {
			if n := len(body.b); n > ratioFrom && n/maxRatio > counted.n {
				return fail(reasonBodyLimit, "response decompresses to more than %d times its size", maxRatio)
			}
			return nil
		}, cfg)
	}
	if _, known := errors.AsType[*failure](err); err != nil && !known && !counted.failed {
		return fail(reasonEncoding, "decompress the response: %w", err)
	}
	return err
}

// countingReader tells how much was read, and whether an error came from below.
type countingReader struct {
	r      io.Reader
	n      int
	failed bool
}

// Read implements io.Reader.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	c.failed = c.failed || err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// checkHeader refuses headers that are too large and formats that Ingot does not read. An
// absent, unknown or unreadable content type is taken for text: the parser will tell.
func checkHeader(h http.Header) error {
	if err := checkHeaderSize(h); err != nil {
		return err
	}
	switch mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type")); mediaType {
	case "application/openmetrics-text":
		return fail(reasonContentType, "target answers in OpenMetrics although text/plain;version=0.0.4 was asked for, and Ingot reads the text format only")
	case "application/vnd.google.protobuf":
		return fail(reasonContentType, "target answers in protobuf although text/plain;version=0.0.4 was asked for, and Ingot reads the text format only")
	}
	return nil
}

// checkHeaderSize refuses headers that are too large.
func checkHeaderSize(h http.Header) error {
	size := 0
	for name, values := range h {
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	if size > maxHeaderBytes {
		return fail(reasonHeaders, "response headers have %d bytes, limit is %d", size, maxHeaderBytes)
	}
	return nil
}

func bodyTooLarge(cfg *JobConfig) error {
	return fail(reasonBodyLimit, "body_size_limit exceeded: the response has more than %s", cfg.BodySizeLimit)
}

// bodies lends out buffers for responses and bounds what all of them hold together.
type bodies struct {
	free chan []byte

	mu   sync.Mutex // guards held
	held int        // Bytes of all buffers that are lent.
	max  int        // 0 is no limit.
}

func newBodies(n, limit int) *bodies {
	return &bodies{free: make(chan []byte, n), max: limit}
}

// body is a lent buffer and the response in it.
type body struct {
	b    []byte
	from *bodies
}

// lend returns an empty buffer.
func (s *bodies) lend() *body {
	body := &body{from: s}
	select {
	case b := <-s.free:
		if s.take(cap(b)) == nil {
			body.b = b[:0]
		}
	default:
	}
	return body
}

// giveBack ends the use of a buffer. One that finds no place is left to the collector.
func (s *bodies) giveBack(body *body) {
	s.mu.Lock()
	s.held -= cap(body.b)
	s.mu.Unlock()
	if cap(body.b) > 0 {
		select {
		case s.free <- body.b[:0]:
		default:
		}
	}
	body.b = nil
}

func (s *bodies) take(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.max > 0 && s.held+n > s.max {
		return fail(reasonBudget, "max_bodies_in_flight exceeded: the responses being read have more than %d bytes", s.max)
	}
	s.held += n
	return nil
}

// grow makes room for at least one more byte.
func (b *body) grow(size int) error {
	if size <= cap(b.b) {
		return nil
	}
	if err := b.from.take(size - cap(b.b)); err != nil {
		return err
	}
	larger := make([]byte, len(b.b), size)
	copy(larger, b.b)
	b.b = larger
	return nil
}

const (
	smallestBody = 16 << 10
	// largestGuess bounds what a declared length alone makes us allocate.
	largestGuess = 4 << 20
)

// read reads r to its end. size is the length that r has, -1 when not known; check is asked
// after each piece.
func (b *body) read(r io.Reader, limit int, size int64, check func() error, cfg *JobConfig) error {
	want := smallestBody
	if size >= 0 {
		want = int(min(size, largestGuess)) + 1 // So that the end is seen without another buffer.
	}
	if err := b.grow(want); err != nil {
		return err
	}
	for {
		if len(b.b) == cap(b.b) {
			size := 2 * cap(b.b)
			if limit > 0 {
				size = min(size, max(limit+1, cap(b.b)+1))
			}
			if err := b.grow(size); err != nil {
				return err
			}
		}
		n, err := r.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		if limit > 0 && len(b.b) > limit {
			return bodyTooLarge(cfg)
		}
		if refused := check(); refused != nil {
			return refused
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the response: %w", err)
		}
	}
}
