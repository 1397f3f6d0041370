package delivery

import (
	"errors"
	"net/http"
	"time"
)

// ErrWhole is returned by [Codec.Split] for a body that cannot be divided: it holds a single
// item, or what is in it cannot be read.
var ErrWhole = errors.New("the request body cannot be divided")

// ErrNoFallback is returned by [Codec.Fallback] where there is no other format to send in.
var ErrNoFallback = errors.New("the request body has no other format")

// Part is a body that was made from another one by a [Codec].
type Part struct {
	// Body is new memory, or a part of the body it was made from, which is not changed.
	Body []byte
	// Items is the number of samples or lines inside, in the unit of Block.Items.
	Items int
}

// Codec knows the formats of the bodies of one endpoint. A queue calls it only for what the
// endpoint's answers ask for, from several goroutines at once. Formats are numbers from
// [Block.Format], which are kept on disk: their meaning must stay the same over versions.
type Codec interface {
	// Header returns the headers of a format, which are sent in addition to Endpoint.Header
	// and replace those of the same name there. They hold no secrets and are not changed.
	Header(format byte) http.Header
	// Split divides a body that is too large for the endpoint in two of about the same size;
	// what was together in a series stays in order, left before right. The error is [ErrWhole]
	// or says why the body cannot be read; the body is dropped then.
	Split(format byte, body []byte) (left, right Part, err error)
	// Fallback encodes a body in the format that is used where the endpoint does not know its
	// own. Items that the other format has no room for are left out of the part, and the
	// queue counts them as dropped. The error is [ErrNoFallback], or says why the body cannot
	// be read.
	Fallback(format byte, body []byte) (other byte, part Part, err error)
	// Written reads from the headers of an answer, a success or a refusal, how many of a body's
	// items were accepted. known is false if they do not say, although the format wants them
	// to: after a success the queue then tries Fallback, since an endpoint that says nothing may
	// not have understood. Where nothing else is to be tried, 0 and true count the items as
	// refused. For formats without such headers it returns items and true, for empty headers as
	// well, which is how the queue tells these formats.
	Written(h http.Header, format byte, items int) (accepted int, known bool)
}

// probePause is after how long a format that was refused is tried again: the endpoint may
// have been updated.
const probePause = 24 * time.Hour

// Refused tells whether the endpoint has refused a format, so that whoever makes the blocks
// uses another one. After a day it returns false again, for the next block to find out. A queue
// with a directory remembers it over restarts.
func (q *Queue) Refused(format byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at, ok := q.refused[format]
	return ok && time.Since(at) < probePause
}

// refuse notes that the endpoint does not take a format and tells whether that is new.
func (q *Queue) refuse(format byte) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, known := q.refused[format]
	q.refused[format] = time.Now()
	q.index.moved = true
	wake(q.wakeDisk)
	return !known
}

// restoreRefused takes over what a former run has found out. A time in the future, by a clock
// that was set, is taken for now.
func (q *Queue) restoreRefused(all []refusal) {
	now := time.Now()
	for _, r := range all {
		if _, known := q.refused[r.format]; !known {
			q.refused[r.format] = now.Add(-max(now.Sub(time.UnixMilli(r.at)), 0))
		}
	}
}
