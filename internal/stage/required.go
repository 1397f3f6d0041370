package stage

import (
	"bytes"
	"regexp/syntax"
	"slices"
	"unicode/utf8"
)

// requiredText returns the longest text that everything which matches the expression must
// contain, as far as that is plain to see; "" where it is not.
func requiredText(expr string) string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return ""
	}
	return required(re)
}

func required(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		// U+FFFD also matches bytes that are no valid text.
		if re.Flags&syntax.FoldCase == 0 && !slices.Contains(re.Rune, utf8.RuneError) {
			return string(re.Rune)
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		best := ""
		for _, sub := range re.Sub {
			if s := required(sub); len(s) > len(best) {
				best = s
			}
		}
		return best
	default:
	}
	return ""
}

// may tells whether b can match at all.
func (m *matcher) may(b []byte) bool { return bytes.Contains(b, m.must) }

// matches tells whether b matches.
func (m *matcher) matches(b []byte) bool { return m.may(b) && m.Match(b) }
