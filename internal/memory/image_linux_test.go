package memory

import (
	"os"
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
