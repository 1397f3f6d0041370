// Package steps prints what a program is doing, one line for each step with the seconds it
// took. On a terminal the line of the running step is rewritten as it goes on; elsewhere it
// grows by a dot now and then, so that a log shows life, too.
//
// It measures nothing and knows nothing of the steps.
package steps

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Printer prints steps. Its methods may be called from several goroutines.
type Printer struct {
	mu       sync.Mutex // guards the rest
	w        io.Writer
	terminal bool
	open     bool // a step is running
	head     string
	began    time.Time
	dotted   time.Time
}

// New returns a printer to a file, which may be a terminal.
func New(f *os.File) *Printer {
	info, err := f.Stat()
	return &Printer{w: f, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// dotEvery is how often a step that goes on grows by a dot where there is no terminal.
const dotEvery = 2 * time.Second

// Begin starts a step.
func (p *Printer) Begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	p.open, p.began, p.dotted = true, time.Now(), time.Now()
	p.head = fmt.Sprintf("  %-28s ", name)
	p.printf("%s", p.head)
}

// Update shows how far the running step is.
func (p *Printer) Update(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.open:
	case p.terminal:
		p.printf("\r\x1b[K%s%s, %.0f s", p.head, fmt.Sprintf(format, args...), time.Since(p.began).Seconds())
	case time.Since(p.dotted) >= dotEvery:
		p.dotted = time.Now()
		p.printf(".")
	}
}

// Done ends the running step with its outcome.
func (p *Printer) Done(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.open {
		return
	}
	if p.terminal {
		p.printf("\r\x1b[K%s", p.head)
	} else if p.dotted.After(p.began) {
		p.printf(" ")
	}
	p.printf("%s (%.1f s)\n", fmt.Sprintf(format, args...), time.Since(p.began).Seconds())
	p.open = false
}

// Print ends the running step, if any, and prints whole lines.
func (p *Printer) Print(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
	p.printf("%s\n", strings.TrimSuffix(text, "\n"))
}

// Status replaces the last line on a terminal, for a state that is refreshed; elsewhere it
// prints a line of its own.
func (p *Printer) Status(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		p.open, p.head = true, ""
		p.printf("\r\x1b[K%s", text)
		return
	}
	p.printf("%s\n", text)
}

// Terminal tells whether the printer writes to a terminal.
func (p *Printer) Terminal() bool {
	return p.terminal
}

// close ends the line of a step that was not done. The caller holds mu.
func (p *Printer) close() {
	if p.open {
		p.printf("\n")
		p.open = false
	}
}

// printf writes; where nobody reads any more there is nothing left to say.
func (p *Printer) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.w, format, args...)
}
