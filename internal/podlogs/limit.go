package podlogs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

const (
	// limitAnnotation limits each container of a pod; with a dot and the name of a container
	// behind it, that one.
	limitAnnotation = "ingot.dev/logs.limit"
	// limitPause is how long a chain over its limit is left alone at most, so that what waits
	// too long is noticed.
	limitPause = time.Second
	// leastRead is what is worth a read.
	leastRead = 64 << 10
	// maxDropReads bounds how much of a chain is dropped before other chains have their turn.
	maxDropReads = 16
	// maxDropLook is how many lines before the end of what is dropped are looked at for parts
	// of lines that go on.
	maxDropLook = 64
)

// LimitsConfig is the block limits: how fast logs are read. What is over a limit waits in the
// node's files and is dropped only when it has waited for max_delay, or when the node has
// removed its file.
type LimitsConfig struct {
	// Container limits each container. The annotation ingot.dev/logs.limit of a pod, such as
	// 500KB/s, sets a limit for each of its containers, and ingot.dev/logs.limit.NAME for
	// one; a limit of the configuration can only be lowered by it.
	Container LimitConfig `yaml:"container"`
	// Namespace limits all containers of a namespace on this node together.
	Namespace LimitConfig `yaml:"namespace"`
	// MaxDelay is how old a line may be that waits for a limit. Older ones are dropped and
	// counted. 0s means never. Default 1h.
	MaxDelay config.Duration `yaml:"max_delay"`
}

// LimitConfig is one limit.
type LimitConfig struct {
	// BytesPerSecond is the limit, in bytes of the log files. Default 0B: none.
	BytesPerSecond config.Size `yaml:"bytes_per_second"`
	// Burst is how much may be read at once after a quiet time. Default 0B: what may be read
	// in ten seconds.
	Burst config.Size `yaml:"burst"`
}

func (c *LimitsConfig) validate(ps *config.Problems, path string) {
	for _, l := range []struct {
		name string
		LimitConfig
	}{{"container", c.Container}, {"namespace", c.Namespace}} {
		if l.BytesPerSecond == 0 && l.Burst > 0 {
			ps.Add(path+"."+l.name+".burst", "needs bytes_per_second; set it or remove burst")
		}
	}
	if c.MaxDelay < 0 {
		ps.Add(path+".max_delay", "must not be negative, is %s; write 0s for never", c.MaxDelay)
	}
}

// bucket is what may be read of a container or a namespace. A line that is larger than what is
// left leaves it in debt, which those after it pay.
type bucket struct {
	rate, burst float64 // bytes per second, bytes
	tokens      float64
	at          time.Time // when tokens was right
}

func newBucket(c LimitConfig, now time.Time) *bucket {
	b := &bucket{rate: float64(c.BytesPerSecond), burst: float64(c.Burst), at: now}
	if b.burst == 0 {
		b.burst = 10 * b.rate
	}
	b.tokens = b.burst
	return b
}

// wait returns how long nothing may be read, 0 for not at all. An empty bucket has to fill up
// somewhat first, so that reading it is worth while.
func (b *bucket) wait(now time.Time) time.Duration {
	if b == nil {
		return 0
	}
	b.tokens = min(b.burst, b.tokens+b.rate*max(now.Sub(b.at).Seconds(), 0))
	b.at = now
	least := min(b.burst/2, leastRead)
	if b.tokens >= least {
		return 0
	}
	return time.Duration(math.Ceil((least-b.tokens)/b.rate*1e6)) * time.Microsecond
}

// room returns how many bytes may be read at once.
func (b *bucket) room() int {
	if b == nil {
		return math.MaxInt
	}
	return int(max(b.tokens, 0))
}

func (b *bucket) spend(n int) {
	if b != nil {
		b.tokens -= float64(n)
	}
}

// limits are the buckets of the namespaces of one reader.
type limits struct {
	cfg        LimitsConfig
	namespaces map[string]*bucket
}

// limit is what limits one chain.
type limit struct {
	container *bucket // nil for none
	namespace string
	all       *limits
	// dropping tells that lines are being dropped; lines and bytes are how much since then.
	dropping     bool
	lines, bytes int64
}

