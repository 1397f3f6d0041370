package delivery

import (
	"errors"
	"os"
	"syscall"
)

// syncFile brings the data of a file to the disk, and its size, but not its times.
func syncFile(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// inMemory tells whether a directory is on a file system that a reboot empties.
func inMemory(dir *os.File) bool {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var fs syscall.Statfs_t
	err := syscall.Fstatfs(int(dir.Fd()), &fs)
	return err == nil && (uint32(fs.Type) == tmpfs || uint32(fs.Type) == ramfs)
}
