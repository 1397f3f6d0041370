package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is how much is read of any answer: enough for the words of an error.
const maxAnswer = 1 << 10

// mostHalvings bounds how often a body is divided: 2^20 items are more than any body holds.
const mostHalvings = 20

// part is a body that is sent for a block: the block's own, or one that was made from it.
type part struct {
	body   *Body
	format byte
	items  int    // in body
	amount Amount // what it stands for in the accounts, which know blocks as they were put
	depth  int    // how often a body was divided to get this one
}

// result is the outcome of one request.
type result struct {
	verdict verdict
	code    int
	text    string        // why the block was not accepted
	asked   time.Duration // what the endpoint wants us to wait
	refused []Refusal     // what the endpoint says it has refused; it has accepted the rest
	written int           // how many items the endpoint has accepted, also where it refuses the rest
	silent  bool          // it accepts, but does not say what, although the format wants it to
	sent    part          // what was sent, which may be in another format than asked for
	halves  []part        // of sent, if it is too large and can be divided
}

// fly sends a part, in another format where the endpoint does not take its own, and divides
// it where it is too large. It runs outside of the queue's lock and its sender.
func (q *Queue) fly(ctx context.Context, p part, attempt int) result {
	if q.ep.Codec != nil && q.Refused(p.format) {
		if other, err := q.fallback(p); err == nil {
			p = other
		}
	}
	r := q.post(ctx, p, attempt)
	for q.ep.Codec != nil && (r.silent || r.code == http.StatusUnsupportedMediaType) {
		other, err := q.fallback(p)
		if err != nil {
			if !errors.Is(err, ErrNoFallback) && !r.silent {
				r.text += "; encode it in another format: " + err.Error()
			}
			break
		}
		if q.refuse(p.format) {
			q.log.Info("endpoint does not take the format, another one is used", "format", p.format, "other", other.format, "err", r.text)
		}
		p = other
		r = q.post(ctx, p, attempt)
	}
	r.sent = p
	r.sent.body = nil // The flight's hold ends.
	if r.verdict == tooLarge && q.ep.Codec != nil {
		r.halves, r.text = q.divide(p, r.text)
	}
	return r
}

// fallback encodes a part anew in the format that the endpoint should know.
func (q *Queue) fallback(p part) (part, error) {
	format, other, err := q.ep.Codec.Fallback(p.format, p.body.bytes())
	if err == nil && format == p.format {
		err = ErrNoFallback
	}
	p.format, p.body, p.items = format, NewBody(nil, other.Body), min(other.Items, int(p.amount.Items))
	return p, err
}

// divide returns the halves of a part, none if it cannot be divided. text is why it has to
// be, to which it adds why it cannot be.
func (q *Queue) divide(p part, text string) ([]part, string) {
	if p.depth >= mostHalvings {
		return nil, text
	}
	left, right, err := q.ep.Codec.Split(p.format, p.body.bytes())
	if errors.Is(err, ErrWhole) {
		return nil, text
	} else if err != nil {
		return nil, text + "; divide it: " + err.Error()
	}
	first, second := p, p
	first.depth, second.depth = p.depth+1, p.depth+1
	first.body, first.items = NewBody(nil, left.Body), min(max(left.Items, 0), p.items)
	second.body, second.items = NewBody(nil, right.Body), p.items-first.items
	first.amount = Amount{Items: int64(first.items), Bytes: p.amount.Bytes / 2}
	second.amount.sub(first.amount) // The block counts as done with the last of its parts.
	return []part{first, second}, text
}

// rest returns what is to be sent of a block of which the first items are done with, divided
// as often as it takes; nil if that is not possible.
func (q *Queue) rest(format byte, body []byte, total, done Amount) (parts []part) {
	if q.ep.Codec == nil {
		return nil
	}
	p := part{format: format, items: int(total.Items)}
	for skip := int(done.Items); skip > 0; {
		left, right, err := q.ep.Codec.Split(format, body)
		if p.depth++; err != nil || p.depth > mostHalvings || left.Items < 0 || left.Items > p.items {
			return nil
		}
		first, second := p, p
		first.body, first.items = NewBody(nil, left.Body), left.Items
		second.body, second.items = NewBody(nil, right.Body), p.items-left.Items
		if skip >= first.items {
			p, body, skip = second, right.Body, skip-first.items
			continue
		}
		p, body, parts = first, left.Body, append(parts, second)
	}
	parts = append(parts, p)
	slices.Reverse(parts) // The last one divided off comes first.
	left := total
	left.sub(done)
	for i := range parts[:len(parts)-1] {
		parts[i].amount = Amount{Items: int64(parts[i].items), Bytes: left.Bytes / int64(len(parts))}
	}
	for _, p := range parts {
		left.sub(p.amount)
	}
	parts[len(parts)-1].amount = left
	return parts
}

