package delivery

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lineCodec is a Codec for bodies that are numbers in words: "2 10 11 12" holds the items 10,
// 11 and 12 in format 2. Format 1 has no room for numbers that end in 9.
type lineCodec struct{}

func lines(format byte, ids ...int) []byte {
	b := strconv.AppendInt(nil, int64(format), 10)
	for _, id := range ids {
		b = strconv.AppendInt(append(b, ' '), int64(id), 10)
	}
	return b
}

func parseLines(body []byte) (format byte, ids []int) {
	for i, word := range strings.Fields(string(body)) {
		n, err := strconv.Atoi(word)
		if err != nil {
			panic(fmt.Sprintf("a body that was never put: %q", body))
		}
		if i == 0 {
			format = byte(n)
			continue
		}
		ids = append(ids, n)
	}
	return format, ids
}

func linePart(format byte, ids []int) Part { return Part{Body: lines(format, ids...), Items: len(ids)} }

func (lineCodec) Header(format byte) http.Header {
	return http.Header{"X-Format": {strconv.Itoa(int(format))}}
}

func (lineCodec) Split(format byte, body []byte) (left, right Part, err error) {
	_, ids := parseLines(body)
	if len(ids) < 2 {
		return left, right, ErrWhole
	}
	return linePart(format, ids[:len(ids)/2]), linePart(format, ids[len(ids)/2:]), nil
}

func (lineCodec) Fallback(format byte, body []byte) (byte, Part, error) {
	if format != 2 {
		return 0, Part{}, ErrNoFallback
	}
	_, ids := parseLines(body)
	return 1, linePart(1, slices.DeleteFunc(ids, func(id int) bool { return id%10 == 9 })), nil
}

func (lineCodec) Written(h http.Header, format byte, items int) (int, bool) {
	if format != 2 {
		return items, true
	}
	n, err := strconv.Atoi(h.Get("X-Written"))
	return n, err == nil
}

// lineBackend takes bodies of a lineCodec and keeps the items it has accepted in order.
type lineBackend struct {
	answer func(format byte, ids []int) *http.Response

	mu      sync.Mutex
	taken   []int
	formats []byte // of all requests
	headers []http.Header
}

func (b *lineBackend) RoundTrip(r *http.Request) (*http.Response, error) {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	format, ids := parseLines(body)
	if r.Header.Get("X-Format") != strconv.Itoa(int(format)) {
		panic("the headers are those of another format")
	}
	resp := b.answer(format, ids)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.formats = append(b.formats, format)
	b.headers = append(b.headers, r.Header)
	if resp == nil {
		return nil, errors.New("connection reset by the test")
	}
	if resp.StatusCode/100 == 2 {
		b.taken = append(b.taken, ids...)
	}
	return resp, nil
}

func (b *lineBackend) seen() (taken []int, formats []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.taken), slices.Clone(b.formats)
}

func written(n int) *http.Response { return respond(204, "", "X-Written", strconv.Itoa(n)) }

func lineQueue(t *testing.T, dir string, b *lineBackend) *Queue {
	t.Helper()
	q := newQueue(t, testConfig(), dir, b)
	q.ep.Codec = lineCodec{}
	return q
}

func putLines(t *testing.T, q *Queue, shard uint32, format byte, ids ...int) {
	t.Helper()
	if err := q.Put(t.Context(), Block{Body: NewBody(nil, lines(format, ids...)), Items: len(ids), Shard: shard, Format: format}); err != nil {
		t.Fatal(err)
	}
}

// R19.
func TestBodyThatIsTooLargeIsDividedDownToOneItem(t *testing.T) {
	for name, refusal := range map[string]func() *http.Response{
		"413": func() *http.Response { return respond(413, "") },
		"Mimir": func() *http.Response {
			return respond(400, "the incoming push request has been rejected because its message size of 200 bytes is larger than the allowed limit (err-mimir-distributor-max-write-message-size)")
		},
		"gRPC": func() *http.Response {
			return respond(400, "rpc error: code = ResourceExhausted desc = grpc: received message larger than max (5 vs. 4)")
		},
		"Victoria": func() *http.Response {
			return respond(400, "too big unpacked request; mustn't exceed 33554432 bytes; got 40000000 bytes")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				b := &lineBackend{answer: func(_ byte, ids []int) *http.Response {
					if len(ids) > 3 || slices.Contains(ids, 13) { // 13 is too large by itself.
						return refusal()
					}
					return respond(200, "")
				}}
				q := lineQueue(t, dir, b)
				r := start(t, q)
				putLines(t, q, 1, 1, numbers(10, 27)...)
				putLines(t, q, 1, 1, 27, 28)
				synctest.Wait()
				got, _ := b.seen()
				want := slices.DeleteFunc(numbers(10, 29), func(id int) bool { return id == 13 })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				s := r.shutdown()
				if s.Sent.Items != 18 || s.Dropped[dropTooLarge].Items != 1 || s.Sent.Blocks != 2 || s.State != StateOK {
					t.Errorf("Status = %+v, want 18 items sent, 1 dropped as too large", s)
				}
			})
		})
	}
}

