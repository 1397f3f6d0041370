package kit

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer sends one answer in the scrape's mode and tells whether all of it went out.
func (t *Target) answer(w http.ResponseWriter, r *http.Request, s Scrape, changed <-chan struct{}) bool {
	w.Header().Set("Content-Type", cmp.Or(s.contentType, "text/plain; version=0.0.4; charset=utf-8"))
	switch s.Mode {
	case ModeHonest:
	case ModeGarbage:
		// Not a NUL at the start of a line: for Prometheus that is the end of a good exposition.
		return write(w, "seq{i=\"0\"} 1\n\xff}{ not an exposition\n{{{{\x00\x01\n")
	case ModeHTML:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		return write(w, "<!DOCTYPE html>\n<html><body><h1>Sign in</h1></body></html>\n")
	case ModeError:
		http.Error(w, "the exporter is broken", http.StatusInternalServerError)
		return true
	case ModeEndless:
		return endless(w, r, changed)
	case ModeSlow:
		return slowly(w, r, s.Body, changed)
	case ModeHang:
		return pause(r, changed, 0)
	case ModeRedirectLoop:
		http.Redirect(w, r, TargetPath, http.StatusFound)
		return true
	case ModeGzipBomb:
		w.Header().Set("Content-Encoding", "gzip")
		return gzipBomb(w)
	case ModeLabels:
		return repeat(w, "labels{", "l%d=\"x\",", "} 1\n")
	case ModeSeries:
		return repeat(w, "", "series_%d 1\n", "")
	case ModeTruncated:
		w.Header().Set("Content-Length", "1000")
		_ = write(w, "seq{i=\"0\"} 1\n")
		panic(http.ErrAbortHandler) // the connection ends here, short of the promised length
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(s.Body)))
	return write(w, string(s.Body))
}

func write(w io.Writer, text string) bool {
	_, err := io.WriteString(w, text)
	return err == nil
}

// pause waits for d, or without end when d is 0, and returns false when the client left or
// the mode changed.
func pause(r *http.Request, changed <-chan struct{}, d time.Duration) bool {
	var after <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-after:
		return true
	case <-changed:
	case <-r.Context().Done():
	}
	return false
}

// endless sends valid samples until the client has had enough.
func endless(w http.ResponseWriter, r *http.Request, changed <-chan struct{}) bool {
	var chunk []byte
	for i := 0; ; i++ {
		chunk = append(chunk, "endless{i=\""+strconv.Itoa(i)+"\"} 1\n"...)
		if len(chunk) < 32<<10 {
			continue
		}
		select {
		case <-changed:
			return false
		case <-r.Context().Done():
			return false
		default:
		}
		if _, err := w.Write(chunk); err != nil {
			return false
		}
		chunk = chunk[:0]
	}
}

// slowly sends the body a byte at a time.
func slowly(w http.ResponseWriter, r *http.Request, body []byte, changed <-chan struct{}) bool {
	out := http.NewResponseController(w)
	for i := range body {
		if !write(w, string(body[i:i+1])) || out.Flush() != nil || !pause(r, changed, 50*time.Millisecond) {
			return false
		}
	}
	return true
}

// repeat sends a part ten million times, each with its number, between a head and a tail.
func repeat(w io.Writer, head, part, tail string) bool {
	out := bufio.NewWriterSize(w, 32<<10)
	_, _ = out.WriteString(head) // the writer keeps its first error for Flush
	for i := range 10_000_000 {
		if _, err := fmt.Fprintf(out, part, i); err != nil {
			return false
		}
	}
	_, _ = out.WriteString(tail)
	return out.Flush() == nil
}

// gzipBomb sends 10 GiB of valid exposition, compressed to about a thousandth. Gzip members
// may follow one another, so one compressed mebibyte is sent ten thousand times.
func gzipBomb(w io.Writer) bool {
	const line = "# this comment is here only to be decompressed over and over ..\n"
	var member bytes.Buffer
	gz := gzip.NewWriter(&member)
	if _, err := io.WriteString(gz, strings.Repeat(line, 1<<20/len(line))); err != nil {
		panic(err) // a buffer takes everything
	}
	if err := gz.Close(); err != nil {
		panic(err)
	}
	for range 10 << 10 {
		if _, err := w.Write(member.Bytes()); err != nil {
			return false
		}
	}
	return true
}
