package httpclient

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	promconfig "github.com/prometheus/common/config"
	"go.uber.org/goleak"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is a handler that keeps the headers of every request.
type seen struct {
	mu      sync.Mutex // guards headers
	headers []http.Header
	serve   http.HandlerFunc
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.headers = append(s.headers, r.Header.Clone())
	s.mu.Unlock()
	if s.serve != nil {
		s.serve(w, r)
	}
}

func (s *seen) last(t *testing.T) http.Header {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.headers) == 0 {
		t.Fatal("the server saw no request")
	}
	return s.headers[len(s.headers)-1]
}

func newClient(t *testing.T, cfg promconfig.HTTPClientConfig, bundle TLS) *http.Client {
	t.Helper()
	c, err := New(cfg, bundle, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func get(t *testing.T, c *http.Client, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func certificate(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func TestTheBundleIsTrustedByClientsWithoutACA(t *testing.T) {
	s := httptest.NewTLSServer(&seen{})
	defer s.Close()
	dir := t.TempDir()
	bundle, other := TLS{CAFile: filepath.Join(dir, "bundle.pem")}, filepath.Join(dir, "other.pem")
	write(t, bundle.CAFile, certificate(s))

	if err := get(t, newClient(t, promconfig.DefaultHTTPClientConfig, TLS{}), s.URL); err == nil {
		t.Error("an unknown certificate was trusted")
	}
	if err := get(t, newClient(t, promconfig.DefaultHTTPClientConfig, bundle), s.URL); err != nil {
		t.Errorf("with the bundle: %v", err)
	}
	own := promconfig.DefaultHTTPClientConfig
	own.TLSConfig.CAFile = other
	write(t, other, certificate(s))
	if err := get(t, newClient(t, own, TLS{CAFile: filepath.Join(dir, "none.pem")}), s.URL); err != nil {
		t.Errorf("a client with a CA of its own needs the bundle: %v", err)
	}
}

func TestAMissingCAFailsRequestsUntilItIsThere(t *testing.T) {
	s := httptest.NewTLSServer(&seen{})
	defer s.Close()
	plain := httptest.NewServer(&seen{})
	defer plain.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	c := newClient(t, promconfig.DefaultHTTPClientConfig, TLS{CAFile: ca})

	err := get(t, c, s.URL)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), ca) {
		t.Errorf("without the file: %v, want one that names it", err)
	}
	if err := get(t, c, plain.URL); err != nil {
		t.Errorf("plain HTTP needs the bundle: %v", err)
	}
	write(t, ca, []byte("no certificate"))
	if err := get(t, c, s.URL); err == nil || !strings.Contains(err.Error(), ca) {
		t.Errorf("with a broken file: %v", err)
	}
	write(t, ca, certificate(s))
	if err := get(t, c, s.URL); err != nil {
		t.Errorf("the file is there, but: %v", err)
	}
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	if err := get(t, c, s.URL); err == nil {
		t.Error("the file is gone and nobody noticed")
	}
	write(t, ca, certificate(s))
	if err := get(t, c, s.URL); err != nil {
		t.Errorf("the file is back, but: %v", err)
	}
}

func TestCredentialFilesAreReadAgain(t *testing.T) {
	h := &seen{}
	s := httptest.NewServer(h)
	defer s.Close()
	file := filepath.Join(t.TempDir(), "password")
	cfg := promconfig.DefaultHTTPClientConfig
	cfg.BasicAuth = &promconfig.BasicAuth{Username: "tiles", PasswordFile: file}
	c := newClient(t, cfg, TLS{})

	if err := get(t, c, s.URL); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	for _, password := range []string{"first", "second"} {
		write(t, file, []byte(password+"\n"))
		if err := get(t, c, s.URL); err != nil {
			t.Fatal(err)
		}
		r := http.Request{Header: h.last(t)}
		if user, got, _ := r.BasicAuth(); user != "tiles" || got != password {
			t.Errorf("sent %q and %q, want tiles and %q", user, got, password)
		}
	}
}

func TestRedirectsToElsewhereCarryNoCredentials(t *testing.T) {
	elsewhere := &seen{}
	other := httptest.NewServer(elsewhere) // The same host, another port.
	defer other.Close()
	home := &seen{serve: func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/x", http.StatusFound)
		case "/slash":
			http.Redirect(w, r, "/slash/", http.StatusMovedPermanently)
		case "/back":
			http.Redirect(w, r, other.URL+"/back", http.StatusFound)
		}
	}}
	s := httptest.NewServer(home)
	defer s.Close()
	elsewhere.serve = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" {
			http.Redirect(w, r, s.URL+"/done", http.StatusFound)
		}
	}
	cfg := promconfig.DefaultHTTPClientConfig
	cfg.Authorization = &promconfig.Authorization{Type: "Bearer", Credentials: "hunter2"}
	cfg.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Key": {Secrets: []promconfig.Secret{"hunter3"}}}}
	c := newClient(t, cfg, TLS{})
	f := func(path string, h *seen, want bool) {
		t.Helper()
		if err := get(t, c, s.URL+path); err != nil {
			t.Fatal(err)
		}
		got := h.last(t)
		if has := got.Get("Authorization") != "" || got.Get("X-Key") != ""; has != want {
			t.Errorf("%s ended with the headers %v, want credentials: %v", path, got, want)
		}
	}
	f("/", home, true)
	f("/slash", home, true)
	f("/away", elsewhere, false)
	f("/back", home, false)
	f("/away?api_key=hunter4", elsewhere, false)
	if got := elsewhere.last(t).Get("Referer"); got != "" {
		t.Errorf("elsewhere learns of %q, whose parameters may be secrets", got)
	}

	cfg.FollowRedirects = false
	before := len(elsewhere.headers)
	if err := get(t, newClient(t, cfg, TLS{}), s.URL+"/away"); err != nil {
		t.Fatal(err)
	}
	if len(elsewhere.headers) != before {
		t.Error("a redirect was followed although it is turned off")
	}
}

