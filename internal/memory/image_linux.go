package memory

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// forgetImage takes the program's own code and constants out of its resident memory, of which
// most is needed rarely or was needed once, to start: the tables of types of the Kubernetes API
// above all. They stay in the page cache, and what is in use comes back by itself within
// microseconds.
func forgetImage() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program's file: %w", err)
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("list the mapped files: %w", err)
	}
	defer maps.Close() // Only read from.
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		// 00400000-00ea8000 r-xp 00000000 fe:00 10027278      /usr/bin/ingot
		line := lines.Text()
		var from, to uintptr
		var flags string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &flags); err != nil || !strings.HasSuffix(line, " "+program) {
			continue
		}
		if strings.Contains(flags, "w") {
			continue // Variables: these are not on disk.
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back the program's pages: %w", errno)
		}
	}
	return lines.Err()
}
