package memory

import (
	"bufio"
	"fmt"
	"io"
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
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("list the mapped files: %w", err)
	}
	defer maps.Close() // Only read from.
	all, err := imageRanges(maps, program)
	if err != nil {
		return fmt.Errorf("list the mapped files: %w", err)
	}
	for _, r := range all {
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, r.from, r.to-r.from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back the program's pages: %w", errno)
		}
	}
	return nil
}

// addressRange is the memory from one address up to another.
type addressRange struct{ from, to uintptr }

// imageRanges returns, of a process' smaps, what is mapped of the file of the given name and
// is as it stands there. What cannot be written to need not be: the loader of a
// position-independent program writes addresses into it first, and a debugger its breakpoints.
func imageRanges(smaps io.Reader, file string) (all []addressRange, err error) {
	var r addressRange
	wanted := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		// 00400000-00ea8000 r-xp 00000000 fe:00 10027278      /usr/bin/ingot
		// Anonymous:             0 kB
		line := lines.Text()
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.Contains(name, " ") {
			var flags string
			if _, err := fmt.Sscanf(line, "%x-%x %s", &r.from, &r.to, &flags); err != nil {
				return nil, fmt.Errorf("read %q: %w", line, err)
			}
			wanted = strings.HasSuffix(line, " "+file) && !strings.Contains(flags, "w")
			continue
		}
		switch {
		case !wanted:
		case name == "Anonymous" || name == "Swap":
			wanted = strings.TrimSpace(value) == "0 kB"
		case name == "VmFlags": // The last line of each.
			all = append(all, r)
		}
	}
	return all, lines.Err()
}
