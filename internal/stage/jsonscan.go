package stage

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep a document may be nested.
const maxDepth = 512

// jsonTree is the keys to look for in an object.
type jsonTree struct {
	children []jsonChild
}

// jsonChild is a key, the paths that end there, and the keys to look for below it.
type jsonChild struct {
	key   string
	ends  []int // paths by number
	below *jsonTree
	all   []int // ends and those of below
}

// add adds a path with the given number.
func (t *jsonTree) add(path []string, number int) {
	var child *jsonChild
	for i := range t.children {
		if t.children[i].key == path[0] {
			child = &t.children[i]
		}
	}
	if child == nil {
		t.children = append(t.children, jsonChild{key: path[0]})
		child = &t.children[len(t.children)-1]
	}
	child.all = append(child.all, number)
	if len(path) == 1 {
		child.ends = append(child.ends, number)
		return
	}
	if child.below == nil {
		child.below = &jsonTree{}
	}
	child.below.add(path[1:], number)
}

// jsonScan looks for values in a JSON document and checks that it is one, in one pass and
// without memory of its own but what is here and reused. It accepts what encoding/json
// accepts, up to maxDepth, and control characters in strings, which careless programs write
// and promtail mostly lets pass.
type jsonScan struct {
	in    []byte
	pos   int
	depth int
	found [][]byte // by number of path; nil where there is none
	key   []byte   // a key with escapes, decoded
}

// scan returns what stands at the end of each of n paths, as it stands in the document. ok is
// false if in is not an object, or not JSON. null is an object without keys, as for Go.
func (s *jsonScan) scan(in []byte, t *jsonTree, n int) (found [][]byte, ok bool) {
	s.in, s.pos, s.depth = in, 0, 0
	s.found = s.found[:0]
	for range n {
		s.found = append(s.found, nil)
	}
	s.space()
	switch {
	case s.pos < len(in) && in[s.pos] == '{':
		ok = s.object(t)
	default:
		ok = s.word("null")
	}
	s.space()
	return s.found, ok && s.pos == len(in)
}

