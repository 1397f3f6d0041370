package delivery

import (
	"fmt"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// This file is what is different in a spool, see [Endpoint.Spool].

const (
	// spoolMemory bounds what a spool holds in memory: about 32 MiB of log text, a third of a
	// second of reading at full speed. More would only cost memory.
	spoolMemory = 4 << 20
	// spoolAfter is how long a block of a spool may wait for its acknowledgement in memory only,
	// while requests succeed. The files stay for longer than that.
	spoolAfter = 5 * time.Second
	// spoolPatience is how long a spool waits for a disk that does not answer at the start
	// before newer blocks are sent ahead of what it holds.
	spoolPatience = 30 * time.Second
)

// spools tells whether the queue is a spool, which without a directory is a matter of memory
// alone.
func (q *Queue) spools() bool { return q.ep.Spool && q.dir != "" }

// waits tells whether Put waits for room, so that nothing in memory is dropped.
func (q *Queue) waits() bool { return q.dir == "" || q.ep.Spool }

// spillPause is how long a block may wait for its acknowledgement in memory only.
func (q *Queue) spillPause() time.Duration {
	if q.spools() {
		return spoolAfter
	}
	return spillAfter
}

// openPatience is how long sending waits for the directory to be read.
func (q *Queue) openPatience() time.Duration {
	if q.spools() {
		return spoolPatience
	}
	return diskPatience
}

// SetLimits changes how much the queue holds in memory and on disk, in bytes; what is over it on
// disk is dropped, the oldest first.
func (q *Queue) SetLimits(memory, disk config.Size) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.memoryLimit, q.diskLimit = int64(memory), int64(disk)
	if q.index.bytes > q.maxBytes() {
		wake(q.wakeDisk)
	}
	wake(q.room)
}

// maxBytes returns how much disk space the queue may take. It needs the lock.
func (q *Queue) maxBytes() int64 {
	if q.diskLimit > 0 {
		return q.diskLimit
	}
	return int64(q.cfg.MaxBytes)
}

// DiskBytes returns the size of the queue files.
func (q *Queue) DiskBytes() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.index.bytes
}

// Idle returns for how long the queue has had nothing to do, 0 if it has something.
func (q *Queue) Idle() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.diskReady || len(q.mem) > 0 || q.index.left.Blocks > 0 || len(q.window.entries) > 0 {
		return 0
	}
	return time.Since(q.lastPut)
}

// keep brings a record of a spool to the disk, its name too, before its source hears of it. If
// that goes wrong the file is given up, since the system may have thrown the record away.
func (d *disk) keep(a *segment, rec record) error {
	err := d.q.files.sync(d.file)
	if err == nil && d.created {
		d.created = false
		_ = d.dir.Sync() // As in sync.
	}
	if err == nil && unlinked(d.file) {
		err = errUnlinked
	}
	if err != nil {
		_ = d.file.Truncate(rec.at) // As in write: the block stays in memory and is written again.
		d.seal(false)
		return fmt.Errorf("sync %s: %w", a.path, err)
	}
	return nil
}

// spooled lets the source of a block go on: the block is on disk. It needs the lock.
func (q *Queue) spooled(e *entry) {
	if i, ok := q.findAck(e.seq); ok {
		q.acks[i].done, q.acks[i].kept = true, true
	}
}