func TestARedirectFromHTTPSToHTTPCarriesNoCredentials(t *testing.T) {
	h := &seen{}
	plain := httptest.NewServer(h)
	defer plain.Close()
	s := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer s.Close()
	cfg := promconfig.DefaultHTTPClientConfig
	cfg.TLSConfig.InsecureSkipVerify = true
	cfg.BasicAuth = &promconfig.BasicAuth{Username: "u", Password: "hunter2"}
	if err := get(t, newClient(t, cfg, TLS{}), s.URL); err != nil {
		t.Fatal(err)
	}
	if got := h.last(t).Get("Authorization"); got != "" {
		t.Errorf("plain HTTP got %q", got)
	}
}

func TestARedirectLoopEnds(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("/", http.StatusFound))
	defer s.Close()
	if err := get(t, newClient(t, promconfig.DefaultHTTPClientConfig, TLS{}), s.URL); err == nil {
		t.Error("a redirect loop is no error")
	}
}

func TestOAuth2TrustsTheBundle(t *testing.T) {
	idp := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "token", "token_type": "Bearer"}`)
	}))
	defer idp.Close()
	h := &seen{}
	s := httptest.NewServer(h)
	defer s.Close()
	bundle := TLS{CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	write(t, bundle.CAFile, certificate(idp))
	cfg := promconfig.DefaultHTTPClientConfig
	cfg.OAuth2 = &promconfig.OAuth2{ClientID: "c", ClientSecret: "hunter2", TokenURL: idp.URL}
	if err := get(t, newClient(t, cfg, bundle), s.URL); err != nil {
		t.Fatal(err)
	}
	if got := h.last(t).Get("Authorization"); got != "Bearer token" {
		t.Errorf("Authorization is %q", got)
	}
	if cfg.OAuth2.TLSConfig.CAFile != "" {
		t.Error("the caller's configuration was changed")
	}
}

func TestManyRequestsShareOneClient(t *testing.T) {
	s := httptest.NewTLSServer(&seen{})
	defer s.Close()
	bundle := TLS{CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	write(t, bundle.CAFile, certificate(s))
	c := newClient(t, promconfig.DefaultHTTPClientConfig, bundle)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := get(t, c, s.URL); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// closed tells whether it was closed.
type closed struct {
	io.Reader
	yes bool
}

func (c *closed) Close() error { c.yes = true; return nil }

func TestTheBodyIsClosedWhenTLSCannotBeSetUp(t *testing.T) {
	c := newClient(t, promconfig.DefaultHTTPClientConfig, TLS{CAFile: filepath.Join(t.TempDir(), "none")})
	body := &closed{Reader: strings.NewReader("x")}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://127.0.0.1:1/", body)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Do(req); err == nil {
		resp.Body.Close()
		t.Error("the request went out")
	}
	if !body.yes {
		t.Error("the body is still open")
	}
}

func TestValidateRefusesWhatCannotWork(t *testing.T) {
	f := func(change func(*promconfig.HTTPClientConfig), want string) {
		t.Helper()
		cfg := promconfig.DefaultHTTPClientConfig
		change(&cfg)
		err := Validate(&cfg)
		if err == nil || err.Error() != want {
			t.Errorf("Validate = %v, want %s", err, want)
		}
		if _, newErr := New(cfg, TLS{}, "x"); newErr == nil {
			t.Errorf("New took what Validate refuses: %s", want)
		} else if _, ok := errors.AsType[config.Problems](newErr); !ok {
			t.Errorf("New = %v, want problems inside", newErr)
		}
	}
	f(func(c *promconfig.HTTPClientConfig) {
		c.BasicAuth = &promconfig.BasicAuth{Username: "u", PasswordRef: "r"}
	}, "basic_auth.password_ref: names a secret of a secret manager, which Ingot does not have; use password_file")
	f(func(c *promconfig.HTTPClientConfig) { c.TLSConfig.CARef = "r" },
		"tls_config.ca_ref: names a secret of a secret manager, which Ingot does not have; use ca_file")
	f(func(c *promconfig.HTTPClientConfig) {
		c.TLSConfig.MinVersion, c.TLSConfig.MaxVersion = promconfig.TLSVersions["TLS13"], promconfig.TLSVersions["TLS12"]
	}, "tls_config.min_version: must be at most max_version, TLS12, is TLS13")
	f(func(c *promconfig.HTTPClientConfig) { c.ProxyURL.URL = &url.URL{Scheme: "gopher", Host: "h"} },
		"proxy_url: must start with http://, https:// or socks5://")
	f(func(c *promconfig.HTTPClientConfig) { c.ProxyURL.URL = &url.URL{Scheme: "http"} },
		"proxy_url: must name a host, such as http://proxy:3128")
	f(func(c *promconfig.HTTPClientConfig) { c.BasicAuth, c.BearerToken = &promconfig.BasicAuth{}, "t" },
		"at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured")
}
