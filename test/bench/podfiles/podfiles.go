// Package podfiles is the load of the logs benchmark: it writes container logs as a
// container runtime does, in kubelet's folders, one write for each line.
//
// Lines are JSON in CRI format with true timestamps. Each text begins with the number that
// [sink.AppendLineID] makes, so that the receiver knows every line. A seventh goes to the
// error output, one in fifty is written in two parts, and of those one in twenty is longer
// than the 16 KiB at which runtimes cut. How lines spread over files follows Zipf's law.
// Files are renamed when they reach 10 MB, as kubelet does.
//
// The same [Config] always gives the same lines, but for their timestamps.
package podfiles

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/sink"
)

const (
	stderrEvery  = 7
	partialEvery = 50
	longEvery    = 20 // Of those that are partial.
	cutAt        = 16 << 10
	rotateAt     = 10 << 20
	burst        = 10 * time.Millisecond // How often lines are written.
	// Of Zipf's law: the busiest of 200 files gets a sixth of all lines.
	zipfExponent, zipfShift = 1.1, 1
)

// Config says what is written.
type Config struct {
	Dir   string // What kubelet calls /var/log/pods.
	Files int
	Busy  int // The files that get lines after the first; all when 0.
	// LineSize is the mean size of a line in its file, in bytes.
	LineSize int
}

// Writer writes container logs. It must not be used by two goroutines at once.
type Writer struct {
	cfg       Config
	files     []*file
	random    *rand.Rand
	zipf      *rand.Zipf
	line      []byte
	text      []byte
	sentences []string
	total     Counts
}

// Counts is what was written.
type Counts struct {
	Lines int64 // A line of two parts is one.
	Bytes int64 // In the files.
}

// Sub returns what was written after earlier.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{c.Lines - earlier.Lines, c.Bytes - earlier.Bytes}
}

type file struct {
	index int
	path  string
	f     *os.File
	buf   *bufio.Writer // In front of f while a backlog is written.
	size  int64
	lines int64
}

// New makes the files, with one line in each. The caller must call Close.
func New(cfg Config) (*Writer, error) {
	if cfg.Busy == 0 {
		cfg.Busy = cfg.Files
	}
	w := &Writer{cfg: cfg, random: rand.New(rand.NewPCG(1, uint64(cfg.Files)))}
	w.zipf = rand.NewZipf(w.random, zipfExponent, zipfShift, uint64(cfg.Busy-1))
	w.sentences = makeSentences(w.random)
	if err := w.Add(cfg.Files); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Add makes that many files more, which get no lines after their first.
func (w *Writer) Add(files int) error {
	for range files {
		i := len(w.files)
		pod := fmt.Sprintf("team-%02d_service-%04d-7d4b9c6f8-x%04d_%08x-1a2b-4c3d-8e4f-%012x", i%10, i%97, i, i*2654435761%(1<<32), i)
		dir := filepath.Join(w.cfg.Dir, pod, "main")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder of a container: %w", err)
		}
		f := &file{index: i, path: filepath.Join(dir, "0.log")}
		if err := f.open(); err != nil {
			return err
		}
		w.files = append(w.files, f)
		if err := w.write(f); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) open() (err error) {
	if f.f, err = os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_EXCL, 0o640); err != nil {
		return fmt.Errorf("make log file: %w", err)
	}
	f.size = 0
	return nil
}

// Counts returns what was written so far.
func (w *Writer) Counts() Counts { return w.total }

// Close closes all files and leaves them where they are.
func (w *Writer) Close() {
	for _, f := range w.files {
		if f.f != nil {
			_ = f.f.Close() // What matters has been written.
		}
	}
}

// Run writes that many lines a second until ctx ends. It returns an error when it cannot keep
// up by five seconds or cannot write.
func (w *Writer) Run(ctx context.Context, perSecond int) error {
	begin, written := time.Now(), 0
	tick := time.NewTicker(burst)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		due := int(time.Since(begin).Seconds() * float64(perSecond))
		if due-written > 5*perSecond {
			return fmt.Errorf("write log lines: %d of %d lines are late, the machine is too slow or too busy", due-written, perSecond)
		}
		for ; written < due; written++ {
			if err := w.write(w.files[w.zipf.Uint64()]); err != nil {
				return err
			}
		}
	}
}

