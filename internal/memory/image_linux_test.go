package memory

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// residentFile returns how many bytes of files are resident in the process.
func residentFile(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("the system does not say what is resident of files")
	return 0
}

func TestForgetImageTakesThePagesOfTheProgramAway(t *testing.T) {
	before := residentFile(t)
	if err := forgetImage(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after > before-before/8 {
		t.Errorf("%d bytes of files are resident, before it were %d", after, before)
	} else {
		t.Logf("%d bytes of files were resident, now %d", before, after)
	}
}

// TestOnlyWhatIsAsOnDiskIsForgotten has a part that the loader has written addresses into and
// made read-only, as in each position-independent program: to forget it is to crash.
func TestOnlyWhatIsAsOnDiskIsForgotten(t *testing.T) {
	entry := func(addresses, flags, file, anonymous, swap string) string {
		return addresses + " " + flags + " 00000000 fe:00 10027278                   " + file +
			"\nSize:  4 kB\nAnonymous:      " + anonymous + " kB\nSwap:       " + swap + " kB\nVmFlags: rd ex mr mw me\n"
	}
	const file = "/usr/bin/in got"
	smaps := entry("00001000-00002000", "r-xp", file, "0", "0") +
		entry("00002000-00003000", "r--p", file, "0", "0") +
		entry("00003000-00004000", "r--p", file, "4", "0") +
		entry("00004000-00005000", "r--p", file, "0", "4") +
		entry("00005000-00006000", "rw-p", file, "0", "0") +
		entry("00006000-00007000", "r-xp", "/lib/libc.so", "0", "0") +
		entry("7ffc00001000-7ffc00002000", "rw-p", "", "0", "0")
	all, err := imageRanges(strings.NewReader(smaps), file)
	if err != nil {
		t.Fatal(err)
	}
	if want := []addressRange{{0x1000, 0x2000}, {0x2000, 0x3000}}; !slices.Equal(all, want) {
		t.Errorf("forgets %x, want %x", all, want)
	}
}