// R19, R30: the halves keep the place of the block in its shard while the endpoint fails in
// between, the block moves to disk, and other shards go on.
func TestHalvesKeepTheirPlaceOverFailures(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := &lineBackend{}
		b.answer = func(_ byte, ids []int) *http.Response {
			b.mu.Lock()
			n++
			flaky := n%3 == 0
			b.mu.Unlock()
			time.Sleep(300 * time.Millisecond)
			switch {
			case len(ids) > 2:
				return respond(413, "")
			case flaky:
				return respond(503, "")
			}
			return respond(200, "")
		}
		q := lineQueue(t, dir, b)
		r := start(t, q)
		for i := range 20 {
			shard := i % 3
			first := shard*1000 + i*10
			putLines(t, q, uint32(shard), 1, numbers(first, first+7)...)
		}
		for range 200 {
			time.Sleep(time.Second)
			balanced(t, q)
		}
		synctest.Wait()
		got, _ := b.seen()
		if len(got) != 140 {
			t.Errorf("%d items sent, want 140, each once", len(got))
		}
		ordered(t, got, 1000)
		if s := r.shutdown(); s.Sent.Items != 140 || s.Retries == 0 {
			t.Errorf("Status = %+v, want 140 items sent, some again", s)
		}
	})
}

// ordered checks that the items of each shard, which is their number divided by width, came in
// ascending order and none twice.
func ordered(t *testing.T, ids []int, width int) {
	t.Helper()
	last := map[int]int{}
	for _, id := range ids {
		if before, ok := last[id/width]; ok && id <= before {
			t.Errorf("item %d came after %d", id, before)
		}
		last[id/width] = id
	}
}

// R19, R1: what was accepted of a body that had to be divided is not sent again after a stop or
// a kill between the halves, whether it was in memory or on disk, in the same format or not.
func TestAcceptedHalvesAreNotRepeatedAfterARestart(t *testing.T) {
	for _, format := range []byte{1, 2} {
		for _, stop := range []bool{true, false} {
			t.Run(fmt.Sprintf("format %d, stop %v", format, stop), func(t *testing.T) {
				restartBetweenHalves(t, format, stop)
			})
		}
	}
}

func restartBetweenHalves(t *testing.T, format byte, stop bool) {
	t.Helper()
	dir := t.TempDir()
	copied := filepath.Join(t.TempDir(), "copy")
	long := slices.Concat(numbers(10, 19), numbers(20, 29)) // Without any that end in 9.
	var before []int
	small := func(format byte, ids []int) *http.Response {
		switch {
		case format == 2:
			return respond(415, "")
		case len(ids) > 3:
			return respond(413, "")
		}
		return respond(200, "")
	}
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{}
		b.answer = func(format byte, ids []int) *http.Response {
			if taken, _ := b.seen(); len(taken) >= 8 {
				return nil
			}
			return small(format, ids)
		}
		r := start(t, lineQueue(t, dir, b))
		putLines(t, r.Queue, 1, format, numbers(0, 3)...)
		putLines(t, r.Queue, 1, format, long...) // Of which the first few get through.
		putLines(t, r.Queue, 1, format, numbers(30, 32)...)
		if !stop {
			time.Sleep(3 * time.Second)
		}
		synctest.Wait()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil { // What a kill leaves.
			t.Fatal(err)
		}
		before, _ = b.seen()
		if s := balanced(t, r.Queue); s.Sent.Items != int64(len(before)) {
			t.Errorf("%d sent by the accounts, %d arrived", s.Sent.Items, len(before))
		}
		r.shutdown()
	})
	if len(before) < 7 {
		t.Fatalf("only %v arrived before: the test shows nothing", before)
	}
	if stop {
		copied = dir
	}
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: small}
		r := start(t, lineQueue(t, copied, b))
		time.Sleep(time.Second)
		synctest.Wait()
		got, formats := b.seen()
		all := slices.Concat(numbers(0, 3), long, numbers(30, 32))
		if diff := cmp.Diff(all, slices.Concat(before, got)); diff != "" {
			t.Errorf("arrived before and after the restart (-want +got):\n%s", diff)
		}
		if slices.Contains(formats, 2) {
			t.Error("a format was tried again that had been refused")
		}
		if s := r.shutdown(); s.Restored != s.Sent || s.Sent.Items != int64(len(got)) || s.Disk != (Amount{}) {
			t.Errorf("Status = %+v, want what was left sent", s)
		}
	})
}

