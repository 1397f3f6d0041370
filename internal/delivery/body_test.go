package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// spoiled is a body whose memory is written over when it is given back, as by its next user.
type spoiled struct {
	*Body
	freed atomic.Int32 // chunks
}

func newSpoiled(content []byte) *spoiled {
	s := &spoiled{}
	var chunks [][]byte
	for len(content) > 0 {
		n := min(len(content), 7)
		chunks = append(chunks, bytes.Clone(content[:n]))
		content = content[n:]
	}
	s.Body = NewBody(func(chunk []byte) {
		copy(chunk, "xxxxxxx")
		s.freed.Add(1)
	}, chunks...)
	return s
}

// lender is a transport that keeps the body of its first request beyond the answer, unread, as
// that of net/http may.
type lender struct {
	lineBackend
	first func(r *http.Request) (*http.Response, error)
	lent  *http.Request
}

func (l *lender) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.lent == nil {
		l.lent = r
		return l.first(r)
	}
	return l.lineBackend.RoundTrip(r)
}

func TestBodyIsNotUsedAgainWhileTheTransportReads(t *testing.T) {
	answers := map[string]func(r *http.Request) (*http.Response, error){
		"early failure":  func(*http.Request) (*http.Response, error) { return respond(500, ""), nil },
		"early success":  func(*http.Request) (*http.Response, error) { return written(5), nil },
		"early refusal":  func(*http.Request) (*http.Response, error) { return respond(400, ""), nil },
		"too large":      func(*http.Request) (*http.Response, error) { return respond(413, ""), nil },
		"another format": func(*http.Request) (*http.Response, error) { return respond(415, ""), nil },
		"cut":            func(*http.Request) (*http.Response, error) { return nil, errors.New("reset by the test") },
		"timeout": func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		},
	}
	for name, first := range answers {
		for _, dir := range []string{"", t.TempDir()} {
			t.Run(fmt.Sprintf("%s/disk=%v", name, dir != ""), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := &lender{first: first}
					l.answer = func(_ byte, ids []int) *http.Response { return written(len(ids)) }
					q := newQueue(t, testConfig(), dir, l)
					q.ep.Codec = lineCodec{}
					r := start(t, q)
					content := lines(2, 1, 2, 3, 4, 5)
					body := newSpoiled(content)
					if err := q.Put(t.Context(), Block{Body: body.Body, Items: 5, Format: 2}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Minute)
					synctest.Wait()
					if s := q.Status(); s.Memory.Blocks+s.Disk.Blocks != 0 {
						t.Fatalf("the block is not done with: %+v", s)
					}
					if n := body.freed.Load(); n != 0 {
						t.Fatalf("%d chunks were given back although the transport still holds a reader", n)
					}
					if sent, err := io.ReadAll(l.lent.Body); err != nil || !bytes.Equal(sent, content) {
						t.Errorf("the transport reads %q, %v, want %q", sent, err, content)
					}
					for range 2 { // The contract does not forbid it.
						l.lent.Body.Close()
					}
					if n, want := int(body.freed.Load()), (len(content)+6)/7; n != want {
						t.Errorf("%d chunks were given back, want all %d, once", n, want)
					}
					if n, err := l.lent.Body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
						t.Errorf("reading after the close = %d, %v", n, err)
					}
					if _, err := l.lent.GetBody(); !errors.Is(err, errOver) {
						t.Errorf("beginning anew after all is over: %v, want %v", err, errOver)
					}
					r.shutdown()
				})
			})
		}
	}
}

func TestBodyIsGivenBackWithoutATransport(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		q := newQueue(t, testConfig(), "", &backend{})
		start(t, q).shutdown()
		body := newSpoiled([]byte("block 1 "))
		if err := q.Put(t.Context(), Block{Body: body.Body, Items: 1}); !errors.Is(err, ErrClosed) {
			t.Fatalf("Put = %v, want %v", err, ErrClosed)
		}
		if body.freed.Load() != 0 {
			t.Error("a body that was not taken is still its maker's")
		}
	})
	t.Run("on disk", func(t *testing.T) {
		b := &backend{answer: refuse}
		r := start(t, newQueue(t, testConfig(), t.TempDir(), b))
		body := newSpoiled([]byte("block 1 and more "))
		if err := r.Put(t.Context(), Block{Body: body.Body, Items: 1}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the memory of a block that only waits on disk", func() bool { return body.freed.Load() == 3 })
		b.set(nil)
		eventually(t, "it to arrive from there", func() bool { return len(b.accepted()) == 1 })
		r.shutdown()
	})
}

