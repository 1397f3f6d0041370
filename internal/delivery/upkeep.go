package delivery

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// saveCursor writes the cursor if it has moved.
func (d *disk) saveCursor() {
	c, moved := d.q.position()
	if d.moved = d.moved || moved; !d.moved {
		return
	}
	err := d.openCursor(os.O_RDWR | os.O_CREATE)
	if err == nil {
		d.generation++
		c.generation = d.generation
		err = writeCursor(cursorFile{d.cursor, d.q.files}, c)
	}
	if err != nil {
		// Not told to the user as degraded: no block is at risk, some may be sent again.
		d.q.countDiskError()
		d.cursorRetryAt = time.Now().Add(diskPause)
		return
	}
	d.moved, d.unsynced = false, true
}

// cursorFile writes by the queue's file operations.
type cursorFile struct {
	f     *os.File
	files fileOps
}

func (c cursorFile) WriteAt(b []byte, at int64) (int, error) { return c.files.writeAt(c.f, b, at) }

func (d *disk) openCursor(flags int) (err error) {
	if d.cursor == nil {
		d.cursor, err = os.OpenFile(filepath.Join(d.q.dir, cursorName), flags, 0o600)
		if err != nil {
			d.cursor = nil
		} else if flags&os.O_CREATE != 0 {
			d.created = true
		}
	}
	return err
}

// sync brings what was written to the disk. On a slow one each step takes seconds, in which the
// cursor moves on; a queue that stops has more urgent things to do, and comes back to it. After
// an error the segment is not written any more, since the system may have thrown away what it
// could not write.
func (d *disk) sync(stopped bool) {
	d.unsynced = false
	if d.file != nil {
		path := d.q.active.path
		err := d.q.files.sync(d.file)
		if err == nil && unlinked(d.file) {
			err = errUnlinked
		}
		if err != nil {
			d.seal(false)
			d.failed(fmt.Errorf("sync %s: %w", path, err))
			return
		}
	}
	if !stopped {
		d.saveCursor()
		if d.q.stopped() {
			d.unsynced = true
			return
		}
	}
	if d.cursor != nil {
		if err := d.q.files.sync(d.cursor); err != nil {
			d.q.countDiskError()
		}
	}
	if d.created && d.dir != nil {
		d.created = false
		_ = d.dir.Sync() // Some file systems cannot; then names reach the disk when they do.
	}
}

// errUnlinked says that what is written to an open file will be gone.
var errUnlinked = errors.New("the file has been removed")

// unlinked tells whether the file has no name any more.
func unlinked(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}

// removeTrash deletes the files of delivered and dropped segments, after the cursor has left
// them: a start takes one that the cursor is in and that is gone for lost.
func (d *disk) removeTrash() {
	paths := d.q.takeTrash()
	if len(paths) > 0 && d.dir != nil && !time.Now().Before(d.cursorRetryAt) {
		d.saveCursor()
	}
	if len(paths) > 0 {
		wake(d.q.wakeSend) // It may have them open.
	}
	for i, path := range paths {
		if err := os.Remove(path); err != nil && !isGone(err) {
			d.q.returnTrash(paths[i:])
			d.failed(fmt.Errorf("remove a delivered segment: %w", err))
			return
		}
	}
}
