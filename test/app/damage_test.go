package app_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// startLimit is how long a start may take whatever the queue files look like.
const startLimit = 5 * time.Second

// hurt is a way in which the files of a queue are damaged while the program is away.
type hurt struct {
	name string
	do   func(t *testing.T, rnd *rand.Rand, segments []string)
	// records is how many requests may be lost, counted as corrupt; files how many files are
	// counted as skipped. Every request may be lost where records is negative.
	records, files int64
}

func hurts() []hurt {
	flip := func(n int) func(*testing.T, *rand.Rand, []string) {
		return func(t *testing.T, rnd *rand.Rand, segments []string) {
			t.Helper()
			for range n {
				file := segments[rnd.IntN(len(segments))]
				text, err := os.ReadFile(file)
				check(t, err)
				bit := rnd.IntN(8 * len(text))
				text[bit/8] ^= 1 << (bit % 8)
				check(t, os.WriteFile(file, text, 0o600))
			}
		}
	}
	return []hurt{
		{name: "R36 torn last record", records: 1, do: func(t *testing.T, rnd *rand.Rand, segments []string) {
			t.Helper()
			last := segments[len(segments)-1]
			check(t, os.Truncate(last, size(t, last)-1-rnd.Int64N(200)))
		}},
		{name: "R37 one flipped bit", records: 1, do: flip(1)},
		{name: "R37 twenty flipped bits", records: 20, do: flip(20)},
		{name: "R38 first segment deleted", records: -1, files: 1, do: func(t *testing.T, _ *rand.Rand, segments []string) {
			t.Helper()
			check(t, os.Remove(segments[0]))
		}},
		{name: "R38 a segment of length zero", records: -1, files: 1, do: func(t *testing.T, _ *rand.Rand, segments []string) {
			t.Helper()
			check(t, os.Truncate(segments[0], 0))
		}},
		{name: "R38 foreign files", files: 1, do: func(t *testing.T, _ *rand.Rand, segments []string) {
			t.Helper()
			name := filepath.Base(segments[0])
			foreign := filepath.Join(filepath.Dir(segments[0]), "9"+name[1:])
			check(t, os.WriteFile(foreign, []byte(noise(5000)), 0o600))
			check(t, os.WriteFile(filepath.Join(filepath.Dir(segments[0]), "README.txt"), []byte("hello"), 0o600))
		}},
		{name: "R39 cursor lost", do: func(t *testing.T, _ *rand.Rand, segments []string) {
			t.Helper()
			entries, err := os.ReadDir(filepath.Dir(segments[0]))
			check(t, err)
			for _, e := range entries {
				if file := filepath.Join(filepath.Dir(segments[0]), e.Name()); !slices.Contains(segments, file) {
					check(t, os.Remove(file))
				}
			}
		}},
	}
}

// R36-R39, P13: a backlog whose files are damaged costs only the requests that were hit, each
// counted; the start is quick, nothing wrong is sent, and new data goes on.
func TestDamagedQueueLosesOnlyWhatWasHit(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigConfig{targets: 1, series: 20})
	r.complete(t) // the cursor is somewhere
	r.mimir.Down()
	r.scrapes(t, 12)
	stopped := time.Now()
	if code, took := r.p.Stop(); code != 0 {
		t.Fatalf("exit code %d after %s", code, took)
	}
	missing := missingScrapes(r.all[0], r.mimir, before(stopped))
	if len(missing) < 8 {
		t.Fatalf("a backlog of %d scrapes shows nothing", len(missing))
	}
	for _, h := range hurts() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			testHurt(t, h, r, missing)
		})
	}
}

func testHurt(t *testing.T, h hurt, r *rig, missing []kit.Scrape) {
	t.Helper()
	dir := t.TempDir()
	check(t, os.CopyFS(filepath.Join(dir, "data"), os.DirFS(filepath.Join(r.p.Dir(), "data"))))
	segments, err := filepath.Glob(filepath.Join(dir, "data", "*", "*", "*.seg"))
	check(t, err)
	if len(segments) == 0 {
		t.Fatal("there are no queue files")
	}
	h.do(t, random(t), segments)

	mimir, other := kit.StartMetrics(t, kit.MetricsConfig{}), targets(t, 1, 3)
	began := time.Now()
	p := kit.Start(t, kit.ProcessConfig{Dir: dir, Config: config(
		[]string{prometheusTo("metrics", mimir.PushURL())}, []string{scrapeJob("other", other)},
	)})
	if took := time.Since(began); took > startLimit {
		t.Errorf("the start took %s, want at most %s", took, startLimit)
	}
	check(t, other[0].WaitScrapes(t.Context(), soon, 3))
	waitScrapes(t, other, mimir, before(time.Now()))
	q := untilQueue(t, p, "metrics", "the end of the backlog", func(q queue) bool { return q.Disk.Blocks == 0 })

	backlog := func(s kit.Scrape) bool { return s.N >= missing[0].N && s.N <= missing[len(missing)-1].N }
	lost := int64(len(missingScrapes(r.all[0], mimir, backlog)))
	m, err := p.Metrics()
	check(t, err)
	corrupt, skipped := int64(m.Sum("ingot_delivery_corrupt_records_total")), int64(m.Sum("ingot_delivery_skipped_files"))
	t.Logf("%d of %d scrapes lost, %d records corrupt, %d files skipped, %d samples restored", lost, len(missing), corrupt, skipped, q.Restored.Items)
	// A request holds what was scraped within its deadline, one scrape of the only target.
	if h.records >= 0 && (lost > h.records || corrupt > h.records) {
		t.Errorf("%d scrapes lost and %d records counted as corrupt, want at most %d", lost, corrupt, h.records)
	}
	if h.records == 1 && lost != corrupt && corrupt != 1 {
		t.Errorf("%d scrapes lost and %d records counted as corrupt", lost, corrupt)
	}
	if skipped < h.files || h.files == 0 && h.records == 0 && skipped > 0 {
		t.Errorf("%d files skipped, want %d", skipped, h.files)
	}
	if err := r.all[0].Report(mimir, "", time.Time{}).Err(); err != nil {
		t.Error(err) // nothing invented, nothing out of order
	}
	waitBalance(t, p)
}
