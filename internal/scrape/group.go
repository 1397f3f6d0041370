package scrape

import (
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// groupKey tells the groups of all sources of a job apart.
type groupKey struct {
	source int
	discovery.Key
}

// group is what has become of the targets of one discovered group. The discovered labels are
// not kept: most of them are for relabelling only, and there may be tens of thousands of them.
type group struct {
	ids  []model.Labels // Of the targets to scrape, each once.
	rest *unscraped     // Nil if there is nothing.
}

// unscraped is what was discovered but is not scraped. The examples are as many as the status
// may show of the whole job, at most.
type unscraped struct {
	dropped, invalid int
	droppedTop       []map[string]string
	invalidTop       []InvalidTarget
}

// take makes targets of discovered groups, in place of those that these groups had before.
// Loops follow with the next sync.
func (p *pool) take(source int, groups []discovery.Group) {
	lb := labels.NewBuilder(labels.EmptyLabels())
	for _, g := range groups {
		targets, rest := p.relabel(lb, g.Targets)
		p.mu.Lock()
		p.replace(groupKey{source, g.Key}, targets, rest)
		p.mu.Unlock()
	}
}

// relabel returns the targets to scrape, each once, and what else there was.
func (p *pool) relabel(lb *labels.Builder, all []labels.Labels) (targets []*target, rest *unscraped) {
	var out unscraped
	for _, discovered := range all {
		t, err := newTarget(lb, p.cfg, discovered)
		switch {
		case err == nil:
			t.addExternal(p.shared.external)
			targets = append(targets, t)
		case errors.Is(err, errDropped):
			if out.dropped++; len(out.droppedTop) < int(p.cfg.KeepDroppedTargets) {
				populate(lb, p.cfg, discovered)
				out.droppedTop = append(out.droppedTop, shown(lb.Labels()))
			}
		default:
			if out.invalid++; len(out.invalidTop) < maxInvalidShown {
				out.invalidTop = append(out.invalidTop, InvalidTarget{Labels: shown(discovered), Error: err.Error()})
			}
		}
	}
	if out.dropped+out.invalid > 0 {
		rest = &out
	}
	return targets, rest
}

// replace puts targets in the place of those that the group had. The caller holds mu.
func (p *pool) replace(key groupKey, targets []*target, rest *unscraped) {
	old, known := p.groups[key]
	now := group{rest: rest}
	for _, t := range once(targets) {
		id := t.id
		if l := p.loops[id]; l != nil {
			id = l.target.id // The same text in memory that is there already.
		}
		now.ids = append(now.ids, id)
		if p.wanted[id]++; p.wanted[id] == 1 {
			p.pending[id] = t
		}
	}
	now.ids = slices.Clip(now.ids)
	for _, id := range old.ids {
		if p.wanted[id]--; p.wanted[id] == 0 {
			delete(p.wanted, id)
			p.pending[id] = nil
		}
	}
	p.uncount(old.rest)
	p.count(now.rest)
	switch {
	case len(now.ids) > 0 || rest != nil:
		p.groups[key] = now
	case known:
		delete(p.groups, key)
	}
}

// once returns the targets without repetitions.
func once(targets []*target) []*target {
	if len(targets) < 2 {
		return targets
	}
	seen := make(map[model.Labels]bool, len(targets))
	return slices.DeleteFunc(targets, func(t *target) bool {
		again := seen[t.id]
		seen[t.id] = true
		return again
	})
}

// count adds what is not scraped of a group to that of the job. Examples that are too many for
// the status are not kept. The caller holds mu.
func (p *pool) count(u *unscraped) {
	if u == nil {
		return
	}
	u.droppedTop = firstOf(u.droppedTop, int(p.cfg.KeepDroppedTargets)-p.shownDropped)
	u.invalidTop = firstOf(u.invalidTop, maxInvalidShown-p.shownInvalid)
	p.dropped, p.invalid = p.dropped+u.dropped, p.invalid+u.invalid
	p.shownDropped, p.shownInvalid = p.shownDropped+len(u.droppedTop), p.shownInvalid+len(u.invalidTop)
}

// uncount is the opposite of count.
func (p *pool) uncount(u *unscraped) {
	if u == nil {
		return
	}
	p.dropped, p.invalid = p.dropped-u.dropped, p.invalid-u.invalid
	p.shownDropped, p.shownInvalid = p.shownDropped-len(u.droppedTop), p.shownInvalid-len(u.invalidTop)
}

func firstOf[T any](all []T, n int) []T {
	if n = max(n, 0); len(all) <= n {
		return all
	}
	return slices.Clone(all[:n])
}

// examples returns what is kept of targets that are not scraped. The caller holds mu.
func (p *pool) examples() (dropped []map[string]string, invalid []InvalidTarget) {
	for _, g := range p.groups {
		if g.rest != nil {
			dropped = append(dropped, g.rest.droppedTop...)
			invalid = append(invalid, g.rest.invalidTop...)
		}
	}
	return dropped, invalid
}