// post sends one body.
func (q *Queue) post(ctx context.Context, p part, attempt int) result {
	if p.items == 0 && p.amount.Items > 0 {
		return result{verdict: accepted} // Nothing in it can be said in this format.
	}
	ctx, cancel := context.WithTimeout(ctx, q.ep.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.ep.URL, nil)
	if err != nil {
		return result{verdict: misconfigured, text: "build the request: the url is not valid; correct it"}
	}
	if err = p.body.attach(req); err != nil {
		return result{verdict: retryLater, text: err.Error()}
	}
	req.Header = q.header(p.format).Clone()
	if attempt > 0 {
		req.Header.Set("Retry-Attempt", strconv.Itoa(attempt)) // Mimir spreads its Retry-After by it.
	}
	start := time.Now()
	resp, err := q.client.Do(req)
	if err != nil {
		q.m.request(q.ep.Name, "error", time.Since(start))
		return result{verdict: retryLater, text: describe(err, q.ep.Timeout)}
	}
	defer resp.Body.Close()
	words, whole := readAnswer(resp.Body, q.answerLimit(resp.StatusCode))
	words = withoutSecrets(words, whole, cmp.Or(resp.Request, req)) // The former has the credentials.
	q.m.request(q.ep.Name, strconv.Itoa(resp.StatusCode), time.Since(start))
	r := result{verdict: judge(resp.StatusCode, words), code: resp.StatusCode}
	q.readRefusals(&r, words, whole, p)
	words = strings.ToValidUTF8(words[:min(len(words), maxAnswer)], "")
	if r.verdict == accepted {
		q.readWritten(&r, resp.Header, p)
		return r
	}
	r.text = "status " + strconv.Itoa(resp.StatusCode)
	if name := http.StatusText(resp.StatusCode); name != "" {
		r.text += " " + name
	}
	if words != "" {
		r.text += ": " + words
	}
	switch {
	case r.verdict == misconfigured && wantsTLS(words):
		r.text += "; write https:// in url"
	case r.verdict == rejected:
		q.readWritten(&r, resp.Header, p)
	case r.verdict == retryLater:
		r.asked = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return r
}

// header returns the headers of a request, without those of authentication. They are shared
// and must not be changed.
func (q *Queue) header(format byte) http.Header {
	if q.ep.Codec == nil {
		return q.header0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	h, ok := q.headers[format]
	if !ok {
		h = q.header0.Clone()
		for name, values := range q.ep.Codec.Header(format) {
			h[http.CanonicalHeaderKey(name)] = values
		}
		q.headers[format] = h
	}
	return h
}

// readWritten finds out how many items of a part an endpoint has accepted that answered with
// success, or refused it.
func (q *Queue) readWritten(r *result, h http.Header, p part) {
	if r.verdict == accepted {
		r.written = p.items
	}
	if q.ep.Codec == nil {
		return
	}
	if n, always := q.ep.Codec.Written(http.Header{}, p.format, p.items); always && n == p.items {
		return // The format has no such headers.
	}
	n, known := q.ep.Codec.Written(h, p.format, p.items)
	if !known {
		r.silent = r.verdict == accepted
		return
	}
	r.written = min(max(n, 0), p.items)
	if r.verdict == accepted && r.written < p.items {
		r.text = fmt.Sprintf("status %d, but only %d of %d items were written", r.code, r.written, p.items)
	}
}

// readAnswer reads the beginning of an answer as text on one line. A body that is cut off or
// too slow is as good as what has come of it; the status line has said what matters. whole says
// that the answer has ended.
func readAnswer(body io.Reader, limit int64) (text string, whole bool) {
	b, err := io.ReadAll(io.LimitReader(body, limit)) // See above.
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(string(b), "\ufffd"), func(r rune) bool {
		return r < ' ' || r == 0x7f
	}), " "), err == nil && int64(len(b)) < limit
}

// withoutRedirects returns a copy of the client that takes a redirect for the answer: our
// data and credentials go to the configured place and nowhere else.
func withoutRedirects(c *http.Client) *http.Client {
	if c == nil {
		c = &http.Client{}
	}
	own := *c
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}

// redact returns a URL without what may be secret in it: user and query.
func redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not a valid URL)"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
