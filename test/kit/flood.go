package kit

import (
	"bytes"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
)

// Flood is a ledger of numbered lines for tests with millions of them: a bit a line on the
// side of the receiver, a number a container on that of the writer.
type Flood struct {
	size int
	pad  string

	mu   sync.Mutex // guards sets and what is in them
	sets map[string]*floodSet
}

// floodSet is what is known of one container.
type floodSet struct {
	written  int // the last number
	seen     []uint64
	newest   int
	repeated int
	disorder int
}

// FloodReport is the outcome. Repeated, Disorder and Corrupt count lines; Missing is a few
// numbers by container.
type FloodReport struct {
	Written, Arrived, Repeated, Disorder, Corrupt int
	Missing                                       []string
}

// NewFlood returns a ledger of lines with texts of that many bytes.
func NewFlood(size int) *Flood {
	const padding = 1 << 20
	words := strings.Fields(floodWords)
	var b strings.Builder
	for x := uint32(1); b.Len() < padding+size; b.WriteByte(' ') {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b.WriteString(words[x%uint32(len(words))])
		if x%8 == 0 {
			b.WriteString(strconv.FormatUint(uint64(x), 16))
		}
	}
	return &Flood{size: size, pad: b.String(), sets: make(map[string]*floodSet)}
}

// floodWords are what lines are made of, so that they compress as logs do.
const floodWords = `level=info level=warn msg="request served" status=200 status=404 path=/api/v1/cart path=/api/v1/orders
method=GET method=POST duration= user= trace= cache=miss cache=hit retry=0 upstream=10.0.0.17:8080 took bytes= ms`

// padding returns what follows the number in the line of that number.
func (f *Flood) padding(seq, n int) string {
	const stride = 7919
	at := seq * stride % (1 << 20)
	return f.pad[at : at+max(n, 0)]
}

// Write writes n lines with the next numbers to a container, in one write.
func (f *Flood) Write(c *LoggedContainer, n int) {
	name := c.pod.Name + "/" + c.Name
	f.mu.Lock()
	s := f.sets[name]
	if s == nil {
		s = &floodSet{}
		f.sets[name] = s
	}
	from := s.written + 1
	s.written += n // In the ledger before it is in the file.
	f.mu.Unlock()
	w := c.pod.w
	w.mu.Lock()
	now := w.Now().UTC()
	w.mu.Unlock()
	var b bytes.Buffer
	header := now.Format(criTime) + " stdout F "
	for seq := from; seq < from+n; seq++ {
		b.WriteString(header)
		start := b.Len()
		fmt.Fprintf(&b, "seq=%d of=%s ", seq, name)
		b.WriteString(f.padding(seq, f.size-(b.Len()-start)))
		b.WriteByte('\n')
	}
	c.Raw(b.Bytes())
}

// Take is for [LogsConfig]: it notes a line and keeps nothing of it.
func (f *Flood) Take(_ string, _ labels.Labels, e PushEntry) bool {
	number, rest, _ := strings.Cut(strings.TrimPrefix(e.Line, "seq="), " ")
	name, pad, _ := strings.Cut(strings.TrimPrefix(rest, "of="), " ")
	seq, err := strconv.Atoi(number)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.sets[name]
	if err != nil || s == nil || seq < 1 || seq > s.written || pad != f.padding(seq, len(pad)) || len(e.Line) != f.size {
		f.set("corrupt").repeated++
		return false
	}
	if need := seq/64 + 1; need > len(s.seen) {
		s.seen = append(s.seen, make([]uint64, max(need-len(s.seen), len(s.seen)))...)
	}
	switch bit := uint64(1) << (seq % 64); {
	case s.seen[seq/64]&bit != 0:
		s.repeated++
	case seq < s.newest:
		s.disorder++
		s.seen[seq/64] |= bit
	default:
		s.newest = seq
		s.seen[seq/64] |= bit
	}
	return false
}

// Arrived returns how many different lines of a container have arrived.
func (f *Flood) Arrived(c *LoggedContainer) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set(c.pod.Name + "/" + c.Name).arrived()
}

func (s *floodSet) arrived() (n int) {
	for _, word := range s.seen {
		n += bits.OnesCount64(word)
	}
	return n
}

// set returns a set of any name. The caller holds mu.
func (f *Flood) set(name string) *floodSet {
	if f.sets[name] == nil {
		f.sets[name] = &floodSet{}
	}
	return f.sets[name]
}

// Report returns what has arrived so far.
func (f *Flood) Report() FloodReport {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rep FloodReport
	for name, s := range f.sets {
		if name == "corrupt" {
			rep.Corrupt = s.repeated
			continue
		}
		arrived := s.arrived()
		rep.Written += s.written
		rep.Arrived += arrived
		rep.Repeated += s.repeated
		rep.Disorder += s.disorder
		for seq := 1; arrived < s.written && seq <= s.written && len(rep.Missing) < 5; seq++ {
			if seq/64 >= len(s.seen) || s.seen[seq/64]&(1<<(seq%64)) == 0 {
				rep.Missing = append(rep.Missing, fmt.Sprintf("%s %d of %d", name, seq, s.written))
				break
			}
		}
	}
	return rep
}

// Err returns nil when every line has arrived as it was written and in order.
func (r FloodReport) Err() error {
	if r.Arrived == r.Written && r.Corrupt == 0 && r.Disorder == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d lines arrived, %d out of order, %d changed; missing are %v", r.Arrived, r.Written, r.Disorder, r.Corrupt, r.Missing)
}
