package loki

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/delivery"
)

// Why Loki refuses lines or streams, in the words of its metric loki_discarded_samples_total.
const (
	reasonTooFarBehind     = "too_far_behind"
	reasonOutOfOrder       = "out_of_order"
	reasonTooOld           = "greater_than_max_sample_age"
	reasonTooFarInFuture   = "too_far_in_future"
	reasonLineTooLong      = "line_too_long"
	reasonTooManyLabels    = "max_label_names_per_series"
	reasonNameTooLong      = "label_name_too_long"
	reasonValueTooLong     = "label_value_too_long"
	reasonDuplicateNames   = "duplicate_label_names"
	reasonInvalidLabels    = "invalid_labels"
	reasonMissingLabels    = "missing_labels"
	reasonMetadataOff      = "disallowed_structured_metadata"
	reasonMetadataTooLarge = "structured_metadata_too_large"
	reasonMetadataTooMany  = "structured_metadata_too_many"
	reasonEnforcedLabels   = "missing_enforced_labels"
	reasonBlocked          = "blocked_ingestion"
)

// sentence is how Loki 3.7 words a refusal, see pkg/validation/validate.go, pkg/distributor and
// pkg/ingester/stream.go there.
type sentence struct {
	says   string // in lower case
	reason string
	stream bool // it is about a whole stream, not a line
}

func sentences() []sentence {
	return []sentence{
		{"entry too far behind", reasonTooFarBehind, false},
		{"entry out of order", reasonOutOfOrder, false},
		{"has timestamp too old", reasonTooOld, false},
		{"has timestamp too new", reasonTooFarInFuture, false},
		{"max entry size", reasonLineTooLong, false},
		{" label names; limit", reasonTooManyLabels, true},
		{"has label name too long", reasonNameTooLong, true},
		{"has label value too long", reasonValueTooLong, true},
		{"has duplicate label name", reasonDuplicateNames, true},
		{"error parsing labels", reasonInvalidLabels, true},
		{"at least one label pair is required", reasonMissingLabels, true},
		{"includes structured metadata, but this feature", reasonMetadataOff, false},
		{"has structured metadata too large", reasonMetadataTooLarge, false},
		{"has too many structured metadata labels", reasonMetadataTooMany, false},
		{"missing required labels", reasonEnforcedLabels, true},
	}
}

// Reasons implements [delivery.Refuser].
func (Codec) Reasons() []string {
	all := []string{reasonBlocked}
	for _, s := range sentences() {
		all = append(all, s.reason)
	}
	return all
}

var (
	// ignoredTotal ends the answer of an ingester, which is about one stream.
	ignoredTotal = regexp.MustCompile(`total ignored: (\d+) out of \d+`)
	// groupStart begins each group of equal refusals in the answer of a distributor, unless
	// there is one refusal alone.
	groupStart = regexp.MustCompile(`(?:^|; )(\d+) errors like: `)
	// ofStream is the stream that a refusal is about. Its labels may hold anything, so it ends
	// where the sentence goes on.
	ofStream = regexp.MustCompile(`stream '(\{.*\})'(?:$| has | includes | \(policy)`)
)

// Refusals implements [delivery.Refuser]. Loki stores the good lines of a request and tells
// about the others: a distributor about each line or stream, an ingester about the last stream
// alone. What it does not tell counts as accepted; where it does not tell how many lines, all that
// may be meant count as refused.
func (Codec) Refusals(code int, words string, whole bool, _ byte, items int, body func() []byte) []delivery.Refusal {
	lower := strings.ToLower(words)
	if strings.Contains(lower, "ingestion blocked for user") {
		return []delivery.Refusal{{Reason: reasonBlocked, Items: items}}
	}
	if code != 400 {
		return nil
	}
	if strings.HasPrefix(lower, "couldn't parse labels") { // Costs the whole request.
		return []delivery.Refusal{{Reason: reasonInvalidLabels, Items: items}}
	}
	if m := ignoredTotal.FindAllStringSubmatch(words, -1); m != nil {
		n, err := strconv.Atoi(m[len(m)-1][1]) // What comes before may be the text of a label.
		if reason := reasonOf(lower); err == nil && reason != "" {
			return []delivery.Refusal{{Reason: reason, Items: min(n, items), Text: summary(words)}}
		}
	}
	c := refusedCount{items: items, body: body}
	for _, g := range groups(words) {
		c.group(g)
	}
	if !whole && len(c.all) > 0 { // The rest of a long list is unknown.
		c.all[0].Items += items
	}
	return c.limited()
}

