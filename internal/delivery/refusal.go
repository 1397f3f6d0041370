package delivery

import (
	"net/http"
	"strings"
)

// maxRefusal is how much is read of an answer that a [Refuser] understands: one that names
// thousands of items one by one is that long.
const maxRefusal = 1 << 20

// Refuser is a [Codec] of an endpoint that takes a part of a body, refuses the rest, and says so
// in the words of its answer.
type Refuser interface {
	Codec
	// Refusals returns what an answer with that status says was refused; the rest of the items
	// was accepted. whole says that words are all of the answer. body returns a copy of the body
	// that was sent. Without a result the status alone decides.
	Refusals(code int, words string, whole bool, format byte, items int, body func() []byte) []Refusal
	// Reasons returns every reason that Refusals may give.
	Reasons() []string
}

// Refusal is a number of items that were refused for one reason, a word like those of the queue.
type Refusal struct {
	Reason string
	Items  int
	Text   string // what the endpoint says about it, for the log; empty for all that it says
}

// answerLimit returns how much to read of an answer.
func (q *Queue) answerLimit(code int) int64 {
	if _, ok := q.ep.Codec.(Refuser); ok && speaksOfItems(code) {
		return maxRefusal
	}
	return maxAnswer
}

// speaksOfItems tells whether an answer may say what became of single items: a refusal of the
// data, or a success that is none of the usual ones. Loki's answer to data that its operator has
// blocked is 260.
func speaksOfItems(code int) bool {
	return code == http.StatusBadRequest || code == http.StatusUnprocessableEntity || code > http.StatusIMUsed && code < 300
}

// readRefusals finds out from the words of an answer what was refused.
func (q *Queue) readRefusals(r *result, words string, whole bool, p part) {
	refuser, ok := q.ep.Codec.(Refuser)
	if !ok || !speaksOfItems(r.code) || r.verdict != accepted && r.verdict != rejected {
		return
	}
	r.refused = refuser.Refusals(r.code, words, whole, p.format, p.items, p.body.bytes)
	if len(r.refused) > 0 {
		r.verdict = rejected
	}
}

// dropRefused counts what was refused of a part that is otherwise accepted, and returns what was
// accepted of it.
func (q *Queue) dropRefused(r result, ms int64) (rest Amount) {
	total := r.sent.amount
	rest = total
	for _, x := range r.refused {
		a := Amount{Items: min(int64(x.Items), rest.Items)}
		a.Bytes = min(total.Bytes*a.Items/max(total.Items, 1), rest.Bytes)
		if a.Items == rest.Items {
			a = rest
		}
		text := r.text
		if x.Text != "" {
			text = strings.ToValidUTF8(x.Text[:min(len(x.Text), maxAnswer)], "")
		}
		q.drop(x.Reason, a, ms, ms, text)
		rest.sub(a)
	}
	return rest
}

// reasons returns every reason for which this queue may drop something.
func (q *Queue) reasons() []string {
	all := dropReasons()
	if refuser, ok := q.ep.Codec.(Refuser); ok {
		all = append(all, refuser.Reasons()...)
	}
	return all
}
