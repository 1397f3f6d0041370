package delivery

import (
	"net/http"
	"testing"
)

func TestEchoedSecretsAreHidden(t *testing.T) {
	plain := http.Header{"User-Agent": {"ingot/1"}}
	f := func(words, want string, prepare func(r *http.Request)) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://backend/push?token=hidden", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", "ingot/1")
		prepare(r)
		if got := withoutSecrets(words, r, plain); got != want {
			t.Errorf("withoutSecrets(%q) = %q, want %q", words, got, want)
		}
	}
	f("no user u with password passw0rd", "no user u with password <secret>", func(r *http.Request) { r.SetBasicAuth("u", "passw0rd") })
	f("Authorization: Bearer abcdef", "Authorization: <secret>", func(r *http.Request) { r.Header.Set("Authorization", "Bearer abcdef") })
	f("token abcdef is expired", "token <secret> is expired", func(r *http.Request) { r.Header.Set("Authorization", "Bearer abcdef") })
	f("X-Key: k3y4you from ingot/1", "X-Key: <secret> from ingot/1", func(r *http.Request) { r.Header.Set("X-Key", "k3y4you") })
	f("POST /push?token=hidden", "POST /push?token=<secret>", func(*http.Request) {})
	f("a short b is left", "a short b is left", func(r *http.Request) { r.Header.Set("X-Key", "b") })
}