// wait returns how long nothing may be read of the chain, 0 for not at all.
func (l *limit) wait(now time.Time) time.Duration {
	return max(l.container.wait(now), l.all.namespace(l.namespace, now).wait(now))
}

// cut returns where lines end that may be read now of data, whose whole lines begin at begin and
// end at last: as many as there is room for, but one at least. l may be nil.
func (l *limit) cut(data []byte, begin, last int, now time.Time) int {
	if l == nil {
		return last
	}
	room := min(l.container.room(), l.all.namespace(l.namespace, now).room())
	if last < begin+room {
		return last
	}
	if i := bytes.LastIndexByte(data[begin:begin+room], '\n'); i >= 0 {
		return begin + i
	}
	return begin + bytes.IndexByte(data[begin:last+1], '\n')
}

// spend takes bytes that were read from what may be read. l may be nil.
func (l *limit) spend(n int, now time.Time) {
	if l != nil {
		l.container.spend(n)
		l.all.namespace(l.namespace, now).spend(n)
	}
}

// limitOf returns the limit of a container, which the configuration and the annotations of its
// pod give, 0 for none. The error is of an annotation, which then does not count.
func limitOf(c LimitConfig, p pod) (LimitConfig, error) {
	key := limitAnnotation + "." + p.container
	text, ok := p.annotations[key]
	if !ok {
		key = limitAnnotation
		if text, ok = p.annotations[key]; !ok {
			return c, nil
		}
	}
	n, err := config.ParseSize(strings.TrimSuffix(strings.TrimSpace(text), "/s"))
	if err == nil && n <= 0 {
		err = errors.New("must not be 0")
	}
	if err != nil {
		return c, fmt.Errorf("annotation %s, which is a rate such as 500KB/s: %w", key, err)
	}
	if c.BytesPerSecond == 0 || n < c.BytesPerSecond {
		return LimitConfig{BytesPerSecond: n, Burst: min(c.Burst, 10*n)}, nil
	}
	return c, nil
}

// setLimit brings the limit of a chain up to date with its pod.
func (c *Collector) setLimit(ch *chain, now time.Time) {
	own, err := limitOf(c.limits.cfg.Container, ch.pod)
	if err != nil {
		c.log.Warn("limit of a pod is not understood", "namespace", ch.pod.namespace, "pod", ch.pod.name, "container", ch.pod.container, "err", err)
	}
	if own.BytesPerSecond == 0 && c.limits.cfg.Namespace.BytesPerSecond == 0 {
		ch.limit = nil
		return
	}
	if ch.limit == nil {
		ch.limit = &limit{namespace: ch.pod.namespace, all: &c.limits}
	}
	var b *bucket
	if own.BytesPerSecond > 0 {
		b = newBucket(own, now)
		if old := ch.limit.container; old != nil {
			old.wait(now)
			b.tokens = min(old.tokens, b.burst)
		}
	}
	ch.limit.container = b
}

// namespace returns the bucket that the containers of a namespace share, nil without a limit.
func (l *limits) namespace(name string, now time.Time) *bucket {
	if l.cfg.Namespace.BytesPerSecond == 0 {
		return nil
	}
	if b := l.namespaces[name]; b != nil {
		return b
	}
	for old, b := range l.namespaces {
		if b.wait(now); b.tokens == b.burst { // It would be made again as it is.
			delete(l.namespaces, old)
		}
	}
	b := newBucket(l.cfg.Namespace, now)
	l.namespaces[name] = b
	return b
}

// within tells whether the limits of a chain, and the others of its stream, let it be read. What
// has waited too long is dropped.
func (r *reader) within(ctx context.Context, ch *chain) bool {
	if r.ahead(ch) {
		ch.notBefore = r.now.Add(orderPause)
		return false
	}
	l := ch.limit
	if l == nil {
		return true
	}
	wait := l.wait(r.now)
	if wait == 0 {
		if l.dropping {
			r.c.log.Info("lines over the limit are not dropped any more", "namespace", ch.pod.namespace, "pod", ch.pod.name, "container", ch.pod.container, "count", l.lines, "bytes", l.bytes)
			l.dropping, l.lines, l.bytes = false, 0, 0
		}
		return true
	}
	ch.notBefore = r.now.Add(min(wait, limitPause))
	r.dropLate(ctx, ch)
	return over(ch) // Then nothing is read any more, and the files can be closed.
}

