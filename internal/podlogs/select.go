package podlogs

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

// Values of discovery_method.
const (
	discoverAll        = "all"
	discoverAnnotation = "annotation"
)

// ownPrefix begins the annotations that are ours.
const ownPrefix = "ingot.dev/"

// selection chooses pods by what only the cluster knows of them.
type selection struct {
	annotation string
	optIn      bool
	labels     kube.Selector
}

func newSelection(c *PodConfig) (selection, error) {
	labels, err := kube.ParseSelector(c.LabelSelector)
	return selection{c.AnnotationSelector, c.DiscoveryMethod == discoverAnnotation, labels}, err
}

// needsPod tells that nothing can be said of a pod that is not known.
func (s *selection) needsPod() bool { return s.optIn || !s.labels.Everything() }

// chooses tells whether the lines of a pod are wanted, as k8s-monitoring decides it.
func (s *selection) chooses(p kube.Pod) bool {
	switch p.Annotations[s.annotation] {
	case "false", "no", "skip":
		return false
	case "":
		if s.optIn {
			return false
		}
	}
	return s.labels.Matches(p.Labels)
}

// excluded tells that the pod whose log directory has that name in root is left out. The positions of its
// files stay, in case that it comes back.
func (s *scanner) excluded(p pod, uid string, root *dir, name string) bool {
	if s.c.pods == nil {
		return false
	}
	known, ok := s.c.pods.Pod(p.namespace, p.name, uid)
	if !ok || s.c.selection.chooses(known) {
		return false
	}
	s.blind = append(s.blind, filepath.Join(root.path, name))
	return true
}

// ready tells whether lines of a chain may be read, and lets go of one of which they may not be
// read any more.
func (r *reader) ready(ctx context.Context, ch *chain) bool {
	switch {
	case r.c.label(ch, r.now):
		return true
	case ch.excluded:
		r.leave(ctx, ch, "")
	case r.c.selection.needsPod() && r.forgotten(ch):
		r.leave(ctx, ch, lostUnknownPod)
	}
	return false
}

// forgotten tells that every file of a chain has been gone for a while.
func (r *reader) forgotten(ch *chain) bool {
	for _, t := range ch.view {
		if gone, ok := t.goneSince(); !ok || r.now.Sub(gone) < r.c.timing.closeAge {
			return false
		}
	}
	return len(ch.view) > 0 && r.now.Sub(ch.found) >= time.Duration(r.c.cfg.Pods.MetadataTimeout)
}

// leave closes the files of a chain where they stand. What they have beyond is lost for the
// given reason, or for none where it is not wanted.
func (r *reader) leave(ctx context.Context, ch *chain, reason string) {
	for _, t := range ch.view {
		for i := range t.parts {
			r.giveUp(&t.parts[i])
			t.parts[i] = part{}
		}
		if rest := t.size.Load() - t.off.Load(); rest > 0 && reason != "" {
			r.c.lose(Loss{
				Time: r.now, Path: t.name(), Namespace: ch.pod.namespace, Pod: ch.pod.name,
				Bytes: rest, Reason: reason,
			})
		}
	}
	r.drain(ch)
	r.hand(ctx, ch)
	if ctx.Err() != nil {
		return
	}
	for _, t := range ch.view {
		if r.unzip != nil && r.unzip.t == t {
			r.unzip = nil
		}
		r.c.abandonAt(t, reason != "")
	}
}

// abandonAt closes a file before its end; whole tells that it does not come back.
func (c *Collector) abandonAt(t *tail, whole bool) {
	pos := t.pos.Load()
	pos.resize(t.off.Load()) // Nothing of it counts as lost.
	c.mu.Lock()
	c.detach(t)
	c.mu.Unlock()
	if !whole {
		c.positions.reopenable(pos)
	}
	_ = t.file.close() // It was only read.
}

// Needs returns which labels and annotations of pods this configuration makes anything of, by
// their keys, for [kube.PodStore.KeepOnly].
func (c *PodConfig) Needs() (label, annotation func(key string) bool) {
	r := newLabelRules(c, false)
	// Stages may look at every label, which in versions 2 and 3 every one of the pod becomes.
	every := r.copyAll && (r.keep == nil || len(c.Stages) > 0)
	becomes := func(key string) bool {
		name := sanitise(key)
		return every || r.copyAll && (r.keeps(name) || slices.ContainsFunc(r.metadata, func(m labelRule) bool { return m.key == name }) ||
			name == "namespace" || name == "pod" || name == "container")
	}
	labels := []string{nameLabel, instanceLabel}
	for _, x := range r.labels {
		labels = append(labels, x.key)
	}
	annotations := []string{c.AnnotationSelector}
	for _, x := range r.annotations {
		annotations = append(annotations, x.key)
	}
	label = func(key string) bool {
		return c.LabelSelector != "" || becomes(key) || slices.Contains(labels, key)
	}
	annotation = func(key string) bool {
		return becomes(key) || slices.Contains(annotations, key) ||
			strings.HasPrefix(key, resourcePrefix) || strings.HasPrefix(key, ownPrefix)
	}
	return label, annotation
}
