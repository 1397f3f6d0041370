package expfmt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Prometheus' parsers call themselves again for what yields no entry: an empty line, a
// _created line, a metric family without metrics. A few megabytes of those exceed the largest
// stack, which ends the process and cannot be recovered from. So they are counted first.
const (
	maxEmpty   = 1 << 14 // Takes up to 16 MB of stack.
	maxCreated = 1 << 16 // Takes up to 35 MB.
)

// guard returns an error when the body must not be given to Prometheus' parser. That of
// OpenMetrics reads some malformed exemplars for ever while it looks for start timestamps, so
// text is read here first.
func (p *Parser) guard() error {
	b := p.wrapped.body
	if p.format != Proto {
		var q Parser
		q.Reset(p.format, p.seed)
		q.Feed(b, true)
		for {
			if _, err := q.Next(Hint{}); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	switch {
	case p.format == Proto:
		if emptyFamilies(b) {
			return fmt.Errorf("more than %d metric families without metrics follow each other", maxEmpty)
		}
	case p.format == OpenMetrics100:
		if createdLines(b) {
			return fmt.Errorf("more than %d _created lines follow each other, so histograms cannot be converted", maxCreated)
		}
	case emptyLines(b):
		return fmt.Errorf("more than %d empty lines follow each other, so histograms cannot be converted", maxEmpty)
	}
	return nil
}

func emptyLines(b []byte) bool {
	return runs(b, maxEmpty, func(line []byte) bool { return len(bytes.Trim(line, " \t")) == 0 })
}

func createdLines(b []byte) bool {
	return runs(b, maxCreated, func(line []byte) bool { return bytes.Contains(line, []byte("_created")) })
}

// runs reports whether more than most lines follow each other that are of a kind.
func runs(b []byte, most int, kind func(line []byte) bool) bool {
	run := 0
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			end = len(b) - 1
		}
		if !kind(b[:end]) {
			run = 0
		} else if run++; run > most {
			return true
		}
		b = b[end+1:]
	}
	return false
}

func emptyFamilies(b []byte) bool {
	run := 0
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return false // The parser refuses it.
		}
		if hasMetric(b[n : n+int(size)]) {
			run = 0
		} else if run++; run > maxEmpty {
			return true
		}
		b = b[n+int(size):]
	}
	return false
}

// hasMetric reports whether a MetricFamily has its field 4. What cannot be read has none.
func hasMetric(b []byte) bool {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		if tag == 4<<3|2 {
			return true
		}
		skip := uint64(0)
		switch tag & 7 {
		case 0:
			_, n = binary.Uvarint(b)
			skip = uint64(max(n, 0))
		case 1:
			skip = 8
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)) {
				return false
			}
			skip = uint64(n) + size
		case 5:
			skip = 4
		}
		if skip == 0 || skip > uint64(len(b)) {
			return false
		}
		b = b[skip:]
	}
	return false
}
