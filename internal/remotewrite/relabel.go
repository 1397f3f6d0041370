package remotewrite

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// relabeler applies write_relabel_configs, once a series: what came of a label set is
// remembered by its hash, for as long as the set keeps coming. What is remembered is not the
// new set but how it is made from the old one, which is the same for very many series.
type relabeler struct {
	rules []*relabel.Config
	seed  maphash.Seed // of the process, so nobody can make two sets collide

	mu            sync.Mutex
	current, past map[uint64]uint32 // outcomes by hash of the set
	rotated       time.Time
	edits         []string          // the outcomes from firstEdit on
	byEdit        map[string]uint32 // their places
	builder       *labels.Builder
	scratch       labels.ScratchBuilder
	edit          []byte
}

// The outcomes that need no edit.
const (
	outcomeDrop uint32 = iota
	outcomeSame
	firstEdit
)

const (
	// generation is how long a set that does not come any more is remembered at least.
	generation = 15 * time.Minute
	// maxOutcomes bounds a generation; more series at a time are relabelled again each time.
	maxOutcomes = 1 << 20
	// maxEdits bounds the edits, which are few unless rules make a value for each series.
	maxEdits = 1 << 18
)

// newRelabeler returns nil if there is nothing to do.
func newRelabeler(rules []*relabel.Config, seed maphash.Seed) *relabeler {
	if len(rules) == 0 {
		return nil
	}
	return &relabeler{
		rules: rules, seed: seed, current: map[uint64]uint32{}, byEdit: map[string]uint32{},
		rotated: time.Now(), builder: labels.NewBuilder(labels.EmptyLabels()), scratch: labels.NewScratchBuilder(16),
	}
}

// begin locks the relabeler for a run of calls of apply, to be ended by end.
func (r *relabeler) begin() {
	r.mu.Lock()
	if len(r.current) < maxOutcomes && len(r.edits) < maxEdits && time.Since(r.rotated) < generation {
		return
	}
	r.rotated = time.Now()
	r.past, r.current = r.current, make(map[uint64]uint32, len(r.current)/2)
	if len(r.edits) >= maxEdits/2 { // The numbers of the edits change, so nothing is kept.
		r.past, r.edits = nil, nil
		clear(r.byEdit)
	}
}

func (r *relabeler) end() { r.mu.Unlock() }

// apply appends what the rules make of a label set to dst. keep is false if they drop it.
func (r *relabeler) apply(dst, ls []byte) (set []byte, keep bool) {
	hash := maphash.Bytes(r.seed, ls)
	outcome, ok := r.current[hash]
	if !ok {
		if outcome, ok = r.past[hash]; !ok {
			outcome = r.relabel(ls)
		}
		r.current[hash] = outcome
	}
	switch outcome {
	case outcomeDrop:
		return dst, false
	case outcomeSame:
		return append(dst, ls...), true
	default:
		return appendEdited(dst, ls, r.edits[outcome-firstEdit]), true
	}
}

// relabel applies the rules and returns the outcome.
func (r *relabeler) relabel(ls []byte) uint32 {
	r.scratch.Reset()
	for rest := ls; len(rest) > 0; {
		n := labelLen(rest)
		name, value := splitLabel(rest[:n])
		r.scratch.Add(string(name), string(value))
		rest = rest[n:]
	}
	r.builder.Reset(r.scratch.Labels())
	if !relabel.ProcessBuilder(r.builder, r.rules...) {
		return outcomeDrop
	}
	set := r.builder.Labels()
	if set.IsEmpty() {
		return outcomeDrop // No receiver takes a series without a label.
	}
	var wire []byte
	set.Range(func(l labels.Label) { wire = model.AppendLabel(wire, l.Name, l.Value) })
	if string(wire) == string(ls) {
		return outcomeSame
	}
	r.edit = appendEdit(r.edit[:0], ls, wire)
	place, ok := r.byEdit[string(r.edit)]
	if !ok {
		place = uint32(len(r.edits))
		edit := string(r.edit)
		r.edits = append(r.edits, edit)
		r.byEdit[edit] = place
	}
	return place + firstEdit
}

// An edit is a run of steps, each a varint of 2n+1 for copying the next n labels, 0 for leaving
// out one, and 2n for n bytes of new labels that follow.

// appendEdit appends the steps that make the label set to from the label set from.
func appendEdit(dst, from, to []byte) []byte {
	copied := 0
	flush := func() {
		if copied > 0 {
			dst = binary.AppendUvarint(dst, uint64(2*copied+1))
		}
		copied = 0
	}
	for len(from) > 0 || len(to) > 0 {
		var old, name, value []byte
		if len(from) > 0 {
			old = from[:labelLen(from)]
			name, value = splitLabel(old)
		}
		if len(to) == 0 {
			flush()
			dst = append(dst, 0)
			from = from[len(old):]
			continue
		}
		fresh := to[:labelLen(to)]
		wantName, want := splitLabel(fresh)
		switch {
		case old != nil && string(name) == string(wantName) && string(value) == string(want):
			copied++
			from, to = from[len(old):], to[len(fresh):]
		case old != nil && string(name) <= string(wantName):
			flush()
			dst = append(dst, 0)
			from = from[len(old):]
		default:
			flush()
			dst = binary.AppendUvarint(dst, uint64(2*len(fresh)))
			dst = append(dst, fresh...)
			to = to[len(fresh):]
		}
	}
	flush()
	return dst
}

// appendEdited appends what the steps of an edit make of a label set.
func appendEdited(dst, ls []byte, edit string) []byte {
	for len(edit) > 0 {
		step, n := uint64(0), 0
		for shift := 0; ; shift += 7 {
			b := edit[n]
			n++
			step |= uint64(b&0x7f) << shift
			if b < 0x80 {
				break
			}
		}
		edit = edit[n:]
		switch {
		case step == 0:
			ls = ls[labelLen(ls):]
		case step%2 == 1:
			at := 0
			for range step / 2 {
				at += labelLen(ls[at:])
			}
			dst = append(dst, ls[:at]...)
			ls = ls[at:]
		default:
			dst = append(dst, edit[:step/2]...)
			edit = edit[step/2:]
		}
	}
	return dst
}
