package podlogs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// Values of first_start.from.
const (
	fromBeginning = "beginning"
	fromPodStart  = "pod_start"
	fromEnd       = "end"
)

const (
	// skipFirstStart is the reason for bytes that were there before the first start.
	skipFirstStart = "before_first_start"
	// startWindow is how much of a file is looked at for a line with its time: runtimes split
	// lines at 16 KiB.
	startWindow = 64 << 10
	// startedSuffix names the file beside the positions that tells when there were some first.
	startedSuffix = ".started"
)

// StartConfig is the block first_start: what is read of the files that are there when Ingot
// starts for the first time, that is, with a data directory that has no positions. Files that
// appear later are always read from their beginning. What is left out is counted in
// ingot_podlogs_skipped_bytes_total.
type StartConfig struct {
	// From is beginning, pod_start or end. With pod_start, of pod_logs only, a container whose
	// log begins within max_age before the first start is read from the beginning, any other
	// from the end. Default pod_start, for file_logs beginning.
	From string `yaml:"from"`
	// MaxAge is the time that pod_start looks back. With beginning, older lines of containers
	// are left out, and of file_logs files that were not written to since; 0s is no limit.
	// Default 1h with pod_start, else 0s.
	MaxAge config.Duration `yaml:"max_age"`
}

// UnmarshalYAML decodes onto the defaults, of which the age depends on the other key.
func (c *StartConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain StartConfig
	x := plain{From: c.From, MaxAge: -1}
	err := unmarshal(&x)
	if x.MaxAge == -1 {
		x.MaxAge = defaultMaxAge(x.From)
	}
	*c = StartConfig(x)
	return err
}

func defaultMaxAge(from string) config.Duration {
	if from == fromPodStart {
		return config.Duration(time.Hour)
	}
	return 0
}

func startConfig(from string) StartConfig { return StartConfig{from, defaultMaxAge(from)} }

func (c *StartConfig) validate(ps *config.Problems, path string, pods bool) {
	switch {
	case c.From == fromBeginning, c.From == fromEnd, c.From == fromPodStart && pods:
	case pods:
		ps.Add(path+".from", "must be beginning, pod_start or end, is %q", c.From)
	default:
		ps.Add(path+".from", "must be beginning or end, is %q", c.From)
	}
	if c.MaxAge < 0 {
		ps.Add(path+".max_age", "must not be negative, is %s; write 0s for no limit", c.MaxAge)
	}
}

// begin sets where the files of a container, or one of file_logs, are begun if this is the first
// start. It returns those that are read at all. What a notice tells of has come since.
func (s *scanner) begin(ch *chain, found []*tail) []*tail {
	if !s.c.positions.first || !s.scanning || s.pass > 1 || len(found) == 0 {
		return found
	}
	if ch.config > 0 {
		s.beginFile(&s.c.cfg.Files[ch.config-1].FirstStart, found[0])
		return found
	}
	cfg := &s.c.cfg.Pods.FirstStart
	cutoff := s.now.Add(-time.Duration(cfg.MaxAge))
	switch cfg.From {
	case fromBeginning:
		if cfg.MaxAge == 0 {
			return found
		}
	case fromPodStart:
		if begin, ok := s.firstTime(found[0]); !ok || begin >= cutoff.UnixNano() {
			return found
		}
		cutoff = s.now
	default:
		cutoff = s.now
	}
	kept := found[:0]
	for _, t := range found {
		switch {
		case t.packed != nil:
			if err := t.file.stat(&s.stat); err != nil || mtimeOf(&s.stat) >= cutoff.UnixNano() {
				kept = append(kept, t)
				continue
			}
			s.skipped(ch, t, max(t.size.Load(), 1))
			s.c.positions.release(t.pos.Load())
			_ = t.file.close() // It was only read.
			continue
		case cfg.From == fromBeginning:
			s.skipped(ch, t, s.firstSince(t, cutoff.UnixNano()))
		default:
			s.skipped(ch, t, lastLineEnd(t.file, t.size.Load()))
		}
		kept = append(kept, t)
	}
	return kept
}

