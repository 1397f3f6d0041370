package podlogs

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
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

func idOf(st *unix.Stat_t) fileID {
	return fileID{uint64(st.Dev), st.Ino} //nolint:unconvert // Dev is narrower on some systems.
}

// mtimeOf returns when a file was last written to, in nanoseconds since 1970.
func mtimeOf(st *unix.Stat_t) int64 { return st.Mtim.Nano() }

// typeOf returns the type bits of a file.
func typeOf(st *unix.Stat_t) fs.FileMode {
	switch uint32(st.Mode) & unix.S_IFMT { //nolint:unconvert // Mode is narrower on some systems.
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	}
	return fs.ModeIrregular
}

// descriptor is a file that is open for reading. Unlike an *os.File it takes no memory; it is
// closed by its owner alone, exactly once.
type descriptor int32

// pread reads once at off. It returns 0 bytes at the end of the file.
func (d descriptor) pread(p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(int(d), p, off)
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, &fs.PathError{Op: "read", Path: "log file", Err: err}
		}
	}
}

// ReadAt implements io.ReaderAt.
func (d descriptor) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := d.pread(p[n:], off+int64(n))
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (d descriptor) stat(st *unix.Stat_t) error { return unix.Fstat(int(d), st) }

func (d descriptor) close() error { return unix.Close(int(d)) }

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

// tooManyError is returned when no further log file is opened so that descriptors are left for
// all else that the program does, such as connections.
type tooManyError struct{}

func (tooManyError) Error() string {
	return unix.EMFILE.Error() + ": raise the limit of open files of the process (ulimit -n)"
}

func (tooManyError) Unwrap() error { return unix.EMFILE }

// lstat looks at name in a directory. A symbolic link is not followed.
func lstat(parent *os.File, name string, st *unix.Stat_t) error {
	for {
		err := unix.Fstatat(int(parent.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "look at", Path: name, Err: err}
		}
	}
}

func openAt(parent *os.File, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(int(parent.Fd()), name, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return 0, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// openDir opens the directory name, one element of a path, in parent. A symbolic link is not
// followed.
func openDir(parent *os.File, name string) (*os.File, error) {
	var st unix.Stat_t
	if err := lstat(parent, name, &st); err != nil {
		return nil, err
	}
	switch typeOf(&st) {
	case fs.ModeSymlink:
		return nil, &skipError{skipSymlink}
	case fs.ModeDir:
	default:
		return nil, &skipError{skipNotDir}
	}
	fd, err := openAt(parent, name, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, errReplaced
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// openFile opens the regular file name, one element of a path, in parent; st is what lstat told
// about it and is brought up to date. A symbolic link is not followed, and a FIFO or device is
// not opened: what was opened is compared with what was looked at. Descriptors from most on are
// not used; 0 is no limit.
func openFile(parent *os.File, name string, st *unix.Stat_t, most int) (descriptor, error) {
	switch typeOf(st) {
	case 0:
	case fs.ModeSymlink:
		return 0, &skipError{skipSymlink}
	default:
		return 0, &skipError{skipIrregular}
	}
	before := idOf(st)
	// Should it have become a FIFO since, opening does not wait for a writer.
	fd, err := openAt(parent, name, unix.O_NONBLOCK|noAccessTime)
	if errors.Is(err, unix.EPERM) { // Only the file's owner and root may.
		fd, err = openAt(parent, name, unix.O_NONBLOCK)
	}
	if err != nil {
		return 0, err
	}
	f := descriptor(fd)
	if err := f.stat(st); err != nil || idOf(st) != before {
		return 0, errors.Join(errReplaced, err, f.close())
	}
	if most > 0 && fd >= most { // The lowest free one is given out.
		return 0, errors.Join(tooManyError{}, f.close())
	}
	return f, nil
}

// mostDescriptors returns the descriptor from which on none is used for log files: an eighth of
// those that the process may have is left for all else. Go has raised the limit at the start as
// far as the process may.
func mostDescriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	most := min(uint64(limit.Cur), 1<<30) //nolint:unconvert // Cur is signed on some systems.
	return int(most - min(most/8, 1024))
}
