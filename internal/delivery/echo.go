package delivery

import (
	"net/http"
	"slices"
	"strings"
)

// hidden stands for what is not shown.
const hidden = "<secret>"

// harmless tells whether a header is known to hold no secret: those of the protocols, and what
// names the program and the tenant. Any other may be a key, those of the configuration too.
func harmless(name string) bool {
	switch name {
	case "Content-Encoding", "Content-Type", "Retry-Attempt", "User-Agent",
		"X-Prometheus-Remote-Write-Version", "X-Scope-Orgid", "X-Victoriametrics-Remote-Write-Version":
		return true
	}
	return false
}

// withoutSecrets returns the words of an answer without what the request carried as secrets:
// debugging proxies and some gateways repeat a request in their error text. sent is the request
// as it went out, with what the client's authentication has added. Values too short to be
// recognised in a text are left. whole says that words are all of the answer; if not, what
// they end in may be the beginning of a secret.
func withoutSecrets(words string, whole bool, sent *http.Request) string {
	if sent == nil || words == "" {
		return words
	}
	var secrets []string
	if _, password, ok := sent.BasicAuth(); ok {
		secrets = append(secrets, password)
	}
	for name, values := range sent.Header {
		if harmless(name) {
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
	// The longest first, since one may be a part of another.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	const shortest = 4
	for _, s := range secrets {
		if len(s) < shortest {
			continue
		}
		words = strings.ReplaceAll(words, s, hidden)
		for n := len(s) - 1; !whole && n >= shortest; n-- {
			if rest, ok := strings.CutSuffix(words, s[:n]); ok {
				return rest + hidden
			}
		}
	}
	return words
}
