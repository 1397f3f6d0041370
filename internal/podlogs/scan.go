package podlogs

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// scanner finds files. It alone opens them, and it goes on while the reader waits for its
// destination. One goroutine owns it.
//
// Each directory is watched, so that a file is opened as soon as it has a name. Scanning alone
// would find all the same, later: it makes up for notices that were lost and for directories
// that cannot be watched.
type scanner struct {
	c    *Collector
	tops map[dirKey]*dir
	now  time.Time
	pass int32
	// looks counts the known directories that were looked at in this pass.
	looks int32
	// before are the files that had a name in the directory that is being looked at.
	before []*tail
	// scanning tells that everything is being looked at, closely that no notice is relied on.
	scanning, closely bool
	stat              unix.Stat_t
	head              [fingerprintSize]byte
	// most is the descriptor from which on none is used for a log file.
	most int
	// reads counts the directories that were read.
	reads int
	// reskip tells that what is not read has changed since it was published.
	reskip bool
	// blind are the directories that this pass could not look into, or not into all of.
	blind []string
	// refused holds what was logged as unreadable, by path.
	refused map[string]bool
	needed  map[fileID]bool // see Positions.prune

	// times reads the times of lines; skips and skippedBytes are what the first start left out.
	times        parser
	skips        int
	skippedBytes int64

	// unwatched is the number of directories that cannot be watched, for the reason unwatchedErr;
	// scarce tells that no other is tried in this pass.
	unwatched    int
	unwatchedErr error
	scarce       bool
	// young are directories that cannot be watched and appeared before youngUntil: the
	// directory of a container is there before its file.
	young      []*dir
	youngUntil time.Time
}

func newScanner(c *Collector) *scanner {
	return &scanner{c: c, tops: map[dirKey]*dir{}, refused: map[string]bool{}, needed: map[fileID]bool{}, most: mostDescriptors(), reskip: true}
}

// watchDir asks for notice of changes in one directory, if it was not done before, and tells
// whether it was.
func (s *scanner) watchDir(d *dir) (before bool) {
	err := s.c.watchErr
	if s.c.watch != nil {
		before, err = s.c.watch.dir(d, s.scarce)
	}
	if err == nil {
		return before
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false // The kubelet may not have made it yet.
	}
	s.scarce = errors.Is(err, errNoWatch)
	isNew := d.id == fileID{}
	if s.scanning || isNew {
		s.unwatched, s.unwatchedErr = s.unwatched+1, err
	}
	// The first scan finds what has been there.
	if first := s.scanning && s.pass == 1; isNew && !first && len(s.young) < maxYoung && !slices.Contains(s.young, d) {
		s.young, s.youngUntil = append(s.young, d), s.now.Add(youngAge)
	}
	return false
}

func (s *scanner) unwatchDir(d *dir) {
	if s.c.watch != nil {
		s.c.watch.dropDir(d)
	}
}

// run looks at what changes, and at everything each interval, until ctx ends.
func (s *scanner) run(ctx context.Context) {
	var changed <-chan struct{}
	if s.c.watch != nil {
		changed = s.c.watch.changed
	}
	next := time.Now().Add(s.interval())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause := time.Until(next)
		if len(s.young) > 0 {
			pause = min(pause, s.c.timing.hot)
		}
		timer.Reset(pause)
		select {
		case <-changed:
			s.changes(time.Now())
			// What else comes soon is looked at together, so that a storm of changes costs little.
			select {
			case <-time.After(s.c.timing.gather):
			case <-ctx.Done():
				return
			}
		case now := <-timer.C:
			if !time.Now().Before(next) {
				s.scan(time.Now())
				next = time.Now().Add(s.interval())
			} else {
				s.lookAtYoung(now)
			}
		case <-ctx.Done():
			return
		}
	}
}

// interval is the time between two scans.
func (s *scanner) interval() time.Duration {
	interval := time.Duration(s.c.cfg.Pods.ScanInterval)
	if s.unwatched > 0 {
		interval = min(interval, unwatchedInterval)
	}
	return interval
}