// A body of which a part was accepted and that cannot be divided any more is sent whole again.
func TestBegunBodyThatCannotBeDividedIsSentWhole(t *testing.T) {
	dir := t.TempDir()
	for life := range 2 {
		synctest.Test(t, func(t *testing.T) {
			b := &lineBackend{answer: func(_ byte, ids []int) *http.Response {
				switch {
				case life == 0 && len(ids) > 4:
					return respond(413, "")
				case life == 0 && ids[0] > 1:
					return nil
				}
				return respond(200, "")
			}}
			q := lineQueue(t, dir, b)
			if life == 1 {
				q.ep.Codec = stubborn{}
			}
			r := start(t, q)
			if life == 0 {
				putLines(t, q, 1, 1, numbers(1, 9)...)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			s := r.shutdown()
			if got, _ := b.seen(); life == 1 && (!slices.Equal(got, numbers(1, 9)) || s.Restored.Items != 8 || s.Sent.Items != 8) {
				t.Errorf("sent %v, %+v, want all of the body and that accounted for", got, s)
			}
		})
	}
}

// R16.
func TestPartialWriteIsAccountedFromTheHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: func(_ byte, ids []int) *http.Response {
			if slices.Contains(ids, 3) {
				return respond(400, "item 3 is out of order", "X-Written", "2")
			}
			if slices.Contains(ids, 7) {
				return written(1)
			}
			return written(len(ids))
		}}
		q := lineQueue(t, "", b)
		r := start(t, q)
		putLines(t, q, 1, 2, 1, 2, 3)
		synctest.Wait()
		if s := balanced(t, q); s.Sent.Items != 2 || s.Dropped[dropRejected].Items != 1 || s.State != StateRefusing || !strings.Contains(s.LastError, "out of order") {
			t.Errorf("Status = %+v, want 2 sent and 1 rejected, and why", s)
		}
		putLines(t, q, 1, 2, 6, 7, 8)
		putLines(t, q, 1, 2, 9)
		synctest.Wait()
		s := r.shutdown()
		if _, formats := b.seen(); len(formats) != 3 || s.Sent.Items != 4 || s.Dropped[dropRejected].Items != 3 || !strings.Contains(s.LastError, "1 of 3") {
			t.Errorf("%d requests, %+v, want 3, and 4 items sent and 3 rejected", len(formats), s)
		}
	})
}

// R20: an endpoint that does not know the format gets the other one at once, is remembered, and
// asked again after a day.
func TestRefusedFormatFallsBackIsRememberedAndProbedDaily(t *testing.T) {
	for name, refusal := range map[string]*http.Response{"415": respond(415, "unsupported"), "silent": respond(200, "")} { //nolint:bodyclose // There is none to close.
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				knows := false
				b := &lineBackend{}
				b.answer = func(format byte, ids []int) *http.Response {
					b.mu.Lock()
					defer b.mu.Unlock()
					if format == 2 && !knows {
						return respond(refusal.StatusCode, "")
					}
					return written(len(ids))
				}
				q := lineQueue(t, "", b)
				r := start(t, q)
				if q.Refused(2) {
					t.Error("format 2 is refused before anything was sent")
				}
				putLines(t, q, 1, 2, 8, 9) // Format 1 has no room for the 9.
				putLines(t, q, 1, 2, 19)
				putLines(t, q, 2, 2, 20)
				synctest.Wait()
				if _, formats := b.seen(); !slices.Equal(formats, []byte{2, 1, 1}) || !q.Refused(2) || q.Refused(1) {
					t.Errorf("formats %v, refused %v, want 2, 1, 1 and remembered", formats, q.Refused(2))
				}
				if s := balanced(t, q); s.Sent.Items != 2 || s.Dropped[dropUnsupported].Items != 2 || s.State != StateOK {
					t.Errorf("Status = %+v, want 2 sent and 2 for which there is no room", s)
				}
				time.Sleep(23 * time.Hour)
				putLines(t, q, 1, 2, 21)
				synctest.Wait()
				time.Sleep(2 * time.Hour)
				if q.Refused(2) {
					t.Error("after a day format 2 is not tried again")
				}
				putLines(t, q, 1, 2, 22)
				synctest.Wait()
				b.mu.Lock()
				knows = true
				b.mu.Unlock()
				time.Sleep(25 * time.Hour)
				putLines(t, q, 1, 2, 23)
				synctest.Wait()
				if _, formats := b.seen(); !slices.Equal(formats, []byte{2, 1, 1, 1, 2, 1, 2}) {
					t.Errorf("formats %v, want one try a day", formats)
				}
				r.shutdown()
			})
		})
	}
}

