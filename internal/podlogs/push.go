package podlogs

import (
	"bytes"
	"context"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// finish accounts for a turn that consumed so many bytes of t, and pushes its lines.
func (r *reader) finish(ctx context.Context, t *tail, consumed int) {
	for i := range t.parts {
		if p := &t.parts[i]; p.n > 0 {
			if p.age += int64(consumed); p.age > maxHold {
				r.giveUpEarly(p)
			}
		}
	}
	t.off.Add(int64(consumed))
	r.count.bytes += consumed
	t.chain.limit.spend(consumed, r.now)
	r.hand(ctx, t.chain)
}

// hand pushes what the turn has of a chain, and notes how far its files are done with.
func (r *reader) hand(ctx context.Context, ch *chain) {
	if ch.pipes != nil {
		ch.pipes.schedule()
	}
	marks := r.carry
	for _, x := range ch.view {
		if off := x.target(ch.view); off > x.marked {
			marks, x.marked = append(marks, mark{x.pos.Load(), off}), off
		}
	}
	r.carry = nil
	switch {
	case len(r.entries[0])+len(r.entries[1])+r.staged > 0:
		r.push(ctx, ch, marks)
	case r.c.inFlight.Load() == 0:
		// Nothing is on the way that these marks would overtake.
		r.c.positions.acknowledge(marks)
		r.account()
	default:
		r.carry = marks
		r.account()
	}
}

// push hands the lines on, as often as it takes. Only the end of ctx ends it otherwise: the
// lines then stay unacknowledged and are read again at the next start.
func (r *reader) push(ctx context.Context, ch *chain, marks []mark) {
	lines := r.staged
	r.batch.Streams = append(r.batch.Streams[:0], r.out.List()...)
	for i, entries := range r.entries {
		if len(entries) > 0 {
			lines += len(entries)
			r.batch.Streams = append(r.batch.Streams, model.Stream{Labels: ch.labels[i].index, Metadata: ch.labels[i].metadata, Entries: entries})
		}
	}
	r.batch.Ack = func() {
		r.c.positions.acknowledge(marks)
		r.c.inFlight.Add(-1)
	}
	r.c.inFlight.Add(1)
	for {
		err := r.c.sink.Push(ctx, &r.batch)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			r.c.log.Warn("lines could not be handed on, trying again", "count", lines, "err", err)
		}
		select {
		case <-time.After(pushRetry):
		case <-ctx.Done():
			return
		}
	}
	if ch.bare {
		r.c.m.bare.Add(float64(lines))
	}
	r.c.m.linesPushed.Add(float64(lines))
	r.account()
}

// account moves the counts of a turn to the metrics and frees what it used.
func (r *reader) account() {
	m, n := r.c.m, &r.count
	m.bytesRead.Add(float64(n.bytes))
	m.linesRead.Add(float64(n.read))
	m.partsJoined.Add(float64(n.joined))
	m.malformed.Add(float64(n.malformed))
	m.nulLines.Add(float64(n.nulLines))
	m.cut.Add(float64(n.cut))
	m.utf8.Add(float64(n.utf8))
	m.nul.Add(float64(n.nul))
	m.unfinished.Add(float64(n.unfinished))
	m.partsPending.Set(float64(r.pending))
	*n = counts{}
	for i, entries := range r.entries {
		r.entries[i] = entries[:0]
	}
	if cap(r.joined) > maxJoined {
		r.joined = nil
	}
	r.joined = r.joined[:0]
	r.settleStages()
}

// emit adds a line, which begins at the offset at of t, to the turn. valid tells that it is
// known to be valid UTF-8, cut that it was longer than its text.
func (r *reader) emit(rec record, t *tail, at int64, valid, cut bool) {
	ch, text := t.chain, rec.text
	if len(text) > maxLine || cut {
		text, cut = shorten(text), true
	}
	if !valid && !utf8.Valid(text) {
		r.count.utf8++
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
		if len(text) > maxLine {
			text, cut = shorten(text), true
		}
	}
	if cut {
		r.count.cut++
		text = append(slices.Clip(text), cutMarker...)
	}
	if ch.pipes != nil {
		rec.text = text
		r.process(ch, rec, t, at)
		return
	}
	i := 0
	if rec.stderr && ch.labels[0] != ch.labels[1] {
		i = 1
	}
	r.entries[i] = append(r.entries[i], model.Entry{T: rec.t, Line: text})
}

// shorten cuts text so that the marker fits, not within a character.
func shorten(text []byte) []byte {
	text = text[:min(len(text), maxLine-len(cutMarker))]
	for i := 1; i <= utf8.UTFMax && i <= len(text); i++ {
		if c := text[len(text)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(text[len(text)-i:]) {
				text = text[:len(text)-i]
			}
			break
		}
	}
	return text
}
