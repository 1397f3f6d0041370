package config

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// hidden stands for every secret, as in Prometheus.
const hidden = "<secret>"

// Marshal writes v as YAML without any secret: values of a secret type, whatever stands
// below a key that is named like one (password, token, api_key...; not *_file and *_url,
// which only say where), and passwords inside URLs.
func Marshal(v any) ([]byte, error) {
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return nil, fmt.Errorf("write configuration as YAML: %w", err)
	}
	hide(&n)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&n); err != nil {
		return nil, fmt.Errorf("write configuration as YAML: %w", err)
	}
	return b.Bytes(), enc.Close()
}

func hide(n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if namesSecret(n.Content[i].Value) {
				hideAll(n.Content[i+1])
			} else {
				hide(n.Content[i+1])
			}
		}
	case yaml.ScalarNode:
		if redacted := RedactURL(n.Value); redacted != n.Value {
			n.SetString(redacted)
		}
	default:
		for _, c := range n.Content {
			hide(c)
		}
	}
}

func hideAll(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Value != "" && n.ShortTag() != "!!null" && n.ShortTag() != "!!bool" {
		n.SetString(hidden)
	}
	for i, c := range n.Content {
		if n.Kind != yaml.MappingNode || i%2 == 1 {
			hideAll(c)
		}
	}
}

var (
	secretName = regexp.MustCompile(`(?i)passw(or)?d|secret|token|credential|api[-_]?key|private|cookie|assertion`)
	aboutOne   = regexp.MustCompile(`(?i)_(file|files|url|ref|timeout|id)$`)
)

// namesSecret reports whether the value of the key is probably a secret, and not merely
// where one is found.
func namesSecret(key string) bool {
	return secretName.MatchString(key) && !aboutOne.MatchString(key)
}

// RedactValue returns what may be shown of the value of a key or parameter: nothing where the
// name tells of a secret, else what RedactURL leaves.
func RedactValue(name, value string) string {
	if value != "" && namesSecret(name) {
		return hidden
	}
	return RedactURL(value)
}

var userInfo = regexp.MustCompile(`(\w://)[^\s"]*@`)

// redactText hides what stands before the @ of URLs in a text that quotes a value.
func redactText(s string) string { return userInfo.ReplaceAllString(s, "${1}"+hidden+"@") }

// WithoutURL takes off err the layer in which net/http repeats the method and the URL of a
// request, whose query may have secrets. Other errors return unchanged.
func WithoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// RedactURL hides the password and secret-looking query values in s where it is a URL, even
// one that does not parse. Other text returns unchanged.
func RedactURL(s string) string {
	scheme := strings.Index(s, "://")
	if scheme < 0 {
		return s
	}
	head, rest := s[:scheme+3], s[scheme+3:]
	rest, query, hasQuery := strings.Cut(rest, "?")
	// A password may hold a slash that should have been encoded: the last @ counts.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		// A name alone is a token more often than a name.
		user, password, ok := strings.Cut(rest[:at], ":")
		switch {
		case ok && password != "":
			rest = user + ":" + hidden + rest[at:]
		case !ok && user != "" && !strings.Contains(user, "/"):
			rest = hidden + rest[at:]
		}
	}
	if !hasQuery {
		return head + rest
	}
	args := strings.Split(query, "&")
	for i, arg := range args {
		if name, value, ok := strings.Cut(arg, "="); ok && value != "" && namesSecret(name) {
			args[i] = name + "=" + hidden
		}
	}
	return head + rest + "?" + strings.Join(args, "&")
}
