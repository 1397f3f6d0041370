package delivery

import (
	"net/http"
	"strings"
)

// withoutSecrets returns the words of an answer without what the request carried as secrets:
// debugging proxies and some gateways repeat a request in their error text. sent is the request
// as it went out, with what the client's authentication has added; plain is the headers that
// hold no secret. Values too short to be recognised in a text are left.
func withoutSecrets(words string, sent *http.Request, plain http.Header) string {
	if sent == nil || words == "" {
		return words
	}
	var secrets []string
	if _, password, ok := sent.BasicAuth(); ok {
		secrets = append(secrets, password)
	}
	for name, values := range sent.Header {
		if _, ok := plain[name]; ok || name == "Retry-Attempt" {
			continue
		}
		for _, v := range values {
			_, credentials, _ := strings.Cut(v, " ") // Of "Bearer x" the x may stand alone.
			secrets = append(secrets, v, credentials)
		}
	}
	for _, values := range sent.URL.Query() {
		secrets = append(secrets, values...)
	}
	for _, s := range secrets {
		const shortest = 4
		if len(s) >= shortest {
			words = strings.ReplaceAll(words, s, "<secret>")
		}
	}
	return words
}
