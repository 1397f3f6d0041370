package stage

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"text/template"
)

// maxExpressions bounds the regular expressions that a template keeps compiled.
const maxExpressions = 64

var errTooLong = errors.New("the result is longer than 1 MiB")

// functions returns what templates may call: all of promtail's own, with the arguments in its
// order, and of sprig those that are about single texts and numbers, in sprig's.
func functions() template.FuncMap {
	re := &expressions{}
	return template.FuncMap{
		"ToLower":    strings.ToLower,
		"ToUpper":    strings.ToUpper,
		"Replace":    replaceN,
		"Trim":       strings.Trim,
		"TrimLeft":   strings.TrimLeft,
		"TrimRight":  strings.TrimRight,
		"TrimPrefix": strings.TrimPrefix,
		"TrimSuffix": strings.TrimSuffix,
		"TrimSpace":  strings.TrimSpace,
		"Hash": func(salt, s string) string {
			sum := sha3.Sum256([]byte(salt + s))
			return hex.EncodeToString(sum[:])
		},
		"Sha2Hash": func(salt, s string) string {
			sum := sha256.Sum256([]byte(salt + s))
			return hex.EncodeToString(sum[:])
		},
		"regexReplaceAll":        re.replaceAll,
		"regexReplaceAllLiteral": re.replaceAllLiteral,

		"lower":      strings.ToLower,
		"upper":      strings.ToUpper,
		"trim":       strings.TrimSpace,
		"trimAll":    func(cut, s string) string { return strings.Trim(s, cut) },
		"trimPrefix": func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
		"trimSuffix": func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
		"hasPrefix":  func(prefix, s string) bool { return strings.HasPrefix(s, prefix) },
		"hasSuffix":  func(suffix, s string) bool { return strings.HasSuffix(s, suffix) },
		"contains":   func(part, s string) bool { return strings.Contains(s, part) },
		"replace":    func(from, to, s string) (string, error) { return replaceN(s, from, to, -1) },
		"nospace":    func(s string) string { return strings.Join(strings.Fields(s), "") },
		"trunc":      trunc,
		"substr":     substr,
		"quote":      strconv.Quote,
		"squote":     func(s string) string { return "'" + s + "'" },
		"b64enc":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"b64dec":     b64dec,
		"regexMatch": re.match,
		"regexFind":  re.find,
		"default":    defaultTo,
		"empty":      isEmpty,
		"coalesce":   coalesce,
		"ternary":    ternary,
		"toString":   func(v any) string { return fmt.Sprint(v) },
		"int":        toInt,
		"float64":    toFloat,
		"add":        func(a, b any) int { return toInt(a) + toInt(b) },
		"sub":        func(a, b any) int { return toInt(a) - toInt(b) },
		"mul":        func(a, b any) int { return toInt(a) * toInt(b) },
		"div":        func(a, b any) int { return toInt(a) / toInt(b) }, // by zero the template fails, as in sprig
		"mod":        func(a, b any) int { return toInt(a) % toInt(b) },
	}
}

// replaceN is strings.Replace for results that are not absurdly long.
func replaceN(s, from, to string, n int) (string, error) {
	count := strings.Count(s, from)
	if n >= 0 {
		count = min(count, n)
	}
	if len(s)+count*(len(to)-len(from)) > maxText {
		return "", errTooLong
	}
	return strings.Replace(s, from, to, n), nil
}

func trunc(n int, s string) string {
	switch {
	case n < 0 && len(s)+n > 0:
		return s[len(s)+n:]
	case n >= 0 && len(s) > n:
		return s[:n]
	}
	return s
}

// substr returns s from one byte to before another; a negative one is the begin or the end, as
// is one outside of s.
func substr(from, to int, s string) string {
	if to < 0 || to > len(s) {
		to = len(s)
	}
	return s[min(max(from, 0), to):to]
}

func b64dec(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return err.Error()
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

func defaultTo(d any, given ...any) any {
	if len(given) == 0 || isEmpty(given[0]) {
		return d
	}
	return given[0]
}

func isEmpty(v any) bool {
	truth, ok := template.IsTrue(v)
	return !truth || !ok
}

func coalesce(list ...any) any {
	for _, v := range list {
		if !isEmpty(v) {
			return v
		}
	}
	return nil
}

func ternary(yes, no any, test bool) any {
	if test {
		return yes
	}
	return no
}

func toFloat(v any) float64 {
	f, err := strconv.ParseFloat(fmt.Sprint(v), 64)
	if err != nil {
		return 0
	}
	return f
}

func toInt(v any) int {
	s := fmt.Sprint(v)
	if n, err := strconv.Atoi(s); err == nil {
		return n
	}
	return int(toFloat(v))
}

// expressions keeps the regular expressions of a template compiled; nearly always they are
// constants in it.
type expressions struct {
	mu   sync.Mutex // guards list
	list map[string]*regexp.Regexp
}

func (x *expressions) get(expr string) (*regexp.Regexp, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if re, ok := x.list[expr]; ok {
		return re, nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("compile %q: %w", expr, err)
	}
	if x.list == nil || len(x.list) >= maxExpressions {
		x.list = map[string]*regexp.Regexp{}
	}
	x.list[expr] = re
	return re, nil
}

func (x *expressions) replaceAll(expr, s, to string) (string, error) {
	re, err := x.get(expr)
	if err != nil {
		return "", err
	}
	return re.ReplaceAllString(s, to), nil
}

func (x *expressions) replaceAllLiteral(expr, s, to string) (string, error) {
	re, err := x.get(expr)
	if err != nil {
		return "", err
	}
	return re.ReplaceAllLiteralString(s, to), nil
}

func (x *expressions) match(expr, s string) (bool, error) {
	re, err := x.get(expr)
	return err == nil && re.MatchString(s), err
}

func (x *expressions) find(expr, s string) (string, error) {
	re, err := x.get(expr)
	if err != nil {
		return "", err
	}
	return re.FindString(s), nil
}
