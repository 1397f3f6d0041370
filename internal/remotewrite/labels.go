package remotewrite

import "encoding/binary"

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