// R20: what the endpoint has refused is remembered over restarts, for the rest of the day.
func TestRefusedFormatIsRememberedOverRestarts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		for life, want := range [][]byte{{2, 1}, {1}, {2, 1}} {
			b := &lineBackend{answer: func(format byte, _ []int) *http.Response {
				if format == 2 {
					return respond(415, "")
				}
				return respond(200, "")
			}}
			q := lineQueue(t, dir, b)
			r := start(t, q)
			synctest.Wait()
			if got := q.Refused(2); got != (life == 1) {
				t.Errorf("life %d: Refused(2) = %v before anything was sent", life, got)
			}
			putLines(t, q, 1, 2, life)
			synctest.Wait()
			if _, formats := b.seen(); !slices.Equal(formats, want) {
				t.Errorf("life %d: formats %v, want %v", life, formats, want)
			}
			time.Sleep(5 * time.Second)
			r.shutdown()
			if life == 0 {
				time.Sleep(23 * time.Hour)
			} else {
				time.Sleep(time.Hour)
			}
		}
	})
}

// R20 without a way back: the data is kept.
func TestUnknownFormatWithoutAFallbackKeepsTheData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: func(byte, []int) *http.Response { return respond(415, "") }}
		q := lineQueue(t, "", b)
		r := start(t, q)
		putLines(t, q, 1, 1, 1)
		synctest.Wait()
		if s := r.shutdown(); s.State != StateMisconfigured || s.Memory.Items != 1 {
			t.Errorf("Status = %+v, want misconfigured and the item kept", s)
		}
	})
}

func TestFormatIsKeptOnDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: func(byte, []int) *http.Response { return nil }}
		q := lineQueue(t, dir, b)
		r := start(t, q)
		putLines(t, q, 7, 2, 1, 2)
		putLines(t, q, 8, 1, 3, 4)
		synctest.Wait()
		r.shutdown()
	})
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: func(_ byte, ids []int) *http.Response { return written(len(ids)) }}
		q := lineQueue(t, dir, b)
		q.ep.Header = http.Header{"X-Scope-Orgid": {"one"}}
		q.header0 = q.ep.Header
		r := start(t, q)
		time.Sleep(time.Second)
		synctest.Wait()
		if _, formats := b.seen(); !slices.Equal(formats, []byte{2, 1}) {
			t.Errorf("formats %v, want 2 and 1", formats)
		}
		for _, h := range b.headers {
			if h.Get("X-Scope-Orgid") != "one" {
				t.Errorf("headers %v, want the endpoint's too", h)
			}
		}
		r.shutdown()
	})
}

// stubborn divides nothing and knows no way back.
type stubborn struct{ lineCodec }

func (stubborn) Split(byte, []byte) (left, right Part, err error) {
	return left, right, errors.New("the body makes no sense")
}

func TestBodyThatCannotBeDividedIsDroppedWithTheReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: func(byte, []int) *http.Response { return respond(413, "") }}
		q := lineQueue(t, "", b)
		q.ep.Codec = stubborn{}
		r := start(t, q)
		putLines(t, q, 1, 1, 1, 2)
		synctest.Wait()
		if s := r.shutdown(); s.Dropped[dropTooLarge].Items != 2 || !strings.Contains(s.LastError, "makes no sense") {
			t.Errorf("Status = %+v, want it dropped and why", s)
		}
	})
}

// decided is a lineCodec for an endpoint that is said to know format 2: without the headers it
// has written nothing.
type decided struct{ lineCodec }

func (decided) Written(h http.Header, format byte, items int) (int, bool) {
	n, known := lineCodec{}.Written(h, format, items)
	return n, known || format == 2
}

// R16 where there is no question about the format.
func TestPartialWriteIsAccountedWhereTheFormatIsDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &lineBackend{answer: func(_ byte, ids []int) *http.Response {
			switch ids[0] {
			case 1:
				return written(2)
			case 4:
				return respond(400, "two of them are out of order", "X-Written", "1")
			}
			return respond(200, "") // What does not know the format, and takes no notice of it.
		}}
		q := lineQueue(t, "", b)
		q.ep.Codec = decided{}
		r := start(t, q)
		putLines(t, q, 1, 2, 1, 2, 3)
		putLines(t, q, 1, 2, 4, 5, 6)
		putLines(t, q, 1, 2, 7, 8)
		synctest.Wait()
		s := r.shutdown()
		if _, formats := b.seen(); len(formats) != 3 || s.Sent.Items != 3 || s.Dropped[dropRejected].Items != 5 ||
			s.State != StateRefusing || !strings.Contains(s.LastError, "0 of 2") {
			t.Errorf("%d requests, %+v, want 3, 3 items sent and 5 rejected, and it to be said", len(formats), s)
		}
	})
}