// beginFile is begin for a file of file_logs, of whose lines the times are not known.
func (s *scanner) beginFile(cfg *StartConfig, t *tail) {
	err := t.file.stat(&s.stat)
	old := err == nil && cfg.MaxAge > 0 && mtimeOf(&s.stat) < s.now.Add(-time.Duration(cfg.MaxAge)).UnixNano()
	if cfg.From == fromEnd || old {
		s.skipped(&chain{}, t, lastLineEnd(t.file, t.size.Load()))
	}
}

// skipped begins a file at the given offset.
func (s *scanner) skipped(ch *chain, t *tail, off int64) {
	if off <= 0 {
		return
	}
	pos := t.pos.Load()
	pos.acked.Store(off)
	pos.resize(max(pos.size.Load(), off))
	s.c.positions.touch(pos)
	t.off.Store(off)
	t.marked = off
	s.skips++
	s.skippedBytes += off
	s.c.m.skippedFirst.Add(float64(off))
	s.c.dropped(ch, skipFirstStart, 0, off, s.now)
}

// begun tells what the first start has left out.
func (s *scanner) begun() {
	if s.skips > 0 {
		s.c.log.Info("first start, what the log files have from before is left out as first_start says", "count", s.skips, "bytes", s.skippedBytes)
	}
}

// firstTime returns the time of the first line of a container's file. ok is false if it tells
// none.
func (s *scanner) firstTime(t *tail) (at int64, ok bool) {
	var head []byte
	var err error
	if t.packed != nil {
		head, _, err = gzipHead(t.file, t.fileSize())
	} else {
		head, err = readHead(t.file, make([]byte, fingerprintSize))
	}
	if err != nil {
		return 0, false
	}
	return s.timeOf(head)
}

// timeOf returns the time that a line begins with.
func (s *scanner) timeOf(line []byte) (at int64, ok bool) {
	stamp, _, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return 0, false
	}
	return s.times.time(stamp)
}

// firstSince returns the offset of the first line of a file that is not older than at, given
// that they are in order. It reads little of a large file.
func (s *scanner) firstSince(t *tail, at int64) int64 {
	buf := make([]byte, startWindow)
	low, high := int64(0), t.size.Load() // The line begins in [low, high], and one begins at low.
	for high-low > startWindow {
		middle := low + (high-low)/2
		n, err := t.file.ReadAt(buf, middle)
		if err != nil && !errors.Is(err, io.EOF) {
			return low
		}
		i := bytes.IndexByte(buf[:n], '\n') + 1
		if lineAt, ok := s.timeOf(buf[i:n]); i > 0 && ok && lineAt < at {
			low = middle + int64(i)
		} else {
			high = middle
		}
	}
	for {
		n, err := t.file.ReadAt(buf, low)
		for data := buf[:n]; ; {
			i := bytes.IndexByte(data, '\n') + 1
			if i == 0 {
				break
			}
			if lineAt, ok := s.timeOf(data); ok && lineAt >= at {
				return low
			}
			low, data = low+int64(i), data[i:]
		}
		if err != nil || bytes.IndexByte(buf[:n], '\n') < 0 {
			return low
		}
	}
}

// lastLineEnd returns the offset behind the last whole line of a file: a line that is being
// written is read from its begin.
func lastLineEnd(f io.ReaderAt, size int64) int64 {
	buf := make([]byte, min(size, startWindow))
	start := size - int64(len(buf))
	n, err := f.ReadAt(buf, start)
	if err != nil && !errors.Is(err, io.EOF) {
		return size
	}
	if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 || start == 0 {
		return start + int64(i) + 1
	}
	return size
}

// fileSize returns the size of the file itself, compressed or not, or 0.
func (t *tail) fileSize() int64 {
	var st unix.Stat_t
	if t.file.stat(&st) != nil {
		return 0
	}
	return st.Size
}

// started tells whether there have been positions at this place before.
func (p *Positions) started() bool {
	_, err := os.Stat(p.path + startedSuffix)
	return err == nil
}

// markStarted notes that there are positions from now on, so that their loss is none but a loss.
func (p *Positions) markStarted(now time.Time) error {
	text := now.UTC().Format(time.RFC3339) + "\n"
	f, err := writeSynced(p.path+startedSuffix, []byte(text))
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("note the first start in %s: %w", filepath.Base(p.path)+startedSuffix, err)
	}
	return nil
}
