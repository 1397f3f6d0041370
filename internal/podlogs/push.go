package podlogs

import (
	"context"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

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
	r.note(ch)
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

// add adds to a counter what is mostly nothing.
func add(c prometheus.Counter, n int) {
	if n != 0 {
		c.Add(float64(n))
	}
}

// account moves the counts of a turn to the metrics and frees what it used.
func (r *reader) account() {
	m, n := r.c.m, &r.count
	add(m.bytesRead, n.bytes)
	add(m.linesRead, n.read)
	add(m.partsJoined, n.joined)
	add(m.malformed, n.malformed)
	add(m.nulLines, n.nulLines)
	add(m.cut, n.cut)
	add(m.utf8, n.utf8)
	add(m.nul, n.nul)
	add(m.unfinished, n.unfinished)
	if r.pending != r.shown {
		r.shown = r.pending
		m.partsPending.Set(float64(r.pending))
	}
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
		text = r.repair(text)
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

// repair puts text where it stays until the turn has been pushed, with U+FFFD in place of each
// run of bytes that are not UTF-8.
func (r *reader) repair(text []byte) []byte {
	start, done, broken := len(r.joined), 0, false
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			i, broken = i+1, false
			continue
		}
		c, n := utf8.DecodeRune(text[i:])
		if c != utf8.RuneError || n > 1 {
			i, broken = i+n, false
			continue
		}
		r.joined = append(r.joined, text[done:i]...)
		if !broken {
			r.joined = append(r.joined, "\uFFFD"...)
		}
		i++
		done, broken = i, true
	}
	r.joined = append(r.joined, text[done:]...)
	return r.joined[start:len(r.joined):len(r.joined)]
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