// scan makes one pass over all directories.
func (s *scanner) scan(now time.Time) {
	before := s.unwatched
	s.now, s.blind, s.unwatched, s.scarce = now, s.blind[:0], 0, false
	s.pass++
	s.looks, s.scanning = 0, true
	if s.c.cfg.Pods.Enabled {
		s.pods()
	}
	s.rematch(0)
	s.scanning = false
	clear(s.needed)
	s.walk(func(d *dir) {
		for _, id := range d.compressed {
			s.needed[id] = true
		}
	})
	s.rotatedAway(s.c.positions.prune(now, s.blind, s.needed, s.c.timing.goneAge, s.missing))
	s.watchChanged(before)
	s.publish()
	notices := Notices{Unwatched: s.unwatched}
	if s.unwatchedErr != nil {
		notices.Err = s.unwatchedErr.Error()
	}
	s.c.measure(now, notices, int(s.pass))
}

// watchChanged logs when directories begin or cease to be unwatched.
func (s *scanner) watchChanged(before int) {
	switch {
	case s.unwatched == 0:
		s.unwatchedErr = nil
		if before > 0 {
			s.c.log.Info("all log directories are watched again")
		}
	case before == 0 && s.unwatchedErr != nil:
		s.c.log.Warn("log directories cannot be watched and are looked through every two seconds instead", "count", s.unwatched, "err", s.unwatchedErr)
	}
}

// walk calls f with each known directory.
func (s *scanner) walk(f func(*dir)) {
	for _, top := range s.tops {
		top.walk(f)
	}
}

// publish makes visible what this look has brought.
func (s *scanner) publish() {
	s.c.meet()
	if !s.reskip {
		return
	}
	s.reskip = false
	var skipped []Skipped
	s.walk(func(d *dir) {
		for _, x := range d.skipped {
			skipped = append(skipped, x)
		}
	})
	slices.SortFunc(skipped, func(a, b Skipped) int { return strings.Compare(a.Path, b.Path) })
	s.c.publishSkipped(skipped)
}

// changes looks at what the notices since the last call are about.
func (s *scanner) changes(now time.Time) {
	touched, all := s.c.watch.take()
	if all {
		s.closely = true
		s.scan(now)
		s.closely = false
		return
	}
	s.now = now
	done := make(map[touch]bool, len(touched))
	for _, t := range touched {
		if t.d.left {
			continue
		}
		isContainer := t.d.parent != nil && t.d.parent.parent != nil
		seen := t
		switch { // They are looked through as a whole.
		case t.d.source > 0:
			seen = touch{name: strconv.Itoa(int(t.d.source))}
		case isContainer:
			seen.name = ""
		}
		if done[seen] {
			continue
		}
		done[seen] = true
		switch {
		case t.d.source > 0:
			s.rematch(int(t.d.source))
		case isContainer:
			s.container(t.d)
		default:
			s.named(t.d, t.name)
		}
		t.d.shutAll()
	}
	s.publish()
}

// lookAtYoung looks at the directories that were found lately and of which no notices come.
func (s *scanner) lookAtYoung(now time.Time) {
	s.now = now
	for _, d := range slices.Clone(s.young) {
		switch {
		case d.left:
		case d.source > 0:
			s.rematch(int(d.source))
		case d.parent != nil && d.parent.parent != nil:
			s.container(d)
		case d.parent != nil:
			s.pod(d.parent, d.parent.find(d.name))
		}
		d.shutAll()
	}
	if !now.Before(s.youngUntil) {
		s.young = nil
	}
	s.publish()
}

// named looks at one entry of the directory of all pods, or of a pod.
func (s *scanner) named(d *dir, name string) {
	f, err := d.open()
	if err != nil {
		return // The next scan tells.
	}
	i, known := slices.BinarySearchFunc(d.entries, name, byName)
	if err := lstat(f, name, &s.stat); err != nil {
		if known && errors.Is(err, fs.ErrNotExist) {
			if sub := d.entries[i].sub; sub != nil {
				s.forget(sub)
			}
			d.entries = slices.Delete(d.entries, i, i+1)
		}
		return
	}
	if !known {
		d.entries = slices.Insert(d.entries, i, entry{name: name})
	}
	e := &d.entries[i]
	if e.mode = typeOf(&s.stat); !e.isDir() && e.sub != nil {
		s.forget(e.sub)
	}
	if d.parent == nil {
		s.pod(d, e)
	} else {
		s.podEntry(d, e)
	}
}
