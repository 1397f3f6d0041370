package stage

import (
	"time"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// maxBlock is the most text that is held for one stream; Loki would cut a longer line.
	maxBlock = 256 << 10
	// maxHeld is the most that all streams of a runner hold. Beyond it, blocks are let go of
	// as they are.
	maxHeld = 16 << 20
	// maxSpare bounds the buffers that are kept for blocks, and maxSpareSize each.
	maxSpare     = 16
	maxSpareSize = 64 << 10
)

// block is a line that is held because its other parts have not come yet. Its memory is its
// own. The zero value is none.
type block struct {
	buf    []byte // the text, then the extracted values
	text   int    // how much of buf is text
	values []heldValue
	lines  int // that went into it
	size   int // what it adds to Runner.held

	t, seq           int64
	stream           string
	given, givenMeta model.Labels // of the line as it came
	labels, meta     model.Labels // when it was held
	due              time.Time    // when to let go of it
	after            int          // the step that comes next

	// For the stage multiline, of which the first stays when the block is let go.
	seen   bool  // a first line has come
	closed bool  // it takes no more lines
	mode   uint8 // of the preset
}

type heldValue struct {
	slot, size int
	kind       kind
}

// blockOf returns the block of a stage in this pipeline.
func (p *Pipeline) blockOf(i int) *block {
	if p.blocks == nil {
		p.blocks = make([]block, p.r.prog.blocks)
	}
	return &p.blocks[i]
}

// hold starts a block with the line that is being processed.
func (r *Runner) hold(b *block, after int, due time.Time) {
	buf := append(r.borrow(), r.line...)
	*b = block{
		text: len(buf), values: b.values[:0], lines: r.lines, t: r.t, seq: r.seq, stream: r.stream,
		given: r.labels.given, givenMeta: r.meta.given, labels: r.labels.render(), meta: r.meta.render(),
		due: due, after: after,
	}
	b.buf = buf
	r.saveValues(b)
}

// saveValues puts the extracted values behind the text of b.
func (r *Runner) saveValues(b *block) {
	b.buf, b.values = b.buf[:b.text], b.values[:0]
	for slot := range r.values {
		v := &r.values[slot]
		if v.gen != r.gen {
			continue
		}
		b.buf = append(b.buf, v.b...)
		b.values = append(b.values, heldValue{slot, len(v.b), v.kind})
	}
	for _, x := range r.initial {
		if r.kindOf(x.slot) == 0 {
			b.values = append(b.values, heldValue{slot: x.slot}) // A stage has removed it.
		}
	}
	r.held += len(b.buf) - b.size
	b.size = len(b.buf)
}

// join adds a line end and the line that is being processed to the text of b, whose values
// stay those of its first line.
func (r *Runner) join(b *block, separator string, due time.Time) {
	tail := append(r.borrow(), b.buf[b.text:]...)
	b.buf = append(append(b.buf[:b.text], separator...), r.line...)
	b.text = len(b.buf)
	b.buf = append(b.buf, tail...)
	r.giveBack(tail)
	b.lines += r.lines
	b.due = due
	r.held += len(b.buf) - b.size
	b.size = len(b.buf)
}

// mayHold tells whether there is room to hold one more line.
func (r *Runner) mayHold() bool { return r.held+len(r.line) <= maxHeld }

// fits tells whether the line may be added to b.
func (r *Runner) fits(b *block) bool {
	return b.text+1+len(r.line) <= maxBlock && r.mayHold()
}

// release makes b, which is then empty, the line that is being processed.
func (r *Runner) release(b *block) {
	r.begin(b.given, b.givenMeta)
	r.labels.replace(b.labels)
	r.meta.replace(b.meta)
	r.room(len(b.buf))
	start := len(r.arena)
	r.arena = append(r.arena, b.buf...)
	text := r.arena[start:]
	at := b.text
	for _, v := range b.values {
		r.set(v.slot, text[at:at+v.size:at+v.size], v.kind)
		at += v.size
	}
	r.line, r.t, r.seq, r.stream, r.lines = text[:b.text:b.text], b.t, b.seq, b.stream, b.lines
	r.held -= b.size
	r.giveBack(b.buf)
	*b = block{values: b.values[:0], seen: b.seen}
}
