package kit

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Fault is one way in which a receiver misbehaves on one request. The zero value is honest.
// Where several fields are set they act in the order of the fields.
type Fault struct {
	// Delay is waited before anything else happens.
	Delay time.Duration
	// Hang never answers: the request ends when the client or the receiver goes away.
	Hang bool
	// CutBefore resets the connection before anything is stored.
	CutBefore bool
	// Early sends this informational answer (1xx) before the real one.
	Early int
	// Status answers with this code and stores nothing; 0 is the honest answer. With an
	// empty Body and a Fill below 0 the answer has no body at all.
	Status int
	// RetryAfter is the value of the Retry-After header of that answer; "" sends none.
	RetryAfter string
	// Body is the body of that answer; "" is a sentence with the status.
	Body string
	// Fill makes that answer's body at least this long.
	Fill int
	// Location is the header of that name, for redirects.
	Location string
	// Written are the headers by which a receiver of version 2.0 says what it has stored; in
	// an answer with Status they are a claim, nil sends none.
	Written *Written
	// Success is the code of an honest success, 0 means 200.
	Success int
	// Silent leaves the Written headers out of an honest answer, as a receiver of version 1.0
	// that takes everything would.
	Silent bool
	// CutAfter stores honestly and resets the connection instead of answering.
	CutAfter bool
	// Trickle stores honestly and then sends a long answer a byte at a time, one each Trickle.
	Trickle time.Duration
}

// Written is how much of each kind a receiver of remote write 2.0 has stored, as it says in
// the headers X-Prometheus-Remote-Write-*-Written.
type Written struct{ Samples, Histograms, Exemplars int }

func (w *Written) add(o Written) {
	w.Samples += o.Samples
	w.Histograms += o.Histograms
	w.Exemplars += o.Exemplars
}

func (w *Written) set(h http.Header) {
	if w == nil {
		return
	}
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(w.Samples))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(w.Histograms))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(w.Exemplars))
}

// Slow delays the honest answer.
func Slow(d time.Duration) Fault { return Fault{Delay: d} }

// Answer refuses with a status code (500, 503, 400, 401, 413, ...) and stores nothing.
func Answer(status int) Fault { return Fault{Status: status} }

// TooMany answers 429; retryAfter is the header's value: seconds, an HTTP date, or anything
// a test wants to see ignored.
func TooMany(retryAfter string) Fault {
	return Fault{Status: http.StatusTooManyRequests, RetryAfter: retryAfter}
}

// TooManyFor answers 429 with a Retry-After of whole seconds.
func TooManyFor(d time.Duration) Fault {
	return TooMany(strconv.Itoa(int(d / time.Second)))
}

// TooManyUntil answers 429 with a Retry-After that is a date.
func TooManyUntil(t time.Time) Fault {
	return TooMany(t.UTC().Format(http.TimeFormat))
}

// Faults says how a receiver treats its next requests; all methods may be called at any time
// and from any goroutine. A scripted fault comes before the tenant's, that before the one set
// for all.
type Faults struct {
	mu     sync.Mutex // guards the rest
	script []Fault
	all    Fault
	tenant map[string]Fault
	choose func(*http.Request) (Fault, bool)
}

// Set makes every following request meet f, until it is replaced.
func (f *Faults) Set(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = fault
}

// SetFor makes every following request of one tenant meet f.
func (f *Faults) SetFor(tenant string, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tenant == nil {
		f.tenant = make(map[string]Fault)
	}
	f.tenant[tenant] = fault
}

// Script queues faults, one a request in the order of arrival; Fault{} in between is an
// honest answer. When the script is over the other settings count again.
func (f *Faults) Script(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = append(f.script, faults...)
}

// Choose lets a function say what a request meets, where it returns true; it comes before
// everything else and must not block. Its request has no body.
func (f *Faults) Choose(choose func(*http.Request) (Fault, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.choose = choose
}

// Clear makes the receiver honest again: it forgets the script and every fault.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script, f.all, f.tenant, f.choose = nil, Fault{}, nil, nil
}

// take returns the fault that the next request, one of the tenant, meets.
func (f *Faults) take(tenant string, r *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.choose != nil {
		if fault, ok := f.choose(r); ok {
			return fault
		}
	}
	if len(f.script) > 0 {
		next := f.script[0]
		f.script = f.script[1:]
		return next
	}
	if fault, ok := f.tenant[tenant]; ok {
		return fault
	}
	return f.all
}

// text returns the body of the answer with Status.
func (f Fault) text() string {
	switch {
	case f.Body != "" || f.Fill < 0:
		return f.Body
	default:
		return fmt.Sprintf("answer %d was asked for by the test", f.Status)
	}
}

// refuse sends the answer with Status.
func (f Fault) refuse(w http.ResponseWriter) {
	for name, value := range map[string]string{"Retry-After": f.RetryAfter, "Location": f.Location} {
		if value != "" {
			w.Header().Set(name, value)
		}
	}
	text := f.text()
	if text == "" {
		w.WriteHeader(f.Status)
		return
	}
	http.Error(w, text, f.Status)
	filler := bytes.Repeat([]byte("and so on and on "), 1<<12)
	for left := f.Fill - len(text); left > 0; left -= len(filler) {
		if _, err := w.Write(filler[:min(left, len(filler))]); err != nil {
			return // the client has had enough
		}
	}
}

// delay waits for the fault's delay and returns false when the client left meanwhile.
func delay(r *http.Request, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// cut resets the connection, so that the client sees an error and not an orderly end.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 cannot be hijacked; aborting has the same effect
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// trickle sends a long answer one byte at a time until the client leaves.
func trickle(w http.ResponseWriter, r *http.Request, every time.Duration) {
	const length = 1 << 20
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	for range length {
		if _, err := io.WriteString(w, "."); err != nil {
			return
		}
		if err := out.Flush(); err != nil || !delay(r, every) {
			return
		}
	}
}
