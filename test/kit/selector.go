package kit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

// ParseSelector parses name{label="value",label!~"regexp"}; the name or the braces may be
// missing. It is the selector of PromQL and, without a name, of LogQL.
func ParseSelector(s string) ([]*labels.Matcher, error) {
	matchers, rest, err := ParseSelectorPrefix(s)
	if err == nil && rest != "" {
		err = fmt.Errorf("unexpected %q after the selector", rest)
	}
	if err != nil {
		return nil, fmt.Errorf("parse selector %q: %w", s, err)
	}
	return matchers, nil
}

// ParseSelectorPrefix parses the selector that s begins with and returns what follows it,
// without the space around.
func ParseSelectorPrefix(s string) (matchers []*labels.Matcher, rest string, err error) {
	add := func(kind labels.MatchType, name, value string) error {
		m, matcherErr := labels.NewMatcher(kind, name, value)
		matchers = append(matchers, m)
		return matcherErr
	}
	s = strings.TrimSpace(s)
	name, s := cutWhile(s, func(c byte) bool { return c == '_' || c == ':' || isLetter(c) || isDigit(c) })
	if name != "" {
		if !validMetricName(name) {
			return nil, "", fmt.Errorf("bad metric name %q", name)
		}
		if err = add(labels.MatchEqual, nameLabel, name); err != nil {
			return nil, "", err
		}
	}
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "{") {
		if name == "" {
			return nil, "", errors.New("no selector")
		}
		return matchers, s, nil
	}
	rest, err = parsePairs(s, func(label, op, value string) error {
		switch op {
		case "=":
			return add(labels.MatchEqual, label, value)
		case "!=":
			return add(labels.MatchNotEqual, label, value)
		case "=~":
			return add(labels.MatchRegexp, label, value)
		default:
			return add(labels.MatchNotRegexp, label, value)
		}
	})
	return matchers, rest, err
}

// ParseLabels parses {name="value",...}, the form in which a Loki push carries the labels of
// a stream. A name may not occur twice.
func ParseLabels(s string) (labels.Labels, error) {
	seen := make(map[string]bool)
	b := labels.NewScratchBuilder(8)
	rest, err := parsePairs(s, func(name, op, value string) error {
		switch {
		case op != "=":
			return fmt.Errorf("unexpected %q", op)
		case seen[name]:
			return fmt.Errorf("duplicate label name %q", name)
		}
		seen[name] = true
		if value != "" { // as Prometheus has it, an empty value is an absent label
			b.Add(name, value)
		}
		return nil
	})
	if err == nil && strings.TrimSpace(rest) != "" {
		err = fmt.Errorf("unexpected %q after the labels", rest)
	}
	if err != nil {
		return labels.EmptyLabels(), err
	}
	b.Sort()
	return b.Labels(), nil
}

// parsePairs reads {name op "value", ...} and returns what follows the closing brace. The
// values are Go string literals in double or back quotes; a comma may precede the brace.
func parsePairs(s string, pair func(name, op, value string) error) (rest string, err error) {
	s = strings.TrimSpace(s)
	if !strings.HasPrefix(s, "{") {
		return "", errors.New("expected {")
	}
	s = strings.TrimSpace(s[1:])
	for !strings.HasPrefix(s, "}") {
		var name, op string
		name, s = cutWhile(s, func(c byte) bool { return c == '_' || isLetter(c) || isDigit(c) })
		if !validLabelName(name) {
			return "", fmt.Errorf("expected a label name or } at %q", name+s)
		}
		op, s = cutWhile(strings.TrimSpace(s), func(c byte) bool { return strings.IndexByte("=!~", c) >= 0 })
		if op != "=" && op != "!=" && op != "=~" && op != "!~" {
			return "", fmt.Errorf("expected =, !=, =~ or !~ after %s at %q", name, op+s)
		}
		s = strings.TrimSpace(s)
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil || quoted[0] == '\'' {
			return "", fmt.Errorf("expected a quoted value of label %s at %q", name, s)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return "", fmt.Errorf("value of label %s: %w", name, err)
		}
		if !utf8.ValidString(value) {
			return "", fmt.Errorf("value of label %s: invalid UTF-8", name)
		}
		if err := pair(name, op, value); err != nil {
			return "", err
		}
		s = strings.TrimSpace(s[len(quoted):])
		if !strings.HasPrefix(s, ",") && !strings.HasPrefix(s, "}") {
			return "", fmt.Errorf("expected , or } at %q", s)
		}
		s = strings.TrimSpace(strings.TrimPrefix(s, ","))
	}
	return strings.TrimSpace(s[1:]), nil
}

// cutWhile splits s after its longest prefix of bytes that fit.
func cutWhile(s string, fits func(byte) bool) (head, tail string) {
	i := 0
	for i < len(s) && fits(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

// mustSelector is for selectors that a test wrote down.
func mustSelector(s string) []*labels.Matcher {
	matchers, err := ParseSelector(s)
	if err != nil {
		panic(err)
	}
	return matchers
}

// matches tells whether a label set fits every matcher.
func matches(lset labels.Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(lset.Get(m.Name)) {
			return false
		}
	}
	return true
}
