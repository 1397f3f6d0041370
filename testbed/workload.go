package testbed

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// WorkloadLine is one line that the workload program wrote.
type WorkloadLine struct {
	Run    string // tells the lines of one program run from those of another
	Seq    int    // counts from 1 without gaps, over both streams
	Stream string // "stdout" or "stderr"
}

// ParseLine reads a line of the workload program and checks that it is whole. A
// line looks like "run=a seq=7 stream=stdout pad=... crc=0badcafe": its last field
// is a checksum of all that stands before it, so that a line that was cut, joined
// wrongly or mixed with another is an error.
func ParseLine(text string) (WorkloadLine, error) {
	i := strings.LastIndex(text, " crc=")
	if i < 0 {
		return WorkloadLine{}, fmt.Errorf("parse workload line: no checksum in %.80q", text)
	}
	if have, want := text[i+len(" crc="):], checksum(text[:i]); have != want {
		return WorkloadLine{}, fmt.Errorf("parse workload line: checksum %.20q, want %s in %.80q (%d bytes)", have, want, text, len(text))
	}
	var l WorkloadLine
	for field := range strings.FieldsSeq(text[:i]) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "run":
			l.Run = value
		case "seq":
			seq, err := strconv.Atoi(value)
			if err != nil {
				return WorkloadLine{}, fmt.Errorf("parse workload line: %w", err)
			}
			l.Seq = seq
		case "stream":
			l.Stream = value
		}
	}
	return l, nil
}

// AppendLine appends the line to dst, padded to at least size bytes, without a
// newline.
func (l WorkloadLine) AppendLine(dst []byte, size int) []byte {
	text := fmt.Sprintf("run=%s seq=%d stream=%s pad=", l.Run, l.Seq, l.Stream)
	const crc = " crc=00000000"
	if pad := size - len(text) - len(crc); pad > 0 {
		text += padding(l.Seq, pad)
	}
	return append(dst, text+" crc="+checksum(text)...)
}

// padding differs from line to line, or swapped pieces of two long lines would
// not be seen.
func padding(seq, size int) string {
	piece := fmt.Sprintf("%d.", seq)
	return strings.Repeat(piece, size/len(piece)+1)[:size]
}

func checksum(text string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text)))
}
