package podlogs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// maxLosses bounds the losses that the status lists.
const maxLosses = 50

// Reasons for lost bytes.
const (
	lostRotatedAway = "rotated_away"
	lostDamaged     = "damaged"
	lostTooLarge    = "too_large"
	lostUnreadable  = "unreadable"
	lostUnknownPod  = "unknown_pod"
)

// Loss is a part of a file that was never read.
type Loss struct {
	Time      time.Time `json:"time"`
	Path      string    `json:"path"`
	Namespace string    `json:"namespace,omitempty"`
	Pod       string    `json:"pod,omitempty"`
	// Bytes is how much is known to be lost, at least, in uncompressed bytes; of a compressed
	// file that does not tell, the compressed bytes that could not be read.
	Bytes int64 `json:"bytes"`
	// Reason is rotated_away (removed by the node before it was read), damaged or too_large (a
	// compressed file), unreadable (removed while it could not be read), or unknown_pod (removed
	// before the API server said whether the pod is chosen).
	Reason string `json:"reason"`
	Err    string `json:"error,omitempty"`
}

// lose counts, shows and logs one loss.
func (c *Collector) lose(l Loss) {
	c.m.lost.WithLabelValues(l.Reason).Add(float64(l.Bytes))
	c.mu.Lock()
	if len(c.losses) == maxLosses {
		c.losses = append(c.losses[:0], c.losses[1:]...)
	}
	c.losses = append(c.losses, l)
	c.tally(tallyKey{l.Namespace, l.Pod, l.Reason}, 0, l.Bytes, l.Time)
	c.mu.Unlock()
	args := []any{"namespace", l.Namespace, "pod", l.Pod, "path", l.Path, "bytes", l.Bytes, "reason", l.Reason}
	if l.Err != "" {
		args = append(args, "err", l.Err)
	}
	c.log.Warn("part of a log file is lost", args...)
}

// leaveUnread tells of a file without a name, of which not all was read and nothing will be when
// the program stops. The next start counts it, by the size in the position.
func (c *Collector) leaveUnread(t *tail) {
	t.resize()
	if rest := t.size.Load() - t.off.Load(); rest > 0 {
		if gone, ok := t.goneSince(); ok {
			c.log.Warn("stopped before a deleted log file was read to its end, the next start counts the rest as lost",
				"namespace", t.chain.pod.namespace, "pod", t.chain.pod.name, "path", t.name(), "bytes", rest,
				"duration", time.Since(gone).Round(time.Second), "reason", lostRotatedAway)
		}
	}
}

// unread is what was lost of a file that is not found any more.
type unread struct {
	path  string
	bytes int64
}

// rotatedAway reports files that went away before they were read to the size that they had.
func (s *scanner) rotatedAway(gone []unread) {
	for _, u := range gone {
		p, _ := s.podOf(u.path)
		s.c.lose(Loss{
			Time: s.now, Path: u.path, Namespace: p.namespace, Pod: p.name,
			Bytes: u.bytes, Reason: lostRotatedAway,
		})
	}
}

// podOf returns the pod in whose log directory path is.
func (s *scanner) podOf(path string) (pod, bool) {
	root := filepath.Clean(s.c.cfg.Pods.Path)
	if !s.c.cfg.Pods.Enabled || !below(path, root) {
		return pod{}, false
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(path[len(root):], string(filepath.Separator)), string(filepath.Separator))
	p, _, ok := parsePodDir(first)
	return p, ok
}

// wanted tells whether this configuration would read the file at path if it were there.
func (s *scanner) wanted(path string) bool {
	if p, ok := s.podOf(path); ok {
		return s.takes(p.namespace)
	}
	for i := range s.c.cfg.Files {
		if s.c.cfg.Files[i].takes(path) {
			return true
		}
	}
	return false
}

// takes tells whether the pods of a namespace are read.
func (s *scanner) takes(namespace string) bool {
	return (s.c.keep == nil || s.c.keep.MatchString(namespace)) && (s.c.drop == nil || !s.c.drop.MatchString(namespace))
}

// missing tells that the file of a stored place, at path when it was last seen, is not there
// any more: its directory has been looked through, or does not exist.
func (s *scanner) missing(path string) bool {
	if !s.wanted(path) {
		return false
	}
	dir := filepath.Dir(path)
	for _, top := range s.tops {
		if d := top.at(dir); d != nil && d.pass == s.pass {
			return true
		}
	}
	return errors.Is(unix.Lstat(dir, &s.stat), fs.ErrNotExist)
}
