package remotewrite

import (
	"encoding/binary"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// labelLen returns how many bytes the first label of a set in wire form takes. The set is not
// empty and whole, as sources make it.
func labelLen(ls []byte) int {
	if n := ls[1]; n < 0x80 {
		return 2 + int(n)
	}
	size, n := binary.Uvarint(ls[1:])
	return 1 + n + int(size)
}

// splitLabel returns name and value of one label in wire form.
func splitLabel(l []byte) (name, value []byte) {
	_, n := binary.Uvarint(l[1:])
	l = l[1+n:]
	size, n := binary.Uvarint(l[1:])
	l = l[1+n:]
	name, l = l[:size], l[size:]
	size, n = binary.Uvarint(l[1:])
	l = l[1+n:]
	return name, l[:size]
}

// external is one external label.
type external struct {
	name string
	wire string // in the form of model.Labels
}

func externals(ls model.Labels) []external {
	var all []external
	for name, _, raw, rest, ok := ls.Next(); ok; name, _, raw, rest, ok = rest.Next() {
		all = append(all, external{name, string(raw)})
	}
	return all
}

// appendUnion appends a label set with the external labels whose names it does not have: an
// existing label wins, as in Prometheus.
func appendUnion(dst, ls []byte, extra []external) []byte {
	at, from := 0, 0 // ls[from:at] is still to be copied
	for i := range extra {
		found := false
		for at < len(ls) {
			n := labelLen(ls[at:])
			name, _ := splitLabel(ls[at : at+n])
			if string(name) >= extra[i].name {
				found = string(name) == extra[i].name
				break
			}
			at += n
		}
		if found {
			continue
		}
		dst = append(dst, ls[from:at]...)
		dst = append(dst, extra[i].wire...)
		from = at
	}
	return append(dst, ls[from:]...)
}