// summary returns the first and the last of an ingester's words about the lines of a stream.
func summary(words string) string {
	first, last := strings.Index(words, "',"), strings.LastIndex(words, "total ignored")
	if first < 0 || last < first {
		return words
	}
	return words[:first+2] + " " + words[last:]
}

// reasonOf returns the reason of a text that has one.
func reasonOf(lower string) string {
	for _, s := range sentences() {
		if strings.Contains(lower, s.says) {
			return s.reason
		}
	}
	return ""
}

// group is a number of equal refusals.
type group struct {
	n    int
	text string
}

// groups takes the answer of a distributor apart.
func groups(words string) (all []group) {
	starts := groupStart.FindAllStringSubmatchIndex(words, -1)
	if len(starts) == 0 || starts[0][0] != 0 {
		return []group{{1, words}}
	}
	for i, at := range starts {
		end := len(words)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		n, err := strconv.Atoi(words[at[2]:at[3]])
		if err != nil {
			n = 1
		}
		all = append(all, group{n, words[at[1]:end]})
	}
	return all
}

// refusedCount adds up the lines that were refused.
type refusedCount struct {
	items   int
	body    func() []byte
	streams map[string]int // lines by the labels of their stream, once it is known
	all     []delivery.Refusal
}

func (c *refusedCount) group(g group) {
	// The text of labels is in between: what begins the text counts, else the last sentence.
	lower := strings.ToLower(g.text)
	var best *sentence
	last := -1
	for _, s := range sentences() {
		if strings.HasPrefix(lower, s.says) {
			best = &s
			break
		}
		if i := strings.LastIndex(lower, s.says); i > last {
			best, last = &s, i
		}
	}
	switch {
	case best == nil:
		return
	case best.stream:
		c.add(best.reason, c.linesOf(g.text, best.reason), g.text)
	default:
		c.add(best.reason, g.n, g.text)
	}
}

func (c *refusedCount) add(reason string, n int, text string) {
	i := slices.IndexFunc(c.all, func(r delivery.Refusal) bool { return r.Reason == reason })
	if i < 0 {
		c.all = append(c.all, delivery.Refusal{Reason: reason, Items: n, Text: text})
		return
	}
	c.all[i].Items += n
}

// linesOf returns how many lines the stream has that a refusal is about.
func (c *refusedCount) linesOf(text, reason string) int {
	if c.streams == nil {
		c.streams = map[string]int{}
		raw, err := decompress(c.body())
		if err != nil {
			return c.items
		}
		err = eachStream(raw, func(labels, content []byte) error {
			n := -1 // The labels are a field too.
			damaged := eachField(content, func(int, []byte, []byte) error { n++; return nil })
			c.streams[withoutServiceName(string(labels))] += n
			return damaged
		})
		if err != nil {
			return c.items
		}
	}
	labels := "{}"
	if m := ofStream.FindStringSubmatch(text); m != nil {
		labels = withoutServiceName(m[1])
	} else if reason != reasonMissingLabels {
		return c.items
	}
	if n, ok := c.streams[labels]; ok {
		return n
	}
	return c.items
}

// limited returns the refusals, which are no more than there are lines.
func (c *refusedCount) limited() []delivery.Refusal {
	left := c.items
	for i := range c.all {
		c.all[i].Items = min(c.all[i].Items, left)
		left -= c.all[i].Items
	}
	return slices.DeleteFunc(c.all, func(r delivery.Refusal) bool { return r.Items == 0 })
}

// serviceName is a label that Loki adds to streams without it.
var serviceName = regexp.MustCompile(`(, |\{)service_name="(?:[^"\\]|\\.)*"(, )?`)

// withoutServiceName returns the text of a label set without that label, so that the set that was
// sent and the one that Loki made of it are the same.
func withoutServiceName(labels string) string {
	return serviceName.ReplaceAllStringFunc(labels, func(s string) string {
		first, last := strings.HasPrefix(s, "{"), !strings.HasSuffix(s, ", ")
		switch {
		case first:
			return "{"
		case last:
			return ""
		}
		return ", "
	})
}