// Backlog writes lines as fast as it can, until there are that many bytes in the files. It
// does not rotate.
func (w *Writer) Backlog(bytes int64) error {
	for _, f := range w.files[:w.cfg.Busy] {
		f.buf = bufio.NewWriterSize(f.f, 64<<10)
	}
	for w.total.Bytes < bytes {
		if err := w.write(w.files[w.random.IntN(w.cfg.Busy)]); err != nil {
			return err
		}
	}
	for _, f := range w.files[:w.cfg.Busy] {
		if err := f.buf.Flush(); err != nil {
			return fmt.Errorf("write log lines: %w", err)
		}
		f.buf = nil
	}
	return nil
}

// write writes the next line of a file.
func (w *Writer) write(f *file) error {
	stderr := w.random.IntN(stderrEvery) == 0
	// The few long lines are part of the mean.
	mean := w.cfg.LineSize - cutAt/partialEvery/longEvery
	size, parts := mean*3/4+w.random.IntN(mean/2), 1
	if w.random.IntN(partialEvery) == 0 {
		parts = 2
		if w.random.IntN(longEvery) == 0 {
			size += cutAt
		}
	}
	w.render(f, stderr, size)
	text := w.text
	cut := min(len(text)/2, cutAt)
	if len(text) > cutAt {
		cut = cutAt
	}
	for part := range parts {
		tag, piece := byte('F'), text
		if part < parts-1 {
			tag, piece, text = 'P', text[:cut], text[cut:]
		}
		if err := w.record(f, stderr, tag, piece); err != nil {
			return err
		}
	}
	f.lines++
	w.total.Lines++
	if f.buf == nil && f.size >= rotateAt {
		return f.rotate()
	}
	return nil
}

// record writes one line of the file.
func (w *Writer) record(f *file, stderr bool, tag byte, text []byte) error {
	line := time.Now().UTC().AppendFormat(w.line[:0], "2006-01-02T15:04:05.000000000Z")
	if stderr {
		line = append(line, " stderr "...)
	} else {
		line = append(line, " stdout "...)
	}
	line = append(append(append(line, tag, ' '), text...), '\n')
	w.line = line
	var err error
	if f.buf != nil {
		_, err = f.buf.Write(line)
	} else {
		_, err = f.f.Write(line)
	}
	if err != nil {
		return fmt.Errorf("write log line: %w", err)
	}
	f.size += int64(len(line))
	w.total.Bytes += int64(len(line))
	return nil
}

func resource(n uint64) string {
	return []string{"accounts", "baskets", "customers", "invoices", "orders", "payments", "prices", "stock"}[n%8]
}

// headSize is what a line has before its text.
const headSize = len("2006-01-02T15:04:05.000000000Z stdout F ") + len("\n")

// render makes the text of a line that will have that size in its file.
func (w *Writer) render(f *file, stderr bool, size int) {
	level := "info"
	if stderr {
		level = "error"
	}
	n := w.random.Uint64()
	text := sink.AppendLineID(w.text[:0], f.index, stderr, f.lines)
	text = fmt.Appendf(text, `,"level":"%s","caller":"handler/%s.go:%d","trace_id":"%016x","status":%d,"duration_ms":%d.%02d,"msg":"`,
		level, resource(n), n>>8%500, n, 200+n>>16%4*100, n>>24%1000, n>>32%100)
	const tail = `"}`
	// A service says the same few things again and again, with other numbers.
	for end := size - headSize - len(tail); len(text) < end; {
		sentence := w.sentences[w.random.IntN(len(w.sentences))]
		text = fmt.Appendf(append(text, sentence[:min(len(sentence), end-len(text))]...), "%d ", w.random.IntN(1000))
	}
	w.text = append(text, tail...)
}

// rotate does as kubelet: rename, and a new file that the runtime opens.
func (f *file) rotate() error {
	if err := os.Rename(f.path, f.path+"."+time.Now().UTC().Format("20060102-150405.000")); err != nil {
		return fmt.Errorf("rotate log file: %w", err)
	}
	if err := f.f.Close(); err != nil {
		return fmt.Errorf("rotate log file: %w", err)
	}
	return f.open()
}

// makeSentences returns what services say: sentences of words out of a few hundred.
func makeSentences(random *rand.Rand) []string {
	vocabulary := make([]string, 300)
	for i := range vocabulary {
		word := make([]byte, 3+random.IntN(8))
		for j := range word {
			word[j] = byte('a' + random.IntN(26))
		}
		vocabulary[i] = string(word)
	}
	sentences := make([]string, 60)
	for i := range sentences {
		for range 6 + random.IntN(12) {
			sentences[i] += vocabulary[random.IntN(len(vocabulary))] + " "
		}
	}
	return sentences
}
