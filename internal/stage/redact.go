package stage

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // As in Alloy; it names a secret, it does not protect it.
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// defaultRedaction is what takes the place of a secret, as in Alloy's loki.secretfilter.
const defaultRedaction = "<REDACTED-SECRET:$SECRET_NAME>"

// RedactConfig is the options of the stage redact, which replaces secrets. Names of options are
// those of Alloy's loki.secretfilter. It looks for tokens that can be told by their form; a
// password without such a form is only found by an expression of your own.
type RedactConfig struct {
	// Types are the kinds of secrets to look for, or the beginnings of their names. Default all
	// but generic-secret.
	Types []string `yaml:"types,omitempty"`
	// Expressions are further secrets: names with regular expressions (RE2). If an expression
	// has a group, the first one is the secret.
	Expressions map[string]string `yaml:"expressions,omitempty"`
	// Allowlist are regular expressions; a secret that one of them matches stays.
	Allowlist []string `yaml:"allowlist,omitempty"`
	// RedactWith takes the place of the secret. $SECRET_NAME is its kind, $SECRET_HASH its
	// SHA-1. Default <REDACTED-SECRET:$SECRET_NAME>.
	RedactWith string `yaml:"redact_with,omitempty"`
	// PartialMask is how many characters at the start of a secret stay to be seen, at most half
	// of it, and none of one with less than 6. Default 0.
	PartialMask int `yaml:"partial_mask,omitempty"`
	// IncludeGeneric also looks for what stands behind words like password and api_key.
	// Default false, since it finds too much.
	IncludeGeneric bool `yaml:"include_generic,omitempty"`
	// Source is the extracted value to change instead of the line.
	Source *string `yaml:"source,omitempty"`
}

func (x *RedactConfig) defaults() { x.RedactWith = defaultRedaction }

