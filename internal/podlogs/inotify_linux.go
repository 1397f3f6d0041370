package podlogs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// dirEvents are what may make or end a file's name. IN_MODIFY is not among them: each write
	// to a log file would be an event of its directory.
	dirEvents = unix.IN_CREATE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_ONLYDIR
	// noticeBuffer takes some hundred events of usual names.
	noticeBuffer = 16 << 10
	// noAccessTime keeps reading from changing the file's inode, which would be written to the
	// disk of the node each time that the file has grown.
	noAccessTime = unix.O_NOATIME
)

// notifier is one inotify instance. Its methods may be used by several goroutines; close it
// when none of them calls any more but read, which close ends.
type notifier struct {
	file *os.File
	fd   int
}

func newNotifier() (*notifier, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if errors.Is(err, unix.EMFILE) {
		return nil, fmt.Errorf("create an inotify instance: %w: raise the system's fs.inotify.max_user_instances", err)
	}
	if err != nil {
		return nil, fmt.Errorf("create an inotify instance: %w", err)
	}
	// It is not blocking, so that the runtime waits for it without a thread.
	return &notifier{os.NewFile(uintptr(fd), "inotify"), fd}, nil
}

// dir asks for notices of names that come and go in the directory at path.
func (n *notifier) dir(path string) (wd int32, err error) {
	w, err := unix.InotifyAddWatch(n.fd, path, dirEvents)
	return int32(w), err
}

// once asks for one notice of the next write to an open file, whatever its name is by now.
func (n *notifier) once(file descriptor) (wd int32, err error) {
	w, err := unix.InotifyAddWatch(n.fd, "/proc/self/fd/"+strconv.Itoa(int(file)), unix.IN_MODIFY|unix.IN_ONESHOT)
	return int32(w), err
}

// drop ends a watch. That it has ended already is no error.
func (n *notifier) drop(wd int32) {
	_, _ = unix.InotifyRmWatch(n.fd, uint32(wd))
}

// read waits for notices and hands them to each. It returns an error when n was closed.
func (n *notifier) read(buf []byte, each func(notice)) error {
	got, err := n.file.Read(buf)
	if err != nil {
		return err
	}
	// struct inotify_event: wd, mask, cookie, len, and len bytes of name padded with NUL.
	for b := buf[:got]; len(b) >= unix.SizeofInotifyEvent; {
		mask, size := binary.NativeEndian.Uint32(b[4:]), int(binary.NativeEndian.Uint32(b[12:]))
		name := b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+size]
		for len(name) > 0 && name[len(name)-1] == 0 {
			name = name[:len(name)-1]
		}
		each(notice{
			wd: int32(binary.NativeEndian.Uint32(b)), name: name,
			lost:  mask&(unix.IN_Q_OVERFLOW|unix.IN_UNMOUNT) != 0,
			ended: mask&unix.IN_IGNORED != 0,
		})
		b = b[unix.SizeofInotifyEvent+size:]
	}
	return nil
}

func (n *notifier) close() { _ = n.file.Close() } // Nobody can do anything about a failure.
