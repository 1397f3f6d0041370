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
	// ingot_podlogs_lines_dropped_total or of ingot_podlogs_skipped_bytes_total.
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
// forgotten; the metrics have them all. The caller holds mu.
func (c *Collector) tally(k tallyKey, lines, bytes int64, now time.Time) {
	if c.tallies == nil {
		c.tallies = map[tallyKey]*PodLoss{}
	}
	l := c.tallies[k]
	if l == nil {
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
}

// dropped counts lines of a chain that were left out.
func (c *Collector) dropped(ch *chain, reason string, lines, bytes int64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally(tallyKey{ch.pod.namespace, ch.pod.name, reason}, lines, bytes, now)
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