// UnmarshalYAML decodes onto the defaults.
func (x *RedactConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain RedactConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

type redactStep struct {
	source  int
	secrets []secret
	words   keywords
	allow   []*regexp.Regexp
	mask    int
}

// secret is one kind of secret. A text that has none of the keywords has no such secret.
type secret struct {
	name     string
	keywords [][]byte
	re       *regexp.Regexp
	with     []byte // what it is replaced with, up to the hash if that is in it
	rest     []byte // what follows the hash
	hash     bool
}

func (x *RedactConfig) compile(c *compiler, at string) {
	s := &redactStep{source: c.source(at, x.Source), mask: x.PartialMask}
	if x.PartialMask < 0 {
		c.fault(config.Key(at, "partial_mask"), "must not be negative, is %d", x.PartialMask)
	}
	s.builtIn(c, x, at)
	for _, name := range slices.Sorted(maps.Keys(x.Expressions)) {
		re := c.regexp(config.Key(config.Key(at, "expressions"), name), x.Expressions[name])
		if re == nil {
			continue
		}
		must := requiredText(x.Expressions[name])
		s.secrets = append(s.secrets, secret{name: name, re: re, keywords: [][]byte{[]byte(must)}})
	}
	for i, expr := range x.Allowlist {
		if re := c.regexp(config.Index(config.Key(at, "allowlist"), i), expr); re != nil {
			s.allow = append(s.allow, re)
		}
	}
	for i := range s.secrets {
		s.secrets[i].replacement(x.RedactWith)
		for _, word := range s.secrets[i].keywords {
			s.words.add(word, i)
		}
	}
	c.add(s)
}

// builtIn adds the known kinds that are asked for.
func (s *redactStep) builtIn(c *compiler, x *RedactConfig, at string) {
	kinds := secretKinds()
	found := make([]bool, len(x.Types))
	for _, k := range kinds {
		wanted := len(x.Types) == 0
		for i, t := range x.Types {
			if t != "" && strings.HasPrefix(k.name, t) {
				wanted, found[i] = true, true
			}
		}
		if k.name == genericSecret {
			wanted = x.IncludeGeneric
		}
		if wanted {
			s.secrets = append(s.secrets, k.compile())
		}
	}
	for i, t := range x.Types {
		if !found[i] {
			names := make([]string, len(kinds))
			for j := range kinds {
				names[j] = kinds[j].name
			}
			c.fault(config.Index(config.Key(at, "types"), i), "%q is no kind of secret; known are %s", t, strings.Join(names, ", "))
		}
	}
}

// replacement prepares what the secret is replaced with.
func (k *secret) replacement(with string) {
	with = strings.ReplaceAll(with, "$SECRET_NAME", k.name)
	before, after, hash := strings.Cut(with, "$SECRET_HASH")
	k.with, k.rest, k.hash = []byte(before), []byte(after), hash
}

func (s *redactStep) run(r *Runner, _ *Pipeline) outcome {
	in, ok := r.input(s.source)
	if !ok {
		return next
	}
	out := in
	found := s.words.find(in)
	for i := range s.secrets {
		if i >= 64 || found&(1<<i) != 0 {
			out = s.redact(r, &s.secrets[i], out)
		}
	}
	if len(out) != len(in) || !bytes.Equal(in, out) {
		r.output(s.source, out)
	}
	return next
}

// redact replaces the secrets of one kind.
func (s *redactStep) redact(r *Runner, k *secret, in []byte) []byte {
	r.edit = r.edit[:0]
	done := 0
	for _, m := range k.re.FindAllSubmatchIndex(in, -1) {
		from, to := m[0], m[1]
		if len(m) > 2 && m[2] >= 0 {
			from, to = m[2], m[3]
		}
		if from == to || s.allowed(in[from:to]) {
			continue
		}
		r.edit = append(r.edit, in[done:from]...)
		r.edit = k.append(r.edit, in[from:to], s.mask)
		done = to
		r.counts.Redacted++
	}
	if done == 0 {
		return in
	}
	r.edit = append(r.edit, in[done:]...)
	return r.keep(r.edit)
}

func (s *redactStep) allowed(found []byte) bool {
	for _, re := range s.allow {
		if re.Match(found) {
			return true
		}
	}
	return false
}

// append appends what a secret is replaced with.
func (k *secret) append(dst, found []byte, mask int) []byte {
	if n := utf8.RuneCount(found); mask > 0 && n >= 6 {
		shown := found
		for range n - min(mask, n/2) {
			_, size := utf8.DecodeLastRune(shown)
			shown = shown[:len(shown)-size]
		}
		dst = append(dst, shown...)
	}
	dst = append(dst, k.with...)
	if k.hash {
		sum := sha1.Sum(found) //nolint:gosec // See the import.
		dst = hex.AppendEncode(dst, sum[:])
		dst = append(dst, k.rest...)
	}
	return dst
}

// keywords finds which of up to 64 secrets a text may have, in one pass.
type keywords struct {
	pairs  [1 << 10]uint64      // a bit for each pair of bytes that starts a word
	words  map[uint16][]keyword // by that pair
	always uint64               // secrets without a word
}

type keyword struct {
	text   []byte
	secret int
}

func (k *keywords) add(text []byte, secret int) {
	switch {
	case secret >= 64:
	case len(text) < 2:
		k.always |= 1 << secret
	default:
		pair := uint16(text[0]) | uint16(text[1])<<8
		k.pairs[pair>>6] |= 1 << (pair & 63)
		if k.words == nil {
			k.words = map[uint16][]keyword{}
		}
		k.words[pair] = append(k.words[pair], keyword{text, secret})
	}
}

func (k *keywords) find(in []byte) (found uint64) {
	found = k.always
	if len(in) == 0 {
		return found
	}
	pair := uint16(in[0]) << 8
	for i, c := range in[1:] {
		pair = pair>>8 | uint16(c)<<8
		if k.pairs[pair>>6]&(1<<(pair&63)) == 0 {
			continue
		}
		for _, w := range k.words[pair] {
			if found&(1<<w.secret) == 0 && bytes.HasPrefix(in[i:], w.text) {
				found |= 1 << w.secret
			}
		}
	}
	return found
}
