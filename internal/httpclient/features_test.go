package httpclient

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
)

// network is servers that write down what reaches them: a target with and without TLS, a proxy
// and a server that hands out tokens.
type network struct {
	mu  sync.Mutex // guards log
	log []string

	plain, secure, proxy, tokens *httptest.Server
	dir                          string // Files of keys and certificates.
}

func (n *network) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

// take returns what was written down since the last call.
func (n *network) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.log
	n.log = nil
	return all
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{dir: t.TempDir()}
	target := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := fmt.Sprintf("target %s %s %s", r.Proto, r.Host, r.URL.Path)
		if r.TLS != nil {
			line += fmt.Sprintf(" TLS %s name %q certificates %d", tls.VersionName(r.TLS.Version), r.TLS.ServerName, len(r.TLS.PeerCertificates))
		}
		n.note("%s %s", line, headers(r.Header))
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/metrics", http.StatusFound)
		}
	})
	n.plain = httptest.NewServer(target)
	n.secure = httptest.NewUnstartedServer(target)
	n.secure.EnableHTTP2 = true
	n.secure.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	n.secure.StartTLS()
	n.proxy = httptest.NewServer(http.HandlerFunc(n.forward))
	n.tokens = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		id, secret, _ := r.BasicAuth()
		n.note("token for %s:%s %s", id, secret, r.PostForm.Encode())
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"t0","token_type":"Bearer","expires_in":3600}`)
	}))
	for _, s := range []*httptest.Server{n.plain, n.secure, n.proxy, n.tokens} {
		t.Cleanup(s.Close)
	}
	cert, key := selfSigned(t)
	for name, data := range map[string][]byte{
		"ca.pem": certificate(n.secure), "token-ca.pem": certificate(n.tokens), "cert.pem": cert, "key.pem": key,
		"password": []byte("from file\n"), "user": []byte("file user"), "token": []byte("file token\n"), "header": []byte("header file"),
	} {
		write(t, filepath.Join(n.dir, name), data)
	}
	return n
}

// forward is the proxy.
func (n *network) forward(w http.ResponseWriter, r *http.Request) {
	n.note("proxy %s %s %s", r.Method, r.Host, headers(r.Header))
	if r.Method != http.MethodConnect {
		n.plain.Config.Handler.ServeHTTP(w, r)
		return
	}
	there, err := net.Dial("tcp", n.secure.Listener.Addr().String())
	if err != nil {
		n.note("%v", err)
		return
	}
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		n.note("%v", err)
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { defer there.Close(); _, _ = io.Copy(there, here) }()
	go func() { defer here.Close(); _, _ = io.Copy(here, there) }()
}

// headers writes headers that matter.
func headers(h http.Header) string {
	var all []string
	for name, values := range h {
		if name != "User-Agent" && name != "Accept-Encoding" {
			all = append(all, fmt.Sprint(name, values))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// TestEveryKeyDoesWhatItDoesInPrometheus sends the same requests through Prometheus' client
// and ours and compares what arrives, where, and what comes back.
func TestEveryKeyDoesWhatItDoesInPrometheus(t *testing.T) {
	n := newNetwork(t)
	t.Setenv("HTTP_PROXY", n.proxy.URL)
	t.Setenv("HTTPS_PROXY", n.proxy.URL)
	t.Setenv("NO_PROXY", "direct.test")
	fill := strings.NewReplacer("DIR", n.dir, "PROXY", n.proxy.URL, "TOKENS", n.tokens.URL, "PLAIN", n.plain.URL, "SECURE", n.secure.URL)
	ask := func(client *http.Client, url string) []string {
		defer client.CloseIdleConnections()
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				_, words, _ := strings.Cut(err.Error(), ": ")
				n.note("error %s", strings.TrimPrefix(words, "set up TLS: "))
				continue
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			n.note("status %d, %d bytes, %v", resp.StatusCode, len(bytes.TrimSpace(body)), err)
		}
		return n.take()
	}
	// Each case names what must be seen, so that not both do nothing.
	f := func(text, url, sees string) {
		t.Helper()
		var cfg promconfig.HTTPClientConfig
		dec := yaml.NewDecoder(strings.NewReader(fill.Replace(text)))
		dec.KnownFields(true)
		if err := dec.Decode(&cfg); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		theirs, err := promconfig.NewClientFromConfig(cfg, "test")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		want := ask(theirs, fill.Replace(url))
		if all := strings.Join(want, "\n"); !strings.Contains(all, sees) {
			t.Errorf("%s: Prometheus does not send %q, but\n%s", text, sees, all)
		}
		for name, make := range map[string]func() (*http.Client, error){
			"New":        func() (*http.Client, error) { return New(cfg, TLS{}, "test") },
			"NewScraper": func() (*http.Client, error) { return NewScraper(cfg, TLS{}, "test", time.Minute) },
		} {
			ours, err := make()
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if diff := cmp.Diff(want, ask(ours, fill.Replace(url))); diff != "" {
				t.Errorf("%s: %s (-Prometheus +ours):\n%s", text, name, diff)
			}
		}
	}
	const trust = "ca_file: DIR/ca.pem"
	f("{}", "PLAIN/metrics", "target HTTP/1.1")
	f("{authorization: {type: Token, credentials: abc}}", "PLAIN/metrics", "Authorization[Token abc]")
	f("{authorization: {credentials_file: DIR/token}}", "PLAIN/metrics", "Authorization[Bearer file token]")
	f("{authorization: {credentials_file: DIR/none}}", "PLAIN/metrics", "error unable to read")
	f("{bearer_token: abc}", "PLAIN/metrics", "Authorization[Bearer abc]")
	f("{bearer_token_file: DIR/token}", "PLAIN/metrics", "Authorization[Bearer file token]")
	f("{basic_auth: {username: u, password: p}}", "PLAIN/metrics", "Authorization[Basic dTpw]")
	f("{basic_auth: {username_file: DIR/user, password_file: DIR/password}}", "PLAIN/metrics", "Authorization[Basic ")
	f("{basic_auth: {username: u}}", "PLAIN/metrics", "Authorization[Basic dTo=]")
	f("{http_headers: {X-A: {values: [a, b], secrets: [c], files: [DIR/header]}}}", "PLAIN/metrics", "X-A[a b c header file]")
	f("{http_headers: {X-A: {files: [DIR/none]}}}", "PLAIN/metrics", "error ")
	f("{oauth2: {client_id: i, client_secret_file: DIR/password, token_url: TOKENS/, scopes: [x, y], endpoint_params: {audience: z}, tls_config: {ca_file: DIR/token-ca.pem}}}", "PLAIN/metrics", "token for i:from+file audience=z")
	f("{oauth2: {client_id: i, client_secret: s, token_url: TOKENS/, tls_config: {insecure_skip_verify: true}}, tls_config: {"+trust+"}}", "SECURE/metrics", "Authorization[Bearer t0]")
	f("{oauth2: {client_id: i, client_secret: s, token_url: TOKENS/}}", "PLAIN/metrics", "certificate signed by unknown authority")
	f("{oauth2: {client_id: i, client_secret: s, token_url: 'http://tokens.test/', proxy_url: PROXY}}", "PLAIN/metrics", "proxy POST tokens.test")

	f("{proxy_url: PROXY}", "http://far.test/metrics", "proxy GET far.test")
	f("{proxy_url: PROXY, no_proxy: '127.0.0.1,other.test'}", "PLAIN/metrics", "target HTTP/1.1")
	f("{proxy_url: PROXY, proxy_connect_header: {X-Proxy: [secret]}, tls_config: {"+trust+", server_name: example.com}}", "https://far.test/metrics", "X-Proxy[secret]")
	f("{proxy_from_environment: true}", "http://far.test/metrics", "proxy GET far.test")
	f("{proxy_from_environment: true, tls_config: {"+trust+", server_name: example.com}}", "https://far.test/metrics", "proxy CONNECT far.test:443")
	f("{proxy_from_environment: true}", "http://direct.test:1/metrics", "error ")
	f("{}", "http://127.0.0.1:1/metrics", "connection refused")

	f("{}", "SECURE/metrics", "certificate signed by unknown authority")
	f("{tls_config: {"+trust+"}}", "SECURE/metrics", "target HTTP/2.0")
	f("{tls_config: {"+trust+"}, enable_http2: false}", "SECURE/metrics", "target HTTP/1.1")
	f("{tls_config: {insecure_skip_verify: true}}", "SECURE/metrics", "target HTTP/2.0")
	f("{tls_config: {"+trust+", server_name: example.com}}", "SECURE/metrics", `name "example.com"`)
	f("{tls_config: {"+trust+", server_name: wrong.test}}", "SECURE/metrics", "not wrong.test")
	f("{tls_config: {"+trust+", max_version: TLS12}}", "SECURE/metrics", "TLS TLS 1.2")
	f("{tls_config: {"+trust+", min_version: TLS13}}", "SECURE/metrics", "TLS TLS 1.3")
	f("{tls_config: {"+trust+", cert_file: DIR/cert.pem, key_file: DIR/key.pem}}", "SECURE/metrics", "certificates 1")
	f("{tls_config: {"+trust+", cert_file: DIR/cert.pem, key_file: DIR/key.pem}, enable_http2: false}", "SECURE/metrics", "certificates 1")

	f("{basic_auth: {username: u, password: p}}", "PLAIN/moved", "target HTTP/1.1 "+n.plain.Listener.Addr().String()+" /metrics")
	f("{follow_redirects: false}", "PLAIN/moved", "status 302")
}

func TestARedirectToElsewhereCarriesNoClientCertificate(t *testing.T) {
	n := newNetwork(t)
	home := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.note("home certificates %d", len(r.TLS.PeerCertificates))
		http.Redirect(w, r, n.secure.URL+"/metrics", http.StatusFound)
	}))
	home.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	home.StartTLS()
	defer home.Close()
	cfg := promconfig.DefaultHTTPClientConfig
	cfg.TLSConfig.InsecureSkipVerify = true
	cfg.TLSConfig.CertFile, cfg.TLSConfig.KeyFile = filepath.Join(n.dir, "cert.pem"), filepath.Join(n.dir, "key.pem")
	if err := get(t, newClient(t, cfg, TLS{}), home.URL); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(n.take(), "\n")
	if !strings.Contains(all, "home certificates 1") || !strings.Contains(all, "certificates 0") {
		t.Errorf("the servers saw\n%s\nwant the certificate at home only", all)
	}
}
