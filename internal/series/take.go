package series

// Again reports whether this scrape has had the present line before. Without a timestamp of
// its own it is then a duplicate, which Take must not be asked about.
func (t *Table) Again() bool { return t.again }

// Fresh reports whether Added has just counted the present line.
func (t *Table) Fresh() bool { return t.fresh && t.added > 0 }

// Take records a sample of the row of the present line, which is not dropped, and decides
// whether it may be sent. at is its time; own says that the exposition gave it; track that it
// counts for staleness. A line that is older than what was sent is refused; as in Prometheus,
// one whose series another line of the scrape has given a sample is not.
func (t *Table) Take(r Row, at int64, own, track bool) Taken {
	id := t.series(uint32(r))
	word, bit := id/64, uint64(1)<<(id%64)
	if !own && t.cur[word]&bit != 0 {
		return TakenDuplicate
	}
	if own && t.newest == nil {
		t.rememberTimes(id)
	}
	if t.newest != nil {
		newest := t.newest[id]
		if at <= newest {
			if at < newest {
				t.Refuse(r)
				return TakenOutOfOrder
			}
			if !own {
				return TakenDuplicate
			}
			if track {
				t.cur[word] |= bit
			}
			return TakenUnchanged
		}
		if int(id) < t.size {
			if t.undo == nil {
				t.undo = t.shared.undos.Get().(*[]undo)
			}
			*t.undo = append(*t.undo, undo{id, newest})
		}
		t.newest[id] = at
	}
	if track {
		t.cur[word] |= bit
	}
	return TakenOK
}

// Refuse says that the present line, which has the row, yields no sample although it could.
// As in Prometheus it is then not known by the next scrape unless it was before.
func (t *Table) Refuse(r Row) {
	if !t.fresh {
		return
	}
	t.fresh = false
	t.added--
	t.seen[r/64] &^= 1 << (r % 64)
	t.here[r/64] &^= 1 << (r % 64)
	t.refused = append(t.refused, uint32(r))
}
