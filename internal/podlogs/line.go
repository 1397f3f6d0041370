package podlogs

import (
	"bytes"
	"unicode/utf8"
)

const (
	// maxLine is the longest text that is pushed: Loki's default limit for one line.
	maxLine = 256 << 10
	// cutMarker ends the text of a line that was longer.
	cutMarker = " [cut: the line was longer than 256KiB]"
	// maxOpen bounds the text of all lines that have no end yet. What grows beyond it is pushed
	// as it stands, and what follows is a line of its own.
	maxOpen = 16 << 20
)

// lines takes the whole lines of data, which begins at t.off, and returns how many bytes of
// it are done with. t.left is then what follows them, if it is not a whole line.
func (r *reader) lines(t *tail, data []byte) (consumed int) {
	r.prepare(t)
	t.left = 0
	if t.skipping {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return len(data)
		}
		t.skipping, consumed = false, i+1
	}
	last := bytes.LastIndexByte(data, '\n')
	if last < consumed {
		if consumed == 0 && len(data) == len(r.buf) {
			consumed = r.overlong(t, data)
		}
		t.left = len(data) - consumed
		return consumed
	}
	// Lines end at line feeds, so if the whole is valid each line is.
	r.valid = utf8.Valid(data[consumed : last+1])
	end := r.inOrder(t.chain, data, consumed, t.chain.limit.cut(data, consumed, last, r.now))
	for n := 0; consumed <= end && n < maxTurnLines && !r.full(t.chain); n++ {
		size := bytes.IndexByte(data[consumed:], '\n')
		r.line(t, data[consumed:consumed+size], t.off.Load()+int64(consumed))
		consumed += size + 1
	}
	if consumed > last {
		t.left = len(data) - consumed
	}
	return consumed
}

// overlong takes a buffer full of one line. Its begin is pushed, its rest will be skipped.
func (r *reader) overlong(t *tail, data []byte) (consumed int) {
	if text := bytes.TrimLeft(data, "\x00"); len(text) < len(data) {
		// The hole of a sparse file, before the line.
		t.nulled = true
		return len(data) - len(text)
	}
	r.valid = false
	r.line(t, data, t.off.Load())
	t.skipping, t.skipFrom = true, t.off.Load()
	return len(data)
}

// line takes one line of the file, which starts at the given offset.
func (r *reader) line(t *tail, line []byte, at int64) {
	r.count.read++
	if t.nulled || len(line) > 0 && line[0] == 0 {
		t.nulled = false
		if line = bytes.TrimLeft(line, "\x00"); len(line) == 0 {
			r.count.nulLines++
			return
		}
		r.count.nul++
	}
	var rec record
	var problem string
	switch t.chain.format {
	case FormatCRI:
		rec, problem = r.parser.cri(line)
	case FormatDocker:
		rec, problem = r.parser.docker(line)
	default:
		t.lastT = r.rawTime(t, at)
		rec = record{t: t.lastT, text: bytes.TrimSuffix(line, []byte{'\r'})}
	}
	if problem != "" {
		r.count.malformed++
		t.note("malformed line: " + problem)
		return
	}
	r.record(t, rec, at)
}

// record adds a record to the line that it is a part of.
func (r *reader) record(t *tail, rec record, at int64) {
	p := &t.parts[rec.stream()]
	switch {
	case p.swallow:
		p.swallow = rec.partial
		r.count.joined++
	case rec.partial:
		r.hold(p, t, at)
		r.add(p, rec.text)
		p.n++
		p.t, p.stderr = rec.t, rec.stderr
		r.pending++
		if r.open > maxOpen {
			r.giveUpEarly(p)
		}
	case p.n > 0:
		r.add(p, rec.text)
		r.count.joined += p.n
		r.pending -= p.n
		first := p.holds[0]
		rec.text = r.take(p)
		r.emit(rec, first.t, first.off, false, p.cut)
		r.drop(p)
	default:
		r.emit(rec, t, at, r.valid, false)
	}
}

// hold notes where the parts of an open line begin in t.
func (r *reader) hold(p *part, t *tail, at int64) {
	if p.n == 0 {
		if n := len(r.spare); n > 0 {
			p.buf, r.spare = r.spare[n-1][:0], r.spare[:n-1]
		}
		p.age = 0
	}
	if n := len(p.holds); n == 0 || p.holds[n-1].t != t {
		p.holds = append(p.holds, hold{t, at})
	}
}

// add appends text as far as a line may grow.
func (r *reader) add(p *part, text []byte) {
	if room := maxLine - len(p.buf); len(text) > room {
		text, p.cut = text[:room], true
	}
	p.buf = append(p.buf, text...)
	r.open += len(text)
}

// giveUp pushes an open line as it is. Its end will not come, or too late.
func (r *reader) giveUp(p *part) {
	if p.n == 0 {
		return
	}
	r.count.joined += p.n - 1
	r.pending -= p.n
	r.count.unfinished++
	first := p.holds[0]
	r.emit(record{t: p.t, stderr: p.stderr, text: r.take(p)}, first.t, first.off, false, p.cut)
	r.drop(p)
}

// giveUpEarly is giveUp while the end of the line may still come: what was pushed as cut has
// no second part.
func (r *reader) giveUpEarly(p *part) {
	swallow := p.swallow || p.cut
	r.giveUp(p)
	p.swallow = swallow
}

// take copies the text of an open line to where it stays until the turn has been pushed.
// Should that space move, what was taken before stays where it was.
func (r *reader) take(p *part) []byte {
	start := len(r.joined)
	r.joined = append(r.joined, p.buf...)
	return r.joined[start:]
}

// drop empties p and frees its buffer.
func (r *reader) drop(p *part) {
	r.open -= len(p.buf)
	if len(r.spare) < maxSpare {
		r.spare = append(r.spare, p.buf)
	}
	*p = part{holds: p.holds[:0]}
}
