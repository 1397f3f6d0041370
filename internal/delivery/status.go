package delivery

import (
	"cmp"
	"maps"
	"time"
)

// State is what an endpoint or a disk is doing, in the words of status pages and metrics.
type State string

const (
	// StateOK means that the last request succeeded or none was needed.
	StateOK State = "ok"
	// StateRefusing means that the endpoint refused the last block, which was dropped and
	// counted. The next one is sent at once, and the first that is accepted ends the state.
	StateRefusing State = "refusing"
	// StateRetrying means that the endpoint cannot take data at the moment.
	StateRetrying State = "retrying"
	// StatePaused means that the endpoint refuses our credentials.
	StatePaused State = "paused"
	// StateMisconfigured means that what answers is no endpoint for this kind of data.
	StateMisconfigured State = "misconfigured"
	// StateDegraded means that blocks cannot be written to disk and are kept in memory.
	StateDegraded State = "degraded"
)

// Amount is a number of blocks, of the items in them and of the bytes of their bodies.
type Amount struct {
	Blocks int64 `json:"blocks"`
	Items  int64 `json:"items"`
	Bytes  int64 `json:"bytes"`
}

func (a *Amount) add(b Amount) {
	a.Blocks += b.Blocks
	a.Items += b.Items
	a.Bytes += b.Bytes
}

func (a *Amount) sub(b Amount) {
	a.Blocks -= b.Blocks
	a.Items -= b.Items
	a.Bytes -= b.Bytes
}

// Status is what one queue holds and did since the start of the process. At any moment
//
//	Put + Restored = Sent + sum of Dropped + Memory + Disk
//
// holds, in blocks, items and bytes.
type Status struct {
	Endpoint string `json:"endpoint"`
	// Tenant tells apart the queues of one endpoint.
	Tenant string `json:"tenant,omitempty"`
	// URL is without credentials and query.
	URL string `json:"url"`
	// State is that of the endpoint, or degraded when only the disk has trouble.
	State State `json:"state"`
	// Directory is empty for a queue without disk.
	Directory string `json:"directory,omitempty"`
	// DiskError is why blocks cannot be written to disk, empty when they can.
	DiskError string `json:"disk_error,omitempty"`

	Put      Amount            `json:"put"`
	Restored Amount            `json:"restored"` // found on disk at the start
	Sent     Amount            `json:"sent"`
	Dropped  map[string]Amount `json:"dropped"` // by reason
	Retried  Amount            `json:"retried"` // one count for each repeated request
	Memory   Amount            `json:"memory"`
	Disk     Amount            `json:"disk"`

	// OldestAgeSeconds is the age of the oldest block that waits, 0 when none does.
	OldestAgeSeconds float64 `json:"oldest_age_seconds"`
	// DiskBytes is the size of the queue files, DiskMaxBytes their limit.
	DiskBytes    int64 `json:"disk_bytes"`
	DiskMaxBytes int64 `json:"disk_max_bytes,omitempty"`
	// CorruptRecords counts blocks lost by damage on disk, SkippedFiles the files in the
	// directory that are not ours to read, empty, or gone, DiskErrors the failed operations.
	CorruptRecords int64 `json:"corrupt_records"`
	SkippedFiles   int64 `json:"skipped_files"`
	DiskErrors     int64 `json:"disk_errors"`

	// LastError is why the last failed request failed, with what the endpoint said (at most
	// 1 KiB); LastErrorTime is when. Both stay after a recovery.
	LastError     string    `json:"last_error,omitempty"`
	LastErrorTime time.Time `json:"last_error_time,omitzero"`
	LastSuccess   time.Time `json:"last_success,omitzero"`
	// Attempt counts the requests in vain for the oldest block, NextAttempt is when the
	// next one is due.
	Attempt     int       `json:"attempt,omitempty"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// InFlight is the part of Memory and Disk that is being sent at the moment, a block in each
	// request. Parallelism is how many requests may be under way now, MaxParallel its limit.
	InFlight    Amount `json:"in_flight"`
	Parallelism int    `json:"parallelism"`
	MaxParallel int    `json:"max_parallel"`
	// Retries counts the requests that repeated one that had failed.
	Retries int64 `json:"retries"`

	reasons []string // that Dropped may have
}

// Status returns a snapshot for the status pages.
func (q *Queue) Status() Status {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Status{
		Endpoint:       q.ep.Name,
		Tenant:         q.ep.Tenant,
		URL:            q.shown,
		State:          q.state,
		Directory:      q.dir,
		DiskError:      cmp.Or(q.writeError, q.readError),
		Put:            q.put,
		Restored:       q.restored,
		Sent:           q.sent,
		Dropped:        maps.Clone(q.dropped),
		Retried:        q.retried,
		Memory:         q.memory,
		Disk:           q.index.left,
		DiskBytes:      q.index.bytes,
		CorruptRecords: q.corrupt,
		SkippedFiles:   q.skipped,
		DiskErrors:     q.diskErrors,
		LastError:      q.lastError,
		LastErrorTime:  q.lastErrorAt,
		LastSuccess:    q.lastSuccess,
		Attempt:        q.attempts,
		NextAttempt:    q.nextAttempt,
		Parallelism:    q.limit,
		MaxParallel:    q.maxParallel,
		Retries:        q.retries,
		reasons:        q.reasons(),
	}
	if q.dir != "" {
		s.DiskMaxBytes = q.maxBytes()
	}
	switch {
	case s.State != StateOK:
	case q.refusing:
		s.State = StateRefusing
	case s.DiskError != "":
		s.State = StateDegraded
	}
	if ms, ok := q.oldest(); ok {
		s.OldestAgeSeconds = q.age(ms).Seconds()
	}
	for _, e := range q.window.flights {
		s.InFlight.add(e.left)
	}
	return s
}

// oldest returns when the oldest block was finished that is not settled, as far as that is
// known; false if there is none.
func (q *Queue) oldest() (ms int64, ok bool) {
	switch {
	case len(q.window.entries) > 0:
		return q.window.entries[0].Time.UnixMilli(), true
	case q.index.left.Blocks > 0:
		return q.index.segs[0].oldest, true
	case len(q.mem) > 0:
		return q.mem[0].Time.UnixMilli(), true
	}
	return 0, false
}
