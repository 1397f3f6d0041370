package podlogs

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// fileID names a file independently of its path, as long as it exists.
type fileID struct{ dev, ino uint64 }

// fingerprintSize is how many of a file's first bytes are compared before a stored position
// is believed: more than the time and stream of a container's first line.
const fingerprintSize = 256

// fingerprint is a hash over the first n bytes of a file, n at most fingerprintSize. It
// tells a file from a later one with the same inode. With n = 0 it fits every file.
type fingerprint struct {
	n   int
	sum uint64
}

// fingerprintOf returns the fingerprint of a file that begins with head.
func fingerprintOf(head []byte) fingerprint {
	head = head[:min(len(head), fingerprintSize)]
	h := fnv.New64a()
	h.Write(head)
	return fingerprint{len(head), h.Sum64()}
}

// fits tells whether a file that begins with head may be the one that f was taken of.
func (f fingerprint) fits(head []byte) bool {
	return len(head) >= f.n && fingerprintOf(head[:f.n]).sum == f.sum || f.n == 0
}

// readHead reads the first bytes of a file into head and returns those that there are.
func readHead(f io.ReaderAt, head []byte) ([]byte, error) {
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the first bytes: %w", err)
	}
	return head[:n], nil
}

func idOf(fi fs.FileInfo) fileID {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{uint64(st.Dev), st.Ino} //nolint:unconvert // Dev is narrower on some systems.
}

// skipError says why an entry of a directory is not read and never will be as it is.
type skipError struct{ reason string }

func (e *skipError) Error() string { return "is not read: " + e.reason }

// Reasons for entries that are not read.
const (
	skipSymlink    = "symlink"
	skipIrregular  = "not_a_regular_file"
	skipNotDir     = "not_a_directory"
	skipName       = "unknown_name"
	skipCompressed = "compressed"
	skipTwice      = "read_elsewhere"
	skipUnreadable = "unreadable"
)

// errReplaced is returned when a name meant something else between two looks at it.
var errReplaced = errors.New("was replaced meanwhile")

// openDir opens the directory name in parent. A symbolic link is not followed.
func openDir(parent *os.Root, name string) (*os.Root, error) {
	before, err := parent.Lstat(name)
	if err != nil {
		return nil, err
	}
	switch {
	case before.Mode()&fs.ModeSymlink != 0:
		return nil, &skipError{skipSymlink}
	case !before.IsDir():
		return nil, &skipError{skipNotDir}
	}
	dir, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	if after, err := dir.Stat("."); err != nil || !os.SameFile(before, after) {
		return nil, errors.Join(errReplaced, err, dir.Close())
	}
	return dir, nil
}

// openFile opens the regular file name in parent. A symbolic link is not followed, and a
// FIFO or device is not opened: what was opened is compared with what was looked at.
func openFile(parent *os.Root, name string) (*os.File, fs.FileInfo, error) {
	before, err := parent.Lstat(name)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case before.Mode()&fs.ModeSymlink != 0:
		return nil, nil, &skipError{skipSymlink}
	case !before.Mode().IsRegular():
		return nil, nil, &skipError{skipIrregular}
	}
	// Should it have become a FIFO since, opening does not wait for a writer.
	f, err := parent.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err != nil || !os.SameFile(before, after) {
		return nil, nil, errors.Join(errReplaced, err, f.Close())
	}
	return f, after, nil
}
