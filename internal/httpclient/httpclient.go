// Package httpclient makes HTTP clients from Prometheus' configuration of TLS,
// authentication, proxies and headers, with three properties of Ingot: a client without a CA
// of its own trusts the program's bundle, a missing file fails the requests that need it and
// not the program, and credentials stay with the server they were configured for.
//
// Files are read again when they change, which is the work of prometheus/common. The package
// knows no retries, sets no timeouts (they come with the request's context) and no User-Agent,
// and logs nothing.
package httpclient

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// New returns a client for cfg. It opens no file: one that is missing or broken is the error
// of every request that needs it, until it is there. The error is that of [Validate]; the name
// says in it whose client it is.
//
// Redirects are followed where cfg says so. On a way that has left the scheme, host or port
// of the request, they carry no credentials, configured headers, client certificate or Referer.
func New(cfg promconfig.HTTPClientConfig, bundle TLS, name string) (*http.Client, error) {
	return build(cfg, bundle, name, tuning{
		buffers: 4 << 10, idle: 5 * time.Minute, idlePerHost: 1000, headerBytes: 1 << 20,
	})
}

// NewScraper returns a client as [New] does, for requests to many servers, each asked once in
// interval: a connection between two requests holds little memory and lives for more than
// two intervals, long answers are read in large pieces, and a header of more than 256 KiB is an
// error. Requests over plain HTTP without a proxy do not go through net/http's transport, see
// direct.
func NewScraper(cfg promconfig.HTTPClientConfig, bundle TLS, name string, interval time.Duration) (*http.Client, error) {
	return build(cfg, bundle, name, tuning{
		buffers: 1 << 10, ahead: newReadAhead(), direct: true, idle: 2*interval + 30*time.Second, idlePerHost: 100, headerBytes: 256 << 10,
	})
}

func build(cfg promconfig.HTTPClientConfig, bundle TLS, name string, t tuning) (*http.Client, error) {
	if err := Validate(&cfg); err != nil {
		return nil, fmt.Errorf("configure HTTP client of %s: %w", name, err)
	}
	cfg.TLSConfig = withBundle(cfg.TLSConfig, bundle)
	if cfg.OAuth2 != nil {
		o := *cfg.OAuth2
		o.TLSConfig = withBundle(o.TLSConfig, bundle)
		cfg.OAuth2 = &o
	}
	client := &http.Client{Transport: newTransport(cfg, t)}
	if !cfg.FollowRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	return client, nil
}

func withBundle(c promconfig.TLSConfig, bundle TLS) promconfig.TLSConfig {
	if c.CA == "" && c.CAFile == "" {
		c.CAFile = bundle.CAFile
	}
	return c
}

// transport is up to three round trippers, each built at the first request for it, because
// building reads the TLS files.
type transport struct {
	secure, plain, foreign lazy
	// plainProxy says that requests to http:// need no TLS on the way to a proxy either.
	plainProxy bool
}

func newTransport(cfg promconfig.HTTPClientConfig, tune tuning) *transport {
	t := &transport{
		secure:     lazy{cfg: cfg, tuning: tune},
		plain:      lazy{cfg: cfg, tuning: tune},
		foreign:    lazy{cfg: cfg, tuning: tune},
		plainProxy: !cfg.ProxyFromEnvironment && (cfg.ProxyURL.URL == nil || cfg.ProxyURL.Scheme != "https"),
	}
	// Without TLS a missing bundle must not matter, nor be read at each request.
	t.plain.cfg.TLSConfig = promconfig.TLSConfig{}
	f := &t.foreign.cfg
	f.BasicAuth, f.Authorization, f.OAuth2, f.HTTPHeaders = nil, nil, nil, nil
	f.TLSConfig.Cert, f.TLSConfig.CertFile = "", ""
	f.TLSConfig.Key, f.TLSConfig.KeyFile = "", ""
	return t
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch {
	case leftOrigin(req):
		return t.foreign.roundTrip(withoutCredentials(req))
	case req.URL.Scheme == "http" && t.plainProxy:
		return t.plain.roundTrip(req)
	default:
		return t.secure.roundTrip(req)
	}
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the connections.
func (t *transport) CloseIdleConnections() {
	for _, l := range []*lazy{&t.secure, &t.plain, &t.foreign} {
		l.mu.Lock()
		if c, ok := l.rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
		l.mu.Unlock()
	}
}

// leftOrigin reports whether req is a redirect and any hop on its way went to another
// scheme, host or port than the first request. Returning to it does not count as home: the
// way there was chosen by somebody else.
func leftOrigin(req *http.Request) bool {
	if req.Response == nil {
		return false
	}
	first := req
	for first.Response != nil && first.Response.Request != nil {
		first = first.Response.Request
	}
	for r := req; r != first; r = r.Response.Request {
		if r.URL.Scheme != first.URL.Scheme || !strings.EqualFold(hostPort(r), hostPort(first)) {
			return true
		}
	}
	return false
}

func hostPort(r *http.Request) string {
	port := r.URL.Port()
	if port == "" {
		port = r.URL.Scheme
		switch port {
		case "http":
			port = "80"
		case "https":
			port = "443"
		}
	}
	return r.URL.Hostname() + ":" + port
}

// withoutCredentials drops what the standard library copies from the first request as long as
// the host name stays the same, and the URL of the hop before, whose query may have a secret.
func withoutCredentials(req *http.Request) *http.Request {
	req = req.Clone(req.Context())
	req.Header.Del("Authorization")
	req.Header.Del("Cookie")
	req.Header.Del("Referer")
	return req
}

// lazy is a round tripper that is built at its first use.
type lazy struct {
	cfg    promconfig.HTTPClientConfig
	tuning tuning

	mu sync.Mutex // guards rt
	rt http.RoundTripper
}

func (l *lazy) roundTrip(req *http.Request) (*http.Response, error) {
	rt, err := l.get()
	if err != nil {
		if req.Body != nil {
			req.Body.Close() // As the contract of http.RoundTripper has it; nothing was read.
		}
		return nil, err
	}
	return rt.RoundTrip(req)
}

func (l *lazy) get() (http.RoundTripper, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rt != nil {
		return l.rt, nil
	}
	rt, err := newRoundTripper(l.cfg, l.tuning)
	if err != nil {
		return nil, fmt.Errorf("set up TLS: %w", err)
	}
	l.rt = rt
	return rt, nil
}