func (s *jsonScan) space() {
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

func (s *jsonScan) byte(c byte) bool {
	if s.pos < len(s.in) && s.in[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *jsonScan) word(w string) bool {
	if len(s.in)-s.pos >= len(w) && string(s.in[s.pos:s.pos+len(w)]) == w {
		s.pos += len(w)
		return true
	}
	return false
}

// object reads an object; t may be nil.
func (s *jsonScan) object(t *jsonTree) bool {
	if s.depth++; s.depth > maxDepth {
		return false
	}
	s.pos++
	s.space()
	if s.byte('}') {
		s.depth--
		return true
	}
	for {
		start := s.pos
		plain, ok := s.string()
		if !ok {
			return false
		}
		var child *jsonChild
		if t != nil {
			child = s.child(t, s.in[start+1:s.pos-1], plain)
		}
		s.space()
		if !s.byte(':') {
			return false
		}
		s.space()
		if child == nil {
			ok = s.value(nil)
		} else {
			ok = s.wanted(child)
		}
		if !ok {
			return false
		}
		s.space()
		if s.byte(',') {
			s.space()
			continue
		}
		s.depth--
		return s.byte('}')
	}
}

// child returns the child of t with the given key.
func (s *jsonScan) child(t *jsonTree, key []byte, plain bool) *jsonChild {
	if !plain {
		s.key = appendUnescaped(s.key[:0], key)
		key = s.key
	}
	for i := range t.children {
		if string(key) == t.children[i].key {
			return &t.children[i]
		}
	}
	return nil
}

// wanted reads the value of a key that is looked for. As for a Go map, the last of several
// equal keys counts.
func (s *jsonScan) wanted(c *jsonChild) bool {
	for _, n := range c.all {
		s.found[n] = nil
	}
	start := s.pos
	if !s.value(c.below) {
		return false
	}
	for _, n := range c.ends {
		s.found[n] = s.in[start:s.pos:s.pos]
	}
	return true
}

// value reads any value; t is what to look for if it is an object.
func (s *jsonScan) value(t *jsonTree) bool {
	if s.pos >= len(s.in) {
		return false
	}
	switch s.in[s.pos] {
	case '"':
		_, ok := s.string()
		return ok
	case '{':
		return s.object(t)
	case '[':
		return s.array()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *jsonScan) array() bool {
	if s.depth++; s.depth > maxDepth {
		return false
	}
	s.pos++
	s.space()
	if s.byte(']') {
		s.depth--
		return true
	}
	for {
		s.space()
		if !s.value(nil) {
			return false
		}
		s.space()
		if s.byte(',') {
			continue
		}
		s.depth--
		return s.byte(']')
	}
}

// string reads a string; plain tells that it has no escapes.
func (s *jsonScan) string() (plain, ok bool) {
	if !s.byte('"') {
		return false, false
	}
	plain = true
	in, i := s.in, s.pos
	for i < len(in) {
		for i+8 <= len(in) {
			if stops := stringStops(binary.LittleEndian.Uint64(in[i:])); stops != 0 {
				i += bits.TrailingZeros64(stops) / 8
				break
			}
			i += 8
		}
		if i == len(in) {
			break
		}
		switch in[i] {
		case '"':
			s.pos = i + 1
			return plain, true
		case '\\':
			plain = false
			n := escape(in[i:])
			if n == 0 {
				return false, false
			}
			i += n
		default:
			i++
		}
	}
	return false, false
}

// stringStops marks the first of eight bytes that is a quote or a backslash, in its highest
// bit. Bits above that one may be wrong.
func stringStops(w uint64) uint64 {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^ones*'"', w^ones*'\\'
	return ((quote-ones)&^quote | (backslash-ones)&^backslash) & high
}

// escape returns the length of the escape at the start of b; 0 if it is none.
func escape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if hex4(b) >= 0 {
			return 6
		}
	}
	return 0
}

// hex4 reads \uXXXX; it is negative if b does not start with it.
func hex4(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}

func (s *jsonScan) number() bool {
	s.byte('-')
	switch {
	case s.byte('0'):
	case s.digits():
	default:
		return false
	}
	if s.byte('.') && !s.digits() {
		return false
	}
	if s.byte('e') || s.byte('E') {
		if !s.byte('+') {
			s.byte('-')
		}
		return s.digits()
	}
	return true
}

func (s *jsonScan) digits() bool {
	start := s.pos
	for s.pos < len(s.in) && s.in[s.pos]-'0' < 10 {
		s.pos++
	}
	return s.pos > start
}

// appendUnescaped appends the content of a JSON string, without its quotes, whose escapes have
// been checked. Half a surrogate pair becomes U+FFFD, as in encoding/json.
func appendUnescaped(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 || i+1 == len(b) {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		if b[i+1] != 'u' {
			dst = append(dst, unescaped(b[i+1]))
			b = b[i+2:]
			continue
		}
		r := hex4(b[i:])
		b = b[i+6:]
		if utf16.IsSurrogate(r) {
			if r = utf16.DecodeRune(r, hex4(b)); r != utf8.RuneError {
				b = b[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// setJSON sets an extracted value from what stands in a document. Whole numbers stay as they
// are written, however long; others become what promtail makes of them. Objects and lists stay
// JSON, without the space between their parts.
func (r *Runner) setJSON(slot int, raw []byte) {
	if raw == nil {
		r.set(slot, nil, isNull)
		return
	}
	switch raw[0] {
	case '"':
		raw = raw[1 : len(raw)-1]
		if bytes.IndexByte(raw, '\\') >= 0 {
			r.tmp = appendUnescaped(r.tmp[:0], raw)
			raw = r.keep(r.tmp)
		}
		r.set(slot, raw, isText)
	case 't', 'f':
		r.set(slot, raw, isBool)
	case 'n':
		r.set(slot, nil, isNull)
	case '{', '[':
		r.set(slot, r.compact(raw), isText)
	default:
		if bytes.ContainsAny(raw, ".eE") {
			f, err := strconv.ParseFloat(string(raw), 64)
			if err == nil {
				raw = r.number(f)
			}
		}
		r.set(slot, raw, isNumber)
	}
}

// compact removes the space between the parts of a value.
func (r *Runner) compact(raw []byte) []byte {
	r.tmp = r.tmp[:0]
	inside := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inside && c == '\\':
			r.tmp = append(r.tmp, c)
			i++
			c = raw[i]
		case c == '"':
			inside = !inside
		case !inside && c <= ' ':
			continue
		}
		r.tmp = append(r.tmp, c)
	}
	if len(r.tmp) == len(raw) {
		return raw
	}
	return r.keep(r.tmp)
}
