package kit

import (
	"regexp"
	"slices"
	"strconv"
)

// Streams returns the label sets of the streams of a tenant that a selector such as
// {namespace="x"} matches, sorted. Tenant "" means every tenant.
func (r *LogsReceiver) Streams(tenant, selector string) []string {
	var names []string
	for _, l := range r.Lines(tenant, selector) {
		names = append(names, l.Stream.String())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Lines returns the matching part of the ledger, each line once with its repeats counted,
// stream by stream in the order of creation, within a stream in the order of arrival. It
// panics on a selector that does not parse; "" matches everything.
func (r *LogsReceiver) Lines(tenant, selector string) []Line {
	if selector == "" {
		selector = "{}"
	}
	matchers := mustSelector(selector)
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Line
	for _, s := range r.order {
		if tenant != "" && tenant != s.tenant || !matches(s.labels, matchers) {
			continue
		}
		for _, l := range s.lines {
			found = append(found, *l)
		}
	}
	return found
}

// Texts returns the text of the matching lines in the order of [LogsReceiver.Lines].
func (r *LogsReceiver) Texts(tenant, selector string) []string {
	var texts []string
	for _, l := range r.Lines(tenant, selector) {
		texts = append(texts, l.Text)
	}
	return texts
}

// Repeats returns how many lines of a tenant arrived again and were dropped.
func (r *LogsReceiver) Repeats(tenant, selector string) int {
	n := 0
	for _, l := range r.Lines(tenant, selector) {
		n += l.Repeats
	}
	return n
}

// IDs returns the number that the first group of re finds in each of the matching lines, in
// the order of [LogsReceiver.Lines]; lines without it are left out. A line with another time
// or in another stream is another element: that is how a test sees duplicates.
func (r *LogsReceiver) IDs(tenant, selector string, re *regexp.Regexp) []int64 {
	var ids []int64
	for _, l := range r.Lines(tenant, selector) {
		if m := re.FindStringSubmatch(l.Text); len(m) > 1 {
			if id, err := strconv.ParseInt(m[1], 10, 64); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// Refused returns the lines and streams that were refused, in the order of arrival.
func (r *LogsReceiver) Refused() []RefusedLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.refused)
}
