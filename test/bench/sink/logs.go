package sink

import (
	"bytes"
	"context"
	"errors"
	"math/bits"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The text of a line begins with its number: the file, whether it went to the error output,
// and how many lines of the file came before.
const (
	linePrefix = `{"id":"`
	fileDigits = 4
	seqDigits  = 10
)

var errLine = errors.New(`a line does not begin with {"id":"FFFFoSSSSSSSSSS"`)

// AppendLineID appends what the text of a line must begin with: line seq of a file, counted
// from 0 over both outputs.
func AppendLineID(text []byte, file int, stderr bool, seq int64) []byte {
	text = append(text, linePrefix...)
	text = appendDigits(text, int64(file), fileDigits)
	output := byte('o')
	if stderr {
		output = 'e'
	}
	text = append(text, output)
	return append(appendDigits(text, seq, seqDigits), '"')
}

func appendDigits(text []byte, n int64, width int) []byte {
	for range width {
		text = append(text, '0')
	}
	for i := len(text) - 1; n > 0 && width > 0; i, width = i-1, width-1 {
		text[i] = byte('0' + n%10)
		n /= 10
	}
	return text
}

// latencySteps are the classes of the delays of lines: each twice as long as the one before,
// from 1 ms on, in four parts.
const latencySteps = 4 * 20

// Logs receives Loki's push. Its methods may be called from any goroutine.
type Logs struct {
	*server

	mu       sync.Mutex // guards what follows
	counts   LogsCounts
	files    map[int]*fileState
	latency  [latencySteps]int64
	watching bool // Delays are counted.
}

// LogsCounts is what arrived.
type LogsCounts struct {
	Requests int64
	Wire     int64 // Bytes of bodies as they came.
	Lines    int64 // Different ones.
	Repeats  int64
	Disorder int64 // Came after a later line of the same output of the file.
	Bytes    int64 // Of the text of all lines.
}

// Sub returns what arrived after earlier.
func (c LogsCounts) Sub(earlier LogsCounts) LogsCounts {
	return LogsCounts{
		c.Requests - earlier.Requests, c.Wire - earlier.Wire, c.Lines - earlier.Lines,
		c.Repeats - earlier.Repeats, c.Disorder - earlier.Disorder, c.Bytes - earlier.Bytes,
	}
}

// fileState says which lines of a file have come.
type fileState struct {
	seen []uint64       // One bit each.
	last map[byte]int64 // The highest number of each output.
}

// StartLogs starts a receiver. The caller must call Close.
func StartLogs(ctx context.Context) (*Logs, error) {
	l := &Logs{}
	l.Reset()
	var err error
	l.server, err = newServer(ctx, "/loki/api/v1/push", l.take)
	return l, err
}

// Reset forgets what arrived.
func (l *Logs) Reset() {
	if l.server != nil {
		l.forgive()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts, l.files, l.latency = LogsCounts{}, map[int]*fileState{}, [latencySteps]int64{}
}

// Watch starts or ends counting how long lines took from their timestamp to here.
func (l *Logs) Watch(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching = on
}

// Counts returns what arrived since the last Reset.
func (l *Logs) Counts() LogsCounts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// Latency returns how long the given share of lines took at most, as an upper bound that is
// up to a quarter too high; 0 when none was watched.
func (l *Logs) Latency(share float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var total, sum int64
	for _, n := range l.latency {
		total += n
	}
	if total == 0 {
		return 0
	}
	for i, n := range l.latency {
		if sum += n; float64(sum) >= share*float64(total) {
			return latencyBound(i)
		}
	}
	return latencyBound(latencySteps - 1)
}

// latencyClass returns the class of a delay, and latencyBound the longest delay of a class.
func latencyClass(d time.Duration) int {
	ms := max(d.Milliseconds(), 0) + 4
	exponent := bits.Len64(uint64(ms)) - 3 // At least 0.
	quarter := ms >> exponent & 3
	return min(4*exponent+int(quarter), latencySteps-1)
}

func latencyBound(class int) time.Duration {
	return time.Duration(int64(class%4+5)<<(class/4)-4) * time.Millisecond
}

// take walks a PushRequest.
func (l *Logs) take(r request, _ http.Header) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for body := r.body; len(body) > 0; {
		f, rest, err := take(body)
		if err != nil {
			return err
		}
		if f.id == 1 {
			if err := l.stream(f.bytes, r.at); err != nil {
				return err
			}
		}
		body = rest
	}
	l.counts.Requests++
	l.counts.Wire += int64(r.wire)
	return nil
}

func (l *Logs) stream(msg []byte, at time.Time) error {
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		if f.id == 2 {
			if err := l.entry(f.bytes, at); err != nil {
				return err
			}
		}
		msg = rest
	}
	return nil
}

func (l *Logs) entry(msg []byte, at time.Time) error {
	var line []byte
	var seconds, nanos int64
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return err
		}
		switch f.id {
		case 1:
			if seconds, nanos, err = timestamp(f.bytes); err != nil {
				return err
			}
		case 2:
			line = f.bytes
		}
		msg = rest
	}
	if l.watching {
		l.latency[latencyClass(at.Sub(time.Unix(seconds, nanos)))]++
	}
	l.counts.Bytes += int64(len(line))
	return l.line(line)
}

// timestamp walks a Timestamp.
func timestamp(msg []byte) (seconds, nanos int64, err error) {
	for len(msg) > 0 {
		f, rest, err := take(msg)
		if err != nil {
			return 0, 0, err
		}
		switch f.id {
		case 1:
			seconds = int64(f.number)
		case 2:
			nanos = int64(f.number)
		}
		msg = rest
	}
	return seconds, nanos, nil
}

// line notes a line by its number.
func (l *Logs) line(text []byte) error {
	id, ok := bytes.CutPrefix(text, []byte(linePrefix))
	if !ok || len(id) < fileDigits+1+seqDigits {
		return errLine
	}
	file, err := strconv.Atoi(string(id[:fileDigits]))
	if err != nil {
		return errLine
	}
	output := id[fileDigits]
	seq, err := strconv.ParseInt(string(id[fileDigits+1:fileDigits+1+seqDigits]), 10, 64)
	if err != nil || seq < 0 {
		return errLine
	}
	f := l.files[file]
	if f == nil {
		f = &fileState{last: map[byte]int64{'o': -1, 'e': -1}}
		l.files[file] = f
	}
	word, bit := seq/64, uint64(1)<<(seq%64)
	for int64(len(f.seen)) <= word {
		f.seen = append(f.seen, 0)
	}
	if f.seen[word]&bit != 0 {
		l.counts.Repeats++
		return nil
	}
	f.seen[word] |= bit
	l.counts.Lines++
	if seq < f.last[output] {
		l.counts.Disorder++
	}
	f.last[output] = max(f.last[output], seq)
	return nil
}
