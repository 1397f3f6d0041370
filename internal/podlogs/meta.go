package podlogs

import (
	"maps"
	"time"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

// meet notes what the cluster knows of pods whose log directories were found.
func (c *Collector) meet() {
	if c.pods == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.order {
		if ch.pod.name == "" || ch.met.Load() != nil {
			continue
		}
		if p, ok := c.pods.Pod(ch.pod.namespace, ch.pod.name, ch.uid); ok {
			ch.met.Store(&p)
		}
	}
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
		if p, ok := c.pods.Pod(ch.pod.namespace, ch.pod.name, ch.uid); ok {
			c.render(ch, p)
		} else if met := ch.met.Load(); met != nil && !ch.labelled {
			c.render(ch, *met)
		}
	}
	if !ch.labelled && (c.pods == nil || now.Sub(ch.found) >= time.Duration(c.cfg.Pods.MetadataTimeout)) {
		ch.labels, ch.joins = c.rules.of(ch.pod), multilineOf(ch.pod)
		ch.labelled, ch.bare = true, c.pods != nil
	}
	return ch.labelled
}

func (c *Collector) render(ch *chain, p kube.Pod) {
	known := ch.pod.labels != nil || ch.pod.annotations != nil
	if ch.labelled && known && maps.Equal(p.Labels, ch.pod.labels) && maps.Equal(p.Annotations, ch.pod.annotations) {
		return
	}
	ch.pod.labels, ch.pod.annotations, ch.pod.owner = p.Labels, p.Annotations, p.Owner
	ch.labels, ch.joins = c.rules.of(ch.pod), multilineOf(ch.pod)
	ch.labelled, ch.bare = true, false
}