// over tells that no name leads to any file of a chain and that all were read to their end.
func over(ch *chain) bool {
	for _, t := range ch.view {
		if _, gone := t.goneSince(); !gone || t.off.Load()+int64(t.left) < t.size.Load() {
			return false
		}
	}
	return true
}

// dropLate drops what must not wait any longer: lines that are older than max_delay, and those
// of files that the node has removed, which would keep their space on its disk.
func (r *reader) dropLate(ctx context.Context, ch *chain) {
	reads := 0
	for _, t := range ch.view {
		_, gone := t.goneSince()
		for ; reads < maxDropReads && ctx.Err() == nil; reads++ {
			if t.packed != nil || t.sealed || !r.dropTurn(ctx, t, gone) {
				break
			}
		}
		if t.off.Load()+int64(t.left) < t.size.Load() {
			return // The files after it are younger.
		}
	}
}

// dropTurn drops what is too late of one read of a file, all of it where the file is gone, and
// tells whether there may be more.
func (r *reader) dropTurn(ctx context.Context, t *tail, gone bool) bool {
	delay := time.Duration(r.c.limits.cfg.MaxDelay)
	if delay == 0 && !gone {
		return false
	}
	n, err := t.file.ReadAt(r.buf, t.off.Load())
	if err != nil && !errors.Is(err, io.EOF) {
		return false // Reading will say why.
	}
	data := r.buf[:n]
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	begin := 0
	if t.skipping && len(data) > 0 { // What comes first ends a line that was too long.
		begin = bytes.IndexByte(data, '\n') + 1
	}
	end := len(data)
	if !gone {
		end = begin + r.older(data[begin:], r.now.Add(-delay).UnixNano())
	}
	if end <= begin {
		return false
	}
	for i := range t.parts {
		r.giveUpEarly(&t.parts[i]) // Their ends are among what is dropped, most likely.
	}
	t.skipping = false
	r.unendedParts(t, data[begin:end])
	lines := int64(bytes.Count(data[begin:end], []byte{'\n'}))
	r.count.read += int(lines)
	r.c.m.limitedLines.Add(float64(lines))
	r.c.m.limitedBytes.Add(float64(end - begin))
	r.c.dropped(t.chain, dropLimited, lines, int64(end-begin), r.now)
	l := t.chain.limit
	if !l.dropping {
		l.dropping = true
		r.c.log.Warn("lines over the limit are dropped, they have waited too long", "namespace", t.chain.pod.namespace, "pod", t.chain.pod.name, "container", t.chain.pod.container)
	}
	l.lines += lines
	l.bytes += int64(end - begin)
	r.finish(ctx, t, end)
	l.spend(-end, r.now)
	return true
}

// older returns how many bytes of whole lines are of before the given time. Lines that do not
// tell their time go with the one after them.
func (r *reader) older(data []byte, before int64) (n int) {
	for at := 0; at < len(data); {
		size := bytes.IndexByte(data[at:], '\n') + 1
		if rec, problem := r.parser.cri(data[at : at+size-1]); problem == "" {
			if rec.t >= before {
				return n
			}
			n = at + size
		}
		at += size
	}
	return n
}

// unendedParts has what is left of lines ignored whose first parts are in data, which is
// dropped.
func (r *reader) unendedParts(t *tail, data []byte) {
	for i := range t.parts {
		t.parts[i].swallow = false
	}
	seen := [2]bool{}
	for n := 0; n < maxDropLook && len(data) > 0; n++ {
		at := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
		rec, problem := r.parser.cri(data[at : len(data)-1])
		if i := rec.stream(); problem == "" && !seen[i] {
			seen[i] = true
			t.parts[i].swallow = rec.partial
		}
		data = data[:at]
	}
}
