package scrape

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/expfmt"
)

const (
	// maxHeaderBytes is how much a target may send as headers.
	maxHeaderBytes = 64 << 10
	// maxRatio is how many times larger than its compressed form a response may be, once
	// it has more than ratioFrom bytes. Expositions reach about 30.
	maxRatio  = 200
	ratioFrom = 1 << 20
	// maxUnasked bounds a response in protobuf from a target that was not asked for it. Those
	// are read as a whole, which costs more than their size.
	maxUnasked = 8 << 20
)

// fetcher sends scrape requests and reads responses within limits. It is shared by all loops.
type fetcher struct {
	userAgent string
	near      []netip.Prefix // Networks whose targets answer uncompressed.
	buffers   *buffers
}

// newFetcher returns a fetcher for all targets of a manager.
func newFetcher(cfg Config, o Options) *fetcher {
	return &fetcher{userAgent: "Ingot/" + o.Version, near: cfg.IdentityNetworks, buffers: newBuffers(int(cfg.MaxBodiesInFlight), o.MemoryLimit)}
}

// request is what a target is asked with, and what is remembered of its answers. A target
// has one, made once; scrapes of a target do not overlap.
type request struct {
	cfg     *JobConfig
	timeout time.Duration
	http    *http.Request
	whole   bool // Any format is read as a whole.

	redirects   bool // The target has redirected, so that net/http's client is needed.
	contentType string
	format      expfmt.Format // Of contentType, which rarely changes and takes long to parse.
	last        int           // Bytes of the last answer that was read to its end.
}

// newRequest returns the request of a target.
func (f *fetcher) newRequest(t *target, cfg *JobConfig) (*request, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, t.url, http.NoBody)
	if err != nil {
		return nil, fail(reasonNetwork, "build the request: %w", config.WithoutURL(err))
	}
	req.Header.Set("Accept", acceptHeader(cfg))
	req.Header.Set("Accept-Encoding", encodingFor(cfg, f.near, req.URL.Hostname()))
	req.Header.Set("User-Agent", f.userAgent)
	req.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(t.timeout.Seconds(), 'f', -1, 64))
	return &request{cfg: cfg, timeout: t.timeout, http: req, whole: t.parsing.ConvertClassic, format: formatOf("", cfg.FallbackScrapeProtocol)}, nil
}

// open sends the request, reads the header of the answer and returns how the body is to be
// read. The scrape timeout runs from here to the end of the body. See [response] for what
// comes next, and for the errors.
func (f *fetcher) open(ctx context.Context, client *http.Client, ask *request, r *response) (expfmt.Format, error) {
	*r = response{from: f, ask: ask}
	if err := f.buffers.begin(); err != nil {
		return 0, err
	}
	r.timed, r.cancel = context.WithTimeout(ctx, ask.timeout)
	resp, err := ask.send(r.timed, client) //nolint:bodyclose // By r.close.
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
	if ct := resp.Header.Get("Content-Type"); ct != ask.contentType {
		ask.contentType, ask.format = ct, formatOf(ct, ask.cfg.FallbackScrapeProtocol)
	}
	r.whole = ask.whole || ask.format == expfmt.Proto
	r.limit = int(ask.cfg.BodySizeLimit)
	if ask.format == expfmt.Proto && !slices.Contains(ask.cfg.ScrapeProtocols, protocolProto) && (r.limit == 0 || r.limit > maxUnasked) {
		r.limit = maxUnasked
	}
	if r.limit > 0 && resp.ContentLength > int64(r.limit) {
		return 0, r.tooLarge()
	}
	if err := r.decode(resp.Header.Get("Content-Encoding")); err != nil {
		return 0, err
	}
	return ask.format, nil
}

// send sends the request. It goes around http.Client, which copies the header of each
// request in case there is a redirect, until the target sends one.
func (q *request) send(ctx context.Context, client *http.Client) (*http.Response, error) {
	req := q.http.WithContext(ctx)
	if !q.redirects && client.Transport != nil {
		resp, err := client.Transport.RoundTrip(req)
		if err != nil {
			return nil, config.WithoutURL(explained(err))
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
			return nil, fail(reasonRedirect, "follow redirects: %w", config.WithoutURL(err))
		}
		return nil, config.WithoutURL(err)
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
