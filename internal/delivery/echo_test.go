package delivery

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

func TestEchoedSecretsAreHidden(t *testing.T) {
	f := func(words, want string, prepare func(r *http.Request)) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://backend/push?token=hidden", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", "ingot/1")
		prepare(r)
		if got := withoutSecrets(words, false, r); got != want {
			t.Errorf("withoutSecrets(%q) = %q, want %q", words, got, want)
		}
	}
	f("no user u with password passw0rd", "no user u with password <secret>", func(r *http.Request) { r.SetBasicAuth("u", "passw0rd") })
	f("Authorization: Bearer abcdef", "Authorization: <secret>", func(r *http.Request) { r.Header.Set("Authorization", "Bearer abcdef") })
	f("token abcdef is expired", "token <secret> is expired", func(r *http.Request) { r.Header.Set("Authorization", "Bearer abcdef") })
	f("X-Key: k3y4you from ingot/1", "X-Key: <secret> from ingot/1", func(r *http.Request) { r.Header.Set("X-Key", "k3y4you") })
	f("POST /push?token=hidden", "POST /push?token=<secret>", func(*http.Request) {})
	f("tenant team-a has no X-Api-Key k3y4you", "tenant team-a has no X-Api-Key <secret>", func(r *http.Request) {
		r.Header.Set("X-Scope-OrgID", "team-a")
		r.Header.Set("X-Api-Key", "k3y4you")
	})
	f("cut in the middle of k3y4", "cut in the middle of <secret>", func(r *http.Request) { r.Header.Set("X-Api-Key", "k3y4you") })
	f("long is k3y4you and more", "long is <secret> and more", func(r *http.Request) { r.Header["X-Api-Key"] = []string{"k3y4", "k3y4you"} })
	f("a short b is left", "a short b is left", func(r *http.Request) { r.Header.Set("X-Key", "b") })
}

// Headers of the configuration, which the endpoint has from the start, may be secrets too.
func TestEchoedHeaderOfTheEndpointIsHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(always(400, "refused: POST X-Api-Key=k3y4you X-Scope-OrgID=team-a")) //nolint:bodyclose // There is none to close.
		q := New(testConfig(), "", logger(t), newTestMetrics(), Endpoint{
			Name: "test", URL: "http://backend.test/push", Client: &http.Client{Transport: b},
			Header: http.Header{"X-Api-Key": {"k3y4you"}, "X-Scope-Orgid": {"team-a"}},
		})
		r := start(t, q)
		put(t, q, 0, 1, 100)
		synctest.Wait()
		if s := r.shutdown(); !strings.Contains(s.LastError, "X-Api-Key=<secret> X-Scope-OrgID=team-a") {
			t.Errorf("LastError = %q, want the key hidden and the tenant not", s.LastError)
		}
	})
}
