package podlogs

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	// orderSlack is how far one container may be read ahead of another one whose lines go to
	// the same stream. Loki refuses what is an hour behind the newest line of its stream.
	orderSlack = 30 * time.Minute
	// orderPause is how long one that is ahead waits, and how long what is known of the others
	// counts.
	orderPause = 50 * time.Millisecond
	// stallTime and stallRounds are how long, and how often, one that is behind must not have
	// got on until nobody waits for it any more.
	stallTime   = 10 * time.Second
	stallRounds = 100
)

// group is the containers whose lines go to one stream, such as those of a Deployment's pods,
// which only structured metadata tells apart. It belongs to the reader.
type group struct {
	index  model.Labels
	chains []*chain
	at     time.Time // when the fields below were right
	// slowest is the one with lines to read that is furthest behind, at first; second is where
	// the next one is.
	slowest       *chain
	first, second int64
}

// join puts a chain into the group of its labels.
func (c *Collector) join(ch *chain) {
	index := ch.labels[0].index
	if ch.group != nil {
		if ch.group.index == index {
			return
		}
		ch.group.chains = slices.DeleteFunc(ch.group.chains, func(x *chain) bool { return x == ch })
	}
	g := c.groups[index]
	if g == nil {
		for old, g := range c.groups {
			if !slices.ContainsFunc(g.chains, func(x *chain) bool { return len(x.view) > 0 }) {
				delete(c.groups, old)
			}
		}
		g = &group{index: index}
		c.groups[index] = g
	}
	ch.group = g
	g.chains = append(g.chains, ch)
	g.at = time.Time{}
}

// ahead tells that a chain has to wait for another one of its group.
func (r *reader) ahead(ch *chain) bool {
	return ch.group != nil && len(ch.group.chains) > 1 && ch.read > r.bound(ch)
}

// bound returns the time up to which a chain may be read, in nanoseconds.
func (r *reader) bound(ch *chain) int64 {
	g := ch.group
	if r.now.Sub(g.at) >= orderPause {
		r.compare(g)
	}
	other := g.first
	if g.slowest == ch {
		other = g.second
	}
	if other == math.MaxInt64 {
		return other
	}
	return other + int64(orderSlack)
}

// compare finds out which chains of a group are furthest behind.
func (r *reader) compare(g *group) {
	g.at, g.slowest, g.first, g.second = r.now, nil, math.MaxInt64, math.MaxInt64
	g.chains = slices.DeleteFunc(g.chains, func(x *chain) bool { return len(x.view) == 0 })
	for _, x := range g.chains {
		if !r.getsOn(x) {
			continue
		}
		switch {
		case x.read < g.first:
			g.slowest, g.first, g.second = x, x.read, g.first
		case x.read < g.second:
			g.second = x.read
		}
	}
}

// getsOn tells whether a chain has lines that will be read soon.
func (r *reader) getsOn(x *chain) bool {
	if !x.labelled || x.limit != nil && x.limit.wait(r.now) > 0 {
		return false
	}
	for _, t := range x.view {
		if t.off.Load()+int64(t.left) >= t.size.Load() {
			continue
		}
		if x.moved.IsZero() {
			x.moved, x.movedRound = r.now, r.rounds
		}
		if x.read == 0 {
			x.read = r.peek(t)
		}
		return x.read != 0 && (r.now.Sub(x.moved) < stallTime || r.rounds-x.movedRound < stallRounds)
	}
	return false
}

// peek returns the time of the next line of a file, 0 if it does not tell.
func (r *reader) peek(t *tail) int64 {
	if t.packed != nil {
		return 0
	}
	n, _ := t.file.ReadAt(r.head[:], t.off.Load()) // Reading will say what is wrong.
	stamp, _, ok := bytes.Cut(r.head[:n], []byte{' '})
	if !ok {
		return 0
	}
	at, _ := r.parser.time(stamp)
	return at
}

// inOrder returns where the lines of data end, which begin at begin and end at last, that may be
// read before those of the other chains of the group, one at least. It notes how far that is.
func (r *reader) inOrder(ch *chain, data []byte, begin, last int) int {
	if ch.group == nil || len(ch.group.chains) < 2 {
		return last
	}
	ch.moved, ch.movedRound = r.now, r.rounds
	at, ok := r.timeBefore(data[begin:last])
	if bound := r.bound(ch); ok && at > bound {
		n := r.older(data[begin:last+1], bound)
		if n == 0 {
			n = bytes.IndexByte(data[begin:], '\n') + 1
		}
		last = begin + n - 1
		at, ok = r.timeBefore(data[begin:last])
	}
	if ok {
		ch.read = at
	}
	return last
}

// timeBefore returns the time of the last line of data.
func (r *reader) timeBefore(data []byte) (at int64, ok bool) {
	line := data[bytes.LastIndexByte(data, '\n')+1:]
	stamp, _, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return 0, false
	}
	return r.parser.time(stamp)
}
