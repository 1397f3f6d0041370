package app_test

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
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// R12: the pauses between requests for the same data double from a tenth of a second, and the
// same bytes come again.
func TestR12PausesDouble(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 1, series: 3})
	r.complete(t)
	codes := []int{500, 502, 503, 504, 529}
	for _, code := range codes {
		r.mimir.Faults.Script(kit.Answer(code))
	}
	met := r.waitRequests(t, len(codes)+1)
	for i := range codes {
		gap, full := met[i+1].Time.Sub(met[i].Time), 100*time.Millisecond<<i
		if gap < full*9/10 || gap > full+margin {
			t.Errorf("pause %d is %s, want %s less a tenth at most", i+1, gap, full)
		}
		if met[i+1].Digest != met[0].Digest {
			t.Errorf("request %d has another body", i+1)
		}
		if got := met[i+1].Header.Get("Retry-Attempt"); got != strconv.Itoa(i+1) {
			t.Errorf("request %d has Retry-Attempt %q", i+1, got)
		}
	}
	r.complete(t)
}

// R17: credentials that are refused pause a destination for half a minute at a time. That is
// a state in the backend's words, nothing is dropped, and what waited arrives by itself.
func TestR17RefusedCredentialsAreTriedAgainByThemselves(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 1, series: 3})
	r.complete(t)
	r.mimir.Faults.Script(kit.Fault{Status: 403, Body: "this tenant is closed"})
	r.until(t, "state paused", func(q queue) bool {
		return q.State == "paused" && strings.Contains(q.LastError, "this tenant is closed")
	})
	paused := time.Now()
	check(t, r.all[0].WaitScrapes(t.Context(), 2*soon, 60)) // half a minute
	met := r.waitRequests(t, 2)
	if gap := met[1].Time.Sub(met[0].Time); gap < 27*time.Second || gap > 33*time.Second {
		t.Errorf("tried again after %s, want 30 s", gap)
	}
	r.complete(t)
	t.Logf("all is there %s after the refusal", time.Since(paused).Round(time.Second))
}

// R18: answers of something that is no backend are a state, not a loss; redirects are not
// followed, with credentials or without; other destinations go on.
func TestR18WrongPlacesAreAStateAndRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := kit.StartMetrics(t, kit.MetricsConfig{})
	good := kit.StartMetrics(t, kit.MetricsConfig{})
	all := targets(t, 1, 3)
	codes := []int{301, 302, 303, 307, 308, 404, 405}
	var destinations []string
	var wrong []*kit.MetricsReceiver
	for _, code := range codes {
		r := kit.StartMetrics(t, kit.MetricsConfig{})
		fault := kit.Answer(code)
		if code < 400 {
			fault.Location = elsewhere.PushURL()
		}
		r.Faults.Set(fault)
		wrong = append(wrong, r)
		destinations = append(destinations, prometheusTo(fmt.Sprintf("wrong-%d", code), r.PushURL(), "basic_auth: {username: a, password: b}"))
	}
	destinations = append(destinations, prometheusTo("good", good.PushURL()))
	p := kit.Start(t, kit.ProcessConfig{Config: config(destinations, []string{scrapeJob("app", all)})})
	for _, code := range codes {
		untilQueue(t, p, fmt.Sprintf("wrong-%d", code), "state misconfigured", func(q queue) bool {
			return q.State == "misconfigured" && strings.Contains(q.LastError, strconv.Itoa(code)) && len(q.Dropped) == 0
		})
	}
	waitScrapes(t, all, good, before(time.Now()))
	if n := len(elsewhere.Requests()); n > 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
	stopped := time.Now()
	if code, took := p.Stop(); code != 0 || took > stopLimit {
		t.Errorf("exit code %d after %s", code, took)
	}
	for _, r := range wrong {
		r.Faults.Clear()
	}
	p = p.Again(t)
	for _, r := range wrong {
		waitScrapes(t, all, r, before(stopped))
	}
	waitBalance(t, p)
}

// R19: a request that is too large for the backend is split until it fits. A series that is
// too large by itself goes, counted; nothing else does.
func TestR19RequestsThatAreTooLargeAreSplit(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusRequestEntityTooLarge, http.StatusBadRequest} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigConfig{targets: 1, series: 40, receiver: kit.MetricsConfig{MaxBytes: 2000, TooLarge: code}})
			text := strings.Repeat("x", 1500)
			r.all[0].SetExtra(fmt.Sprintf("giant{a=%q,b=%q} 1\n", text, text))
			r.scrapes(t, 6)
			waitScrapes(t, r.all, r.mimir, before(time.Now()))
			if got := r.mimir.Series("", "giant"); len(got) > 0 {
				t.Errorf("stored %v, over the limit of the test's own receiver", got)
			}
			r.all[0].Down() // what is under way comes to an end, up goes on
			kit.Eventually(t, soon, "giants that are counted as too large, and nothing else", func() error {
				giants := int64(0)
				for _, s := range r.all[0].Served() {
					if s.Complete && strings.Contains(string(s.Body), "giant") {
						giants++
					}
				}
				if q := r.queue(t); len(q.Dropped) != 1 || q.Dropped["too_large"].Items < giants || q.Dropped["too_large"].Items > giants+1 {
					return fmt.Errorf("%d giants were exposed, dropped %v", giants, q.Dropped) // one more for the marker at the end
				}
				return nil
			})
			for _, s := range r.mimir.Disorder() {
				t.Errorf("out of order: %+v", s)
			}
			waitBalance(t, r.p)
		})
	}
}

