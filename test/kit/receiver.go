package kit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// AnonymousTenant is the tenant of requests without X-Scope-OrgID where none is required.
const AnonymousTenant = "anonymous"

// Request is one request that a receiver met, whatever became of it.
type Request struct {
	Time   time.Time
	Tenant string
	// Status is what was answered, 0 when the connection was cut or never answered.
	Status int
	// Answer is the body of a refusal.
	Answer string
	// Items is how many samples or lines were new and stored.
	Items int
	// Bytes is the size of the body as sent.
	Bytes int
	// Digest tells equal bodies: a retry must send the same bytes again.
	Digest string
	// Beside is how many requests were being served at its beginning, it included.
	Beside int
	// Header is the request's; the receiver does not change it.
	Header http.Header
	// Fault is what the request met; zero for an honest answer.
	Fault Fault
}

// answer is the honest outcome of one request.
type answer struct {
	status  int
	text    string
	items   int
	written *Written // of remote write 2.0
}

// receiver is what both receivers share: the HTTP side, the faults and the record of requests.
type receiver struct {
	*Server
	// Faults says how the receiver misbehaves.
	Faults        *Faults
	path          string
	requireTenant bool
	accept        func(tenant string, h http.Header, body []byte) answer

	mu       sync.Mutex // guards requests, serving
	requests []Request
	serving  int
}

// maxBody is far above what any sender should send and keeps a broken one from filling memory.
const maxBody = 256 << 20

// newReceiver returns a receiver for POSTs on one path that is down.
func newReceiver(path string, requireTenant bool, accept func(string, http.Header, []byte) answer) *receiver {
	r := &receiver{Faults: new(Faults), path: path, requireTenant: requireTenant, accept: accept}
	r.Server = NewServer(r)
	return r
}

// PushURL returns the URL to push to.
func (r *receiver) PushURL() string {
	return r.URL() + r.path
}

// Requests returns the requests so far, in the order in which they ended.
func (r *receiver) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// ServeHTTP meets one request: reads it, applies the fault whose turn it is, stores what is
// to be stored, answers and records.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	rec := Request{Time: time.Now(), Tenant: req.Header.Get("X-Scope-OrgID"), Header: req.Header.Clone()}
	if rec.Tenant == "" {
		rec.Tenant = AnonymousTenant
	}
	rec.Fault = r.Faults.take(rec.Tenant, req)
	r.mu.Lock()
	r.serving++
	rec.Beside = r.serving
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.serving--
		r.requests = append(r.requests, rec)
	}()

	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
	if err != nil {
		rec.Answer = fmt.Sprintf("read request: %v", err)
		return
	}
	sum := sha256.Sum256(body)
	rec.Bytes, rec.Digest = len(body), hex.EncodeToString(sum[:])

	fault := rec.Fault
	if !delay(req, fault.Delay) {
		return
	}
	if fault.Hang {
		<-req.Context().Done()
		return
	}
	if fault.CutBefore {
		cut(w)
		return
	}
	if fault.Early != 0 {
		w.WriteHeader(fault.Early)
	}
	if fault.Status != 0 {
		rec.Status, rec.Answer = fault.Status, fault.text()
		fault.Written.set(w.Header())
		fault.refuse(w)
		return
	}

	ans := r.judge(req, body)
	rec.Items = ans.items
	if fault.CutAfter {
		cut(w)
		return
	}
	rec.Status, rec.Answer = ans.status, ans.text
	if !fault.Silent {
		ans.written.set(w.Header())
	}
	if fault.Trickle > 0 {
		trickle(w, req, fault.Trickle)
		return
	}
	if ans.status/100 == 2 {
		if fault.Success != 0 {
			rec.Status = fault.Success
		}
		w.WriteHeader(rec.Status)
		return
	}
	http.Error(w, ans.text, ans.status)
}

// judge checks what does not depend on the signal and hands the body on.
func (r *receiver) judge(req *http.Request, body []byte) answer {
	tenant := req.Header.Get("X-Scope-OrgID")
	switch {
	case req.URL.Path != r.path:
		return answer{status: http.StatusNotFound, text: "404 page not found"}
	case req.Method != http.MethodPost:
		return answer{status: http.StatusMethodNotAllowed, text: "method not allowed"}
	case tenant == "" && r.requireTenant:
		return answer{status: http.StatusUnauthorized, text: "no org id"}
	case tenant == "":
		tenant = AnonymousTenant
	}
	return r.accept(tenant, req.Header, body)
}