// A redirect makes net/http open the body once more for where it is not to go, and forget it.
func TestRedirectLeavesTheBodyToTheCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{}
		b.set(always(307, "", "Location", "http://other/")) //nolint:bodyclose // The client closes it.
		r := start(t, newQueue(t, testConfig(), "", b))
		body := newSpoiled([]byte("block 1 "))
		if err := r.Put(t.Context(), Block{Body: body.Body, Items: 1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		b.set(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if taken := b.accepted(); len(taken) != 1 || body.freed.Load() != 0 {
			t.Errorf("accepted %v, and %d chunks came back", taken, body.freed.Load())
		}
		r.shutdown()
	})
}

func TestTransportMayBeginAnew(t *testing.T) {
	var sent []string
	l := &lender{first: func(r *http.Request) (*http.Response, error) {
		half := make([]byte, 3)
		if _, err := io.ReadFull(r.Body, half); err != nil {
			return nil, err
		}
		r.Body.Close()
		again, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		defer again.Close()
		whole, err := io.ReadAll(again)
		sent = append(sent, string(half), string(whole))
		return respond(204, ""), err
	}}
	r := start(t, newQueue(t, testConfig(), "", l))
	body := newSpoiled([]byte("block 1 of a test"))
	done := make(chan struct{})
	if err := r.Put(t.Context(), Block{Body: body.Body, Items: 1, Ack: func() { close(done) }}); err != nil {
		t.Fatal(err)
	}
	<-done
	r.shutdown()
	if len(sent) != 2 || sent[0] != "blo" || sent[1] != "block 1 of a test" {
		t.Errorf("read %q", sent)
	}
	if body.freed.Load() != 3 {
		t.Errorf("%d chunks were given back, want 3", body.freed.Load())
	}
}

// chunkList is a free list as the writers have one.
type chunkList struct {
	mu     sync.Mutex
	free   [][]byte
	reused int
}

func (l *chunkList) put(chunk []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = append(l.free, chunk)
}

func (l *chunkList) get() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free) - 1; n >= 0 {
		c := l.free[n]
		l.free, l.reused = l.free[:n], l.reused+1
		return c
	}
	return make([]byte, 16<<10)
}

// TestReusedMemoryIsNeverOnTheWire sends bodies of memory that is used again through the client
// of net/http to a server that answers early or never. The race detector sees what the server
// does not get to read.
func TestReusedMemoryIsNeverOnTheWire(t *testing.T) {
	var requests, whole atomic.Int64
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) % 6 {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
			return
		case 2:
			w.WriteHeader(http.StatusNoContent)
			return
		case 3:
			_, _ = io.CopyN(io.Discard, r.Body, 100<<10)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case 4:
			<-ended // The request is cut while it is on its way.
			return
		}
		content, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		whole.Add(1)
		if !bytes.Equal(content, bytes.Repeat(content[:1], len(content))) {
			t.Errorf("a body of %d bytes is of several", len(content))
		}
	}))
	defer server.Close()
	defer close(ended)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	cfg := testConfig()
	cfg.MaxParallel = 4
	q := New(cfg, "", logger(t), newTestMetrics(), Endpoint{Name: "test", URL: server.URL, Client: &http.Client{Transport: transport}, Timeout: 30 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	list := &chunkList{}
	r := start(t, q)
	for i := range 24 {
		chunks := make([][]byte, 40)
		for j := range chunks {
			chunks[j] = list.get()
			for k := range chunks[j] {
				chunks[j][k] = byte(i)
			}
		}
		if err := q.Put(ctx, Block{Body: NewBody(list.put, chunks...), Items: 1, Shard: uint32(i % 4)}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all blocks to be delivered", func() bool { return q.Status().Memory.Blocks == 0 })
	r.shutdown()
	if whole.Load() == 0 || list.reused == 0 {
		t.Errorf("%d bodies were read as a whole, and %d chunks used again", whole.Load(), list.reused)
	}
}
