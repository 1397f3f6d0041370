package podlogs

import (
	"maps"
	"slices"
	"time"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

// meet notes what the cluster knows of pods whose log directories were found.
func (c *Collector) meet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unmet = slices.DeleteFunc(c.unmet, func(ch *chain) bool {
		p, ok := c.pods.Pod(ch.pod.namespace, ch.pod.name, ch.uid)
		if ok {
			ch.met.Store(&p)
		}
		return ok || len(ch.tails) == 0
	})
}

// label brings the labels of a chain up to date and tells whether its lines may go out.
func (c *Collector) label(ch *chain, now time.Time) bool {
	if ch.pod.name == "" {
		return true
	}
	pause := metadataRefresh
	if !ch.labelled {
		pause = 0
	}
	if c.pods != nil && now.Sub(ch.looked) >= pause {
		ch.looked = now
		p, ok := c.pods.Pod(ch.pod.namespace, ch.pod.name, ch.uid)
		if met := ch.met.Load(); !ok && met != nil && !ch.labelled {
			p, ok = *met, true
		}
		if ok {
			if ch.excluded = !c.selection.chooses(p); ch.excluded {
				return false
			}
			c.meetAgain(ch, p, now)
		}
	}
	if !ch.labelled && (c.pods == nil || !c.selection.needsPod() && now.Sub(ch.found) >= time.Duration(c.cfg.Pods.MetadataTimeout)) {
		c.render(ch, now)
		ch.bare = c.pods != nil
	}
	return ch.labelled
}

// meetAgain takes over what the cluster knows of the pod of a chain.
func (c *Collector) meetAgain(ch *chain, p kube.Pod, now time.Time) {
	if ch.labelled && !ch.bare && p.Version == ch.version && (p.Version != 0 ||
		maps.Equal(p.Labels, ch.pod.labels) && maps.Equal(p.Annotations, ch.pod.annotations)) {
		return
	}
	ch.version = p.Version
	ch.pod.labels, ch.pod.annotations, ch.pod.owner = p.Labels, p.Annotations, p.Owner
	c.render(ch, now)
	ch.bare = false
}

// render derives what follows from the pod of a chain.
func (c *Collector) render(ch *chain, now time.Time) {
	ch.labels, ch.labelled = c.rules.of(ch.pod), true
	if joins := multilineOf(ch.pod); joins != ch.joins {
		ch.joins, ch.piped = joins, false
	}
	c.setLimit(ch, now)
	c.join(ch)
}
