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
