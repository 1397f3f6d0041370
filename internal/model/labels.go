package model

import (
	"encoding/binary"
	"math/bits"
	"sort"
	"strconv"
	"strings"
)

// Label is one name and value, the readable form used to build and to show a label set.
type Label struct{ Name, Value string }

// Labels is a finished label set in wire form: for each label, sorted by name, the bytes
// that field 1 of a remote-write TimeSeries has,
//
//	0a <length of the message> 0a <length> name 12 <length> value
//
// with lengths as varints. It is built once a series or once a log file and only copied
// afterwards. Being a string it cannot change, compares with == and may key a map. The
// zero value is the empty set.
type Labels string

// NewLabels returns the wire form of the given labels, which it sorts in place. As in
// Prometheus, a label with an empty value is the same as no label and is left out; of a
// repeated name the last one wins.
func NewLabels(ls ...Label) Labels {
	sort.SliceStable(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name })
	var dst []byte
	for i, l := range ls {
		if l.Value == "" || i+1 < len(ls) && ls[i+1].Name == l.Name {
			continue
		}
		dst = AppendLabel(dst, l.Name, l.Value)
	}
	return Labels(dst)
}

// AppendLabel appends one label in wire form. The caller appends in order of name.
func AppendLabel[V string | []byte](dst []byte, name string, value V) []byte {
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(2+UvarintLen(uint64(len(name)))+len(name)+UvarintLen(uint64(len(value)))+len(value)))
	dst = append(dst, 0x0a)
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	dst = append(dst, name...)
	dst = append(dst, 0x12)
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	return append(dst, value...)
}

// Next splits off the first label. The wire form of that label alone is raw, which can be
// appended as it is. At the end of the set ok is false.
func (l Labels) Next() (name, value string, raw, rest Labels, ok bool) {
	if len(l) == 0 {
		return "", "", "", "", false
	}
	s := string(l[1:])
	size, n := uvarint(s)
	body, tail := s[n:n+size], s[n+size:]
	size, n = uvarint(body[1:])
	name, body = body[1+n:1+n+size], body[1+n+size:]
	size, n = uvarint(body[1:])
	value = body[1+n : 1+n+size]
	return name, value, l[:len(l)-len(tail)], Labels(tail), true
}

// Get returns the value of the named label, or "" when the set has none.
func (l Labels) Get(name string) string {
	for n, v, _, rest, ok := l.Next(); ok; n, v, _, rest, ok = rest.Next() {
		if n == name {
			return v
		}
	}
	return ""
}

// All returns the labels in order of name, for status pages and tests.
func (l Labels) All() []Label {
	var all []Label
	for n, v, _, rest, ok := l.Next(); ok; n, v, _, rest, ok = rest.Next() {
		all = append(all, Label{n, v})
	}
	return all
}

// Without returns the labels of l that other does not have with the same value.
func (l Labels) Without(other Labels) Labels {
	var kept []byte
	for name, value, raw, rest, ok := l.Next(); ok; name, value, raw, rest, ok = rest.Next() {
		if other.Get(name) != value {
			kept = append(kept, raw...)
		}
	}
	return Labels(kept)
}

// AppendWith is [AppendUnion] for a set that is a string.
func (l Labels) AppendWith(dst []byte, extra Labels) []byte { return AppendUnion(dst, l, extra) }

// AppendUnion appends the union of l, in the form of [Labels], and extra; where both have a
// name, the one of l wins, as an existing label wins over an external label in Prometheus. It
// allocates nothing beyond dst.
func AppendUnion[L ~string | ~[]byte](dst []byte, l L, extra Labels) []byte {
	for extra != "" {
		en, _, eraw, erest, _ := extra.Next()
		at, same := seek(l, en)
		dst = append(dst, l[:at]...)
		l = l[at:]
		if !same {
			dst = append(dst, eraw...)
		}
		extra = erest
	}
	return append(dst, l...)
}

// seek returns where the first label is whose name is not below name, and whether it is name.
func seek[L ~string | ~[]byte](l L, name string) (at int, same bool) {
	for at < len(l) {
		size, n := uvarint(l[at+1:])
		body := at + 1 + n
		nameSize, m := uvarint(l[body+1:])
		got := l[body+1+m : body+1+m+nameSize]
		if string(got) >= name {
			return at, string(got) == name
		}
		at = body + size
	}
	return at, false
}

// String returns the set as PromQL and LogQL write it: {job="api", pod="x"}.
func (l Labels) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, p := range l.All() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.Name)
		b.WriteByte('=')
		b.WriteString(strconv.Quote(p.Value))
	}
	b.WriteByte('}')
	return b.String()
}

// SanitizeName replaces what Prometheus did not allow in the names of labels before UTF-8, as
// its service discovery does with the names of Kubernetes labels. A first digit stays.
func SanitizeName(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

// UvarintLen returns how many bytes binary.AppendUvarint writes for v.
func UvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// uvarint reads a length that AppendLabel wrote, so it is always whole and in range.
func uvarint[L ~string | ~[]byte](s L) (v, n int) {
	for shift := 0; ; shift += 7 {
		b := s[n]
		n++
		v |= int(b&0x7f) << shift
		if b < 0x80 {
			return v, n
		}
	}
}
