package app

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
)

// errInUse ends the start: two processes would overwrite each other's positions and send
// everything twice.
var errInUse = errors.New("another process uses it; two programs need two --data directories")

// lockData keeps other processes out of the data directory until release is called, or until
// this process is gone by whatever cause. The lock is on the directory itself, so that it
// works where nothing can be written. Only a lock that another process holds is an error: a
// directory that cannot be used is a state of the parts that write to it.
func lockData(dir string, log *slog.Logger) (release func(), err error) {
	nothing := func() {}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		log.Warn("data directory cannot be created", "path", dir, "err", err)
		return nothing, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		log.Warn("data directory cannot be opened", "path", dir, "err", err)
		return nothing, nil
	}
	release = func() { f.Close() }
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		release()
		return nil, fmt.Errorf("lock the data directory %s: %w", dir, errInUse)
	}
	if err != nil {
		log.Warn("data directory cannot be locked, make sure that no other process uses it", "path", dir, "err", err)
	}
	return release, nil
}
