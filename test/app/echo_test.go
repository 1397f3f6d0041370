package app_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// P30, S19: some gateways repeat the request in their error text.
func TestEchoedCredentialsAreNotShown(t *testing.T) {
	t.Parallel()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		http.Error(w, fmt.Sprintf("refused %s %v %s", password, r.Header, r.URL), http.StatusUnauthorized)
	}))
	t.Cleanup(echo.Close)
	p := kit.Start(t, kit.ProcessConfig{Config: config([]string{
		prometheusTo("basic", echo.URL, "basic_auth: {username: u, password: canary}"),
		prometheusTo("bearer", echo.URL, "authorization: {credentials: canary}"),
		prometheusTo("header", echo.URL, "http_headers: {X-Key: {secrets: [canary]}}"),
		prometheusTo("query", echo.URL+"?token=canary"),
	}, []string{scrapeJob("app", targets(t, 1, 3))})})
	kit.Eventually(t, soon, "errors of all", func() error {
		have, err := queues(p)
		if err != nil {
			return err
		}
		for _, q := range have {
			if q.LastError == "" {
				return errors.New("not yet")
			}
		}
		return nil
	})
	have, err := queues(p)
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range have {
		if strings.Contains(q.LastError, "canary") {
			t.Errorf("%s: last_error has the secret: %s", name, q.LastError)
		}
	}
	if strings.Contains(p.Log(), "canary") {
		t.Error("the log has the secret")
	}
}