// R21: every 2xx is a success.
func TestR21EverySuccessIsOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 1, series: 3})
	for _, code := range []int{200, 201, 202, 204, 206, 299} {
		r.mimir.Faults.Script(kit.Fault{Success: code})
	}
	kit.Eventually(t, soon, "eight requests", func() error {
		if n := len(r.mimir.Requests()); n < 8 {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	if again := resent(r.mimir.Requests()); again > 0 {
		t.Errorf("%d requests were sent twice", again)
	}
	if q := r.queue(t); q.State != "ok" || q.LastError != "" {
		t.Errorf("state %s, last error %q", q.State, q.LastError)
	}
	if again := r.complete(t); again > 0 {
		t.Errorf("%d samples repeated", again)
	}
}

// R22: informational answers, codes from nowhere, refusals without a body or with an endless
// one: the same data comes again, nothing hangs, and memory does not grow.
func TestR22OddAnswersDoNoHarm(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 1, series: 3})
	r.complete(t)
	rss := func() float64 {
		n, err := r.p.Metric("process_resident_memory_bytes")
		check(t, err)
		return n
	}
	first := rss()
	faults := []kit.Fault{
		{Early: 103}, {Status: 999}, {Status: 600}, {Status: 500, Fill: -1}, {Status: 500, Fill: 10 << 20},
	}
	r.mimir.Faults.Script(faults...)
	met := r.waitRequests(t, len(faults)+1)
	for i := 2; i <= len(faults); i++ {
		if met[i].Digest != met[1].Digest {
			t.Errorf("request %d, after %+v, has another body", i, faults[i-1])
		}
	}
	if grown := rss() - first; grown > 16<<20 {
		t.Errorf("resident memory grew by %.0f MiB", grown/(1<<20))
	}
	q := r.queue(t)
	if len(q.LastError) > 4<<10 {
		t.Errorf("the last error has %d bytes", len(q.LastError))
	}
	r.complete(t)
}

// certificate makes a certificate for 127.0.0.1 that ends at a time, signed by itself, and
// returns it with the file that holds it.
func certificate(t *testing.T, ends time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mimir"}, NotBefore: ends.Add(-time.Hour), NotAfter: ends,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	check(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// R24: certificates that have expired or that nobody vouches for are told apart, and the data
// waits for better ones. Refused connections and unknown names are in TestR27.
func TestR24BadCertificatesAreTold(t *testing.T) {
	t.Parallel()
	receiver := kit.NewMetricsReceiver(kit.MetricsConfig{})
	serve := func(cert tls.Certificate, addr string) *httptest.Server {
		srv := httptest.NewUnstartedServer(receiver)
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		if addr != "" {
			check(t, srv.Listener.Close())
			var err error
			srv.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
			check(t, err)
		}
		srv.StartTLS()
		return srv
	}
	goodCert, goodCA := certificate(t, time.Now().Add(time.Hour))
	oldCert, oldCA := certificate(t, time.Now().Add(-time.Minute))
	wrong, expired := serve(goodCert, ""), serve(oldCert, "")
	defer wrong.Close()
	defer expired.Close()
	all := targets(t, 1, 3)
	tlsTo := func(name, url, ca string) string {
		return prometheusTo(name, url+kit.MetricsPath, fmt.Sprintf("tls_config: {ca_file: %q}", ca))
	}
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{
		tlsTo("wrong-ca", wrong.URL, oldCA), tlsTo("expired", expired.URL, oldCA),
	}, []string{scrapeJob("app", all)})})
	for name, words := range map[string]string{"wrong-ca": "unknown authority", "expired": "expired"} {
		untilQueue(t, p, name, "state retrying", func(q queue) bool {
			return q.State == "retrying" && strings.Contains(q.LastError, words) && len(q.Dropped) == 0
		})
	}
	check(t, all[0].WaitScrapes(t.Context(), soon, 2))
	// A file of certificates is read again when it changes.
	pemText, err := os.ReadFile(goodCA)
	check(t, err)
	check(t, os.WriteFile(oldCA, bytes.TrimSpace(pemText), 0o600))
	waitScrapes(t, all, receiver, before(time.Now()))
	waitBalance(t, p)
}

// R25, R26: a backend that does not answer, or answers a byte at a time, has as long as the
// timeout says. The other destination goes on meanwhile, and the data is not lost.
func TestSilentAndTricklingBackendsTimeOut(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	for name, fault := range map[string]kit.Fault{"R25 silent": {Hang: true}, "R26 trickling": {Trickle: 100 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := kit.StartMetrics(t, kit.MetricsConfig{}), kit.StartMetrics(t, kit.MetricsConfig{})
			bad.Faults.Set(fault)
			all := targets(t, 1, 3)
			p := kit.Start(t, kit.ProcessConfig{Config: config([]string{
				prometheusTo("bad", bad.PushURL(), "timeout: "+timeout.String()), prometheusTo("good", good.PushURL()),
			}, []string{scrapeJob("app", all)})})
			if fault.Hang {
				untilQueue(t, p, "bad", "state retrying for a timeout", func(q queue) bool {
					return q.State == "retrying" && strings.Contains(q.LastError, "timeout") && strings.Contains(q.LastError, timeout.String())
				})
			}
			for range 4 {
				check(t, all[0].WaitScrapes(t.Context(), soon, 1))
				began := time.Now()
				waitScrapes(t, all, good, before(began))
				if took := time.Since(began); took > timeout {
					t.Errorf("the good destination took %s", took)
				}
			}
			kit.Eventually(t, soon, "requests that are ended by the timeout", func() error {
				if n := len(bad.Requests()); n < 2 {
					return fmt.Errorf("%d requests", n)
				}
				return nil
			})
			for _, r := range bad.Requests() {
				if r.Beside > 8 {
					t.Errorf("%d requests hung side by side", r.Beside)
				}
			}
			bad.Faults.Clear()
			waitScrapes(t, all, bad, before(time.Now()))
			waitBalance(t, p)
		})
	}
}
