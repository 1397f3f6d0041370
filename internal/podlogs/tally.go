package podlogs

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// maxTallies bounds the pods and reasons that the status lists.
const maxTallies = 256

// PodLoss is what did not reach the destination of one pod, for one reason, since the start.
type PodLoss struct {
	// Namespace and Pod are empty for files of file_logs.
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// Reason is that of a metric: of ingot_podlogs_lost_bytes_total, of
	// ingot_podlogs_lines_dropped_total, of ingot_podlogs_skipped_bytes_total, or cut of
	// ingot_podlogs_lines_altered_total.
	Reason string `json:"reason"`
	// Lines is 0 where only bytes are known.
	Lines int64 `json:"lines,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Last is when it was last added to.
	Last time.Time `json:"last"`
}

// tallyKey is what a PodLoss is about.
type tallyKey struct{ namespace, pod, reason string }

// tally adds to what was lost of a pod. Of too many the one that was silent for longest is
// forgotten; the metrics have them all. It tells whether it is the first time. The caller holds
// mu.
func (c *Collector) tally(k tallyKey, lines, bytes int64, now time.Time) (first bool) {
	if c.tallies == nil {
		c.tallies = map[tallyKey]*PodLoss{}
	}
	l := c.tallies[k]
	if first = l == nil; first {
		if len(c.tallies) >= maxTallies {
			var oldest *PodLoss
			for _, x := range c.tallies {
				if oldest == nil || x.Last.Before(oldest.Last) {
					oldest = x
				}
			}
			delete(c.tallies, tallyKey{oldest.Namespace, oldest.Pod, oldest.Reason})
		}
		l = &PodLoss{Namespace: k.namespace, Pod: k.pod, Reason: k.reason}
		c.tallies[k] = l
	}
	l.Lines += lines
	l.Bytes += bytes
	l.Last = now
	return first
}

// dropped counts lines of a chain that were left out.
func (c *Collector) dropped(ch *chain, reason string, lines, bytes int64, now time.Time) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tally(tallyKey{ch.pod.namespace, ch.pod.name, reason}, lines, bytes, now)
}

// note adds what a turn left out of a chain to what was lost of its pod.
func (r *reader) note(ch *chain) {
	n := &r.count
	if n.malformed > 0 && r.c.dropped(ch, dropMalformed, int64(n.malformed), 0, r.now) {
		r.c.log.Warn("lines without the header of their format are left out", "namespace", ch.pod.namespace, "pod", ch.pod.name, "container", ch.pod.container, "path", ch.key, "count", n.malformed)
	}
	if n.cut > 0 && r.c.dropped(ch, alterCut, int64(n.cut), 0, r.now) {
		r.c.log.Warn("lines longer than 256KiB are cut", "namespace", ch.pod.namespace, "pod", ch.pod.name, "container", ch.pod.container, "path", ch.key, "count", n.cut)
	}
}

// podLosses returns the tallies, those with the most bytes and lines first. The caller holds mu.
func (c *Collector) podLosses() []PodLoss {
	var all []PodLoss
	for _, l := range c.tallies {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b PodLoss) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Lines, a.Lines),
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Pod, b.Pod), strings.Compare(a.Reason, b.Reason))
	})
	return all
}
