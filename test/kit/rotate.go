package kit

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Rotate does to the container's log what the kubelet does when the file has grown too big:
// it removes leftovers, removes the oldest files so that keep-2 rotated ones stay, compresses
// those that are not, renames the open file to 0.log.YYYYMMDD-HHMMSS and opens a new one.
// keep is containerLogMaxFiles, 5 by default, at least 2.
func (c *LoggedContainer) Rotate(keep int) {
	w := c.pod.w
	w.mu.Lock()
	defer w.mu.Unlock()
	rotated, err := filepath.Glob(c.Path() + ".*")
	w.check(err)
	// The time in the names sorts; a compressed file sorts where its original did.
	slices.Sort(rotated)
	rotated = slices.DeleteFunc(rotated, func(path string) bool {
		if !strings.HasSuffix(path, ".tmp") {
			return false
		}
		w.check(os.Remove(path))
		return true
	})
	for len(rotated) > max(keep-2, 0) {
		w.check(os.Remove(rotated[0]))
		markRemoved(c.older[strings.TrimSuffix(rotated[0], ".gz")])
		rotated = rotated[1:]
	}
	for _, path := range rotated {
		if !strings.HasSuffix(path, ".gz") {
			w.check(compress(path))
		}
	}
	path := c.rename()
	w.check(c.file.Close())
	c.older[path] = c.current
	c.current = nil
	c.open()
}

// RotateFailed does what the kubelet does when the runtime cannot open a new file: it renames
// the file and renames it back.
func (c *LoggedContainer) RotateFailed() {
	w := c.pod.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check(os.Rename(c.rename(), c.Path()))
}

// rename moves the open file to its rotated name and returns that. The names have seconds,
// so a second rotation within one gets the time of the next. The caller holds mu.
func (c *LoggedContainer) rename() string {
	w := c.pod.w
	now := time.Now().Truncate(time.Second)
	if !now.After(w.rotated) {
		now = w.rotated.Add(time.Second)
	}
	w.rotated = now
	path := c.Path() + "." + now.Format("20060102-150405")
	w.check(os.Rename(c.Path(), path))
	return path
}

// compress replaces a file by its gzip in the kubelet's steps: write X.tmp, rename it to
// X.gz, remove X.
func compress(path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := path + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	gz := gzip.NewWriter(out)
	if _, err := io.Copy(gz, in); err != nil {
		_ = out.Close()
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if err := gz.Close(); err != nil {
		_ = out.Close()
		return fmt.Errorf("compress %s: %w", path, err)
	}
	if err := out.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}
