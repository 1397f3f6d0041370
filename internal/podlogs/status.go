package podlogs

import (
	"slices"
	"sort"
	"time"
)

// Status is a snapshot of one collector.
type Status struct {
	Endpoint string `json:"endpoint"`
	// Scanned is when directories were last looked through.
	Scanned time.Time `json:"scanned"`
	// Notices is how far the system tells of changes at once.
	Notices Notices `json:"notices"`
	// PositionsErr is why positions could not be written the last time.
	PositionsErr string `json:"positions_error,omitempty"`
	// LagBytes is what the destination has not accepted yet of all open files.
	LagBytes int64        `json:"lag_bytes"`
	Files    []FileStatus `json:"files"`
	// Skipped is what was found and is not read.
	Skipped []Skipped `json:"skipped"`
	// Lost is the latest losses, oldest first.
	Lost []Loss `json:"lost,omitempty"`
	// Pods are what did not reach the destination since the start, by pod and reason.
	Pods []PodLoss `json:"pods,omitempty"`
}

// Notices is how far the system tells of changes in directories. What it does not tell of is
// found by looking through the directories every two seconds.
type Notices struct {
	// Unwatched is the number of directories that are not watched, Err why.
	Unwatched int    `json:"unwatched_directories"`
	Err       string `json:"error,omitempty"`
}

// FileStatus is a snapshot of one open file. Sizes and offsets are in bytes.
type FileStatus struct {
	Path      string `json:"path"`
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Container string `json:"container,omitempty"`
	// State is waiting (for metadata or for an older file), reading, idle, finished (a newer
	// file has taken over) or failed.
	State string `json:"state"`
	// Deleted tells that no name leads to the file any more.
	Deleted bool `json:"deleted,omitempty"`
	// Compressed tells that the node has compressed the file; sizes are of its original.
	Compressed   bool  `json:"compressed,omitempty"`
	Size         int64 `json:"size"`
	Read         int64 `json:"read"`
	Acknowledged int64 `json:"acknowledged"`
	// Problem is the last thing that was wrong with the content, Err why the file cannot be
	// read at present.
	Problem string `json:"problem,omitempty"`
	Err     string `json:"error,omitempty"`
}

// Skipped is an entry of a directory that is not read.
type Skipped struct {
	Path string `json:"path"`
	// Reason is symlink, not_a_regular_file, not_a_directory, unknown_name, compressed,
	// read_elsewhere or unreadable, the only one that may pass.
	Reason string `json:"reason"`
	Err    string `json:"error,omitempty"`
	// Size is given for compressed files that cannot be decompressed, in bytes.
	Size int64 `json:"size,omitempty"`
}

// Status returns a snapshot for the status page, ordered by path.
func (c *Collector) Status() Status {
	failure := c.positions.failure()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Endpoint: c.positions.endpoint, Notices: c.notices, PositionsErr: failure, Scanned: c.scanned, Files: make([]FileStatus, 0, len(c.byID)), Skipped: c.skipped, Lost: slices.Clone(c.losses), Pods: c.podLosses()}
	for _, t := range c.byID {
		f := t.status()
		s.LagBytes += f.lag()
		s.Files = append(s.Files, f)
	}
	sort.Slice(s.Files, func(i, j int) bool { return s.Files[i].Path < s.Files[j].Path })
	return s
}

func (t *tail) status() FileStatus {
	p := &t.chain.pod
	f := FileStatus{
		Namespace: p.namespace, Pod: p.name, Container: p.container,
		State: stateName(t.state.Load()), Size: t.size.Load(), Read: t.off.Load(), Acknowledged: t.pos.Load().acked.Load(),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f.Path, f.Deleted, f.Compressed = t.path, !t.gone.IsZero(), t.packed != nil
	if t.problem != nil {
		f.Problem = *t.problem
	}
	if t.err != nil {
		f.Err = t.err.Error()
	}
	return f
}

func (f *FileStatus) lag() int64 { return max(f.Size-f.Acknowledged, 0) }

// publishSkipped makes visible what is found and not read.
func (c *Collector) publishSkipped(skipped []Skipped) {
	reasons := map[string]int{
		skipSymlink: 0, skipIrregular: 0, skipNotDir: 0, skipName: 0, skipCompressed: 0, skipTwice: 0, skipUnreadable: 0,
	}
	for _, s := range skipped {
		reasons[s.Reason]++
	}
	for reason, n := range reasons {
		c.m.filesSkipped.WithLabelValues(reason).Set(float64(n))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skipped = skipped
}

// measure looks at the sizes of all files, since the reader may be waiting for its destination,
// and has it look at those that have grown: should a notice have been lost, that makes up for it.
// Of those that are watched it looks at some in each pass.
func (c *Collector) measure(now time.Time, n Notices, pass int) {
	var lag int64
	var states [stateFinished + 1]int
	c.mu.Lock()
	c.scanned, c.notices = now, n
	for _, t := range c.byID {
		if (c.watch == nil || int(t.id.ino%watchedShare) == pass%watchedShare || t.state.Load() == stateReading) && t.grown() {
			c.pokeLocked(t.chain)
		}
		lag += max(t.size.Load()-t.pos.Load().acked.Load(), 0)
		states[t.state.Load()]++
	}
	c.mu.Unlock()
	for state, n := range states {
		c.m.files.WithLabelValues(stateName(int32(state))).Set(float64(n))
	}
	c.m.unwatched.Set(float64(n.Unwatched))
	c.m.lag.Set(float64(lag))
}
