package delivery

import "time"

// Why blocks are dropped.
const (
	dropRejected    = "rejected"    // the endpoint refuses the data
	dropTooLarge    = "too_large"   // the endpoint refuses a body of this size
	dropUnsupported = "unsupported" // no place for it in the format that the endpoint takes
	dropQueueFull   = "queue_full"  // over max_bytes on disk
	dropTooOld      = "too_old"     // over max_age
	dropMemoryFull  = "memory_full" // the disk does not take blocks and the memory is full
	dropCorrupt     = "corrupt"     // damaged or vanished on disk
)

func dropReasons() []string {
	return []string{dropRejected, dropTooLarge, dropUnsupported, dropQueueFull, dropTooOld, dropMemoryFull, dropCorrupt}
}

// reportPause is the least time between two log lines about drops for the same reason.
const reportPause = time.Minute

// dropReport is what has been dropped for one reason since the last log line about it.
type dropReport struct {
	amount         Amount
	oldest, newest int64 // ms since the Unix epoch
	text           string
	reported       time.Time
}

// drop counts blocks that are lost. oldest and newest say when they were finished, in
// milliseconds since the Unix epoch. It needs the lock; reportDrops logs it later.
func (q *Queue) drop(reason string, a Amount, oldest, newest int64, text string) {
	if a == (Amount{}) {
		return
	}
	total := q.dropped[reason]
	total.add(a)
	q.dropped[reason] = total
	r := q.unreported[reason]
	if r == nil {
		r = &dropReport{}
		q.unreported[reason] = r
	}
	if r.amount == (Amount{}) {
		r.oldest, r.newest = oldest, newest
	}
	r.amount.add(a)
	r.oldest, r.newest = min(r.oldest, oldest), max(r.newest, newest)
	r.text = text
}

// reportDrops logs what has been dropped, at most once a minute for each reason, or all of it
// at the end.
func (q *Queue) reportDrops(end bool) {
	now := time.Now()
	q.mu.Lock()
	none := len(q.unreported) == 0
	q.mu.Unlock()
	if none {
		return
	}
	for _, reason := range q.reasons() {
		q.mu.Lock()
		r := q.unreported[reason]
		if r == nil || r.amount == (Amount{}) || !end && now.Sub(r.reported) < reportPause {
			q.mu.Unlock()
			continue
		}
		found := *r
		*r = dropReport{reported: now}
		q.mu.Unlock()
		q.log.Warn("data dropped", "reason", reason, "count", found.amount.Items, "bytes", found.amount.Bytes,
			"from", time.UnixMilli(found.oldest).UTC(), "to", time.UnixMilli(found.newest).UTC(), "err", found.text)
	}
}
