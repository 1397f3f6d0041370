package loki

import (
	"encoding/binary"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// maxTexts bounds the label texts that are kept; a node has fewer streams at a time.
const maxTexts = 4096

// body is an open push request:
//
//	PushRequest  { repeated Stream streams = 1 }
//	Stream       { string labels = 1; repeated Entry entries = 2 }
//	Entry        { Timestamp timestamp = 1; string line = 2; repeated LabelPair structuredMetadata = 3 }
//	Timestamp    { int64 seconds = 1; int32 nanos = 2 }
//	LabelPair    { string name = 1; string value = 2 }
//
// Lines of one stream that follow each other share one Stream message. Its length is not
// known before its end, so four bytes are kept for it, enough for 256 MiB: a varint may be
// longer than it needs to be.
type body struct {
	external model.Labels
	buf      []byte
	items    int

	// The stream that the next lines belong to.
	labels, metadata model.Labels
	text             string // the labels as Loki reads them
	meta             []byte // the metadata as every entry carries it
	// start is where the content of the open Stream message begins in buf; 0 while there is
	// none.
	start int

	texts map[model.Labels]string
}

// stream makes s the stream of the lines that follow.
func (b *body) stream(s *model.Stream) {
	if b.text != "" && s.Labels == b.labels && s.Metadata == b.metadata {
		return
	}
	if s.Labels != b.labels || b.text == "" {
		b.close()
		b.text = b.render(s.Labels)
	}
	b.labels, b.metadata = s.Labels, s.Metadata
	b.meta = b.meta[:0]
	// Metadata has the wire form of a LabelPair list already, but under field number 1.
	for _, _, raw, rest, ok := s.Metadata.Next(); ok; _, _, raw, rest, ok = rest.Next() {
		b.meta = append(b.meta, 3<<3|2)
		b.meta = append(b.meta, raw[1:]...)
	}
}

// render returns the text of a label set: {job="a/b", pod="c"}.
func (b *body) render(l model.Labels) string {
	if text, ok := b.texts[l]; ok {
		return text
	}
	var all []model.Label
	for _, p := range model.Labels(l.AppendWith(nil, b.external)).All() {
		if !strings.HasPrefix(p.Name, "__") {
			all = append(all, p)
		}
	}
	text := model.NewLabels(all...).String()
	if b.texts == nil || len(b.texts) >= maxTexts {
		b.texts = make(map[model.Labels]string)
	}
	b.texts[l] = text
	return text
}

// size returns the bytes that the body has so far.
func (b *body) size() int { return len(b.buf) }

// entrySize returns a bound of what append adds.
func (b *body) entrySize(e *model.Entry) int {
	n := 40 + len(e.Line) + len(b.meta)
	if b.start == 0 {
		n += len(b.text)
	}
	return n
}

// append adds a line to the present stream.
func (b *body) append(e *model.Entry) {
	if b.start == 0 {
		b.buf = append(b.buf, 1<<3|2, 0, 0, 0, 0)
		b.start = len(b.buf)
		b.buf = append(b.buf, 1<<3|2)
		b.buf = binary.AppendUvarint(b.buf, uint64(len(b.text)))
		b.buf = append(b.buf, b.text...)
	}
	sec, nanos := e.T/1e9, e.T%1e9
	if nanos < 0 {
		sec, nanos = sec-1, nanos+1e9
	}
	stamp := 0
	if sec != 0 {
		stamp += 1 + model.UvarintLen(uint64(sec))
	}
	if nanos != 0 {
		stamp += 1 + model.UvarintLen(uint64(nanos))
	}
	size := 2 + stamp + 1 + model.UvarintLen(uint64(len(e.Line))) + len(e.Line) + len(b.meta)
	buf := append(b.buf, 2<<3|2)
	buf = binary.AppendUvarint(buf, uint64(size))
	buf = append(buf, 1<<3|2, byte(stamp))
	if sec != 0 {
		buf = append(buf, 1<<3|0)
		buf = binary.AppendUvarint(buf, uint64(sec))
	}
	if nanos != 0 {
		buf = append(buf, 2<<3|0)
		buf = binary.AppendUvarint(buf, uint64(nanos))
	}
	buf = append(buf, 2<<3|2)
	buf = binary.AppendUvarint(buf, uint64(len(e.Line)))
	buf = append(buf, e.Line...)
	b.buf = append(buf, b.meta...)
	b.items++
}

// close ends the open Stream message by writing its length.
func (b *body) close() {
	if b.start == 0 {
		return
	}
	n := len(b.buf) - b.start
	for i := b.start - 4; i < b.start-1; i++ {
		b.buf[i] = byte(n) | 0x80
		n >>= 7
	}
	b.buf[b.start-1] = byte(n)
	b.start = 0
}

// mark is a place in a body, between two lines.
type mark struct{ size, items, start int }

// mark returns where the next line goes.
func (b *body) mark() mark { return mark{len(b.buf), b.items, b.start} }

// rewind takes back the lines after m. What was before m must not have been reset since.
func (b *body) rewind(m mark) {
	b.buf, b.items, b.start = b.buf[:m.size], m.items, m.start
	b.close()
}

// finish returns the whole message, valid until the next append or reset.
func (b *body) finish() []byte {
	b.close()
	return b.buf
}

// reset empties the body; the present stream stays.
func (b *body) reset() {
	b.buf, b.items = b.buf[:0], 0
}
