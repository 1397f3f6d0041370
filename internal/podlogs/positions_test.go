package podlogs

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestUnusablePositionsFallBackToTheBackupOrTheBeginning(t *testing.T) {
	f := func(name string, spoil func(path string), want []string, reason string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("1")
			r.start()
			r.sink.wait(t, 1)
			r.p.write()
			f.out("2")
			r.sink.wait(t, 2)
			r.finish()
			spoil(r.positions)
			f.out("3")
			r.sink = newLedger()
			r.start()
			if diff := cmp.Diff(want, r.sink.wait(t, len(want))); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if reason != "" && r.metric("ingot_podlogs_position_recoveries_total", "reason", reason) != 1 {
				t.Errorf("the recovery %s was not counted", reason)
			}
			r.finish()
			if _, _, err := readPositions(r.positions); err != nil {
				t.Errorf("positions were not written again: %v", err)
			}
		})
	}
	write := func(path, data string) {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	tear := func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(path, string(data[:len(data)/2]))
	}
	fromBackup, fromStart := []string{"2", "3"}, []string{"1", "2", "3"}
	f("intact", func(string) {}, []string{"3"}, "")
	f("torn", tear, fromBackup, "backup")
	f("empty", func(p string) { write(p, "") }, fromBackup, "backup")
	f("newer", func(p string) { write(p, `{"format":"ingot log positions","version":99}`+"\n") }, fromBackup, "backup")
	f("lost", remove, fromBackup, "backup")
	f("both torn", func(p string) { tear(p); tear(p + ".bak") }, fromStart, "from_beginning")
	f("both lost", func(p string) { remove(p); remove(p + ".bak") }, fromStart, "")
	f("a directory", func(p string) {
		remove(p)
		if err := os.Mkdir(p, 0o700); err != nil {
			t.Fatal(err)
		}
	}, fromBackup, "backup")
}

func TestPositionOfAReusedInodeIsNotBelieved(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	openLog(t, path).out("old one", "old two")
	r.start()
	r.sink.wait(t, 2)
	r.finish()
	// The same inode with another content is what reuse looks like.
	if err := os.WriteFile(path, []byte(cri("stdout", "F", "new one is longer")+cri("stdout", "F", "than the old")), 0o644); err != nil {
		t.Fatal(err)
	}
	r.sink = newLedger()
	r.start()
	if diff := cmp.Diff([]string{"new one is longer", "than the old"}, r.sink.wait(t, 2)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestFileTruncatedMeanwhileIsReadFromItsStart(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log")
	first := strings.Repeat("x", 300)
	openLog(t, path).out(first, "b")
	r.start()
	r.sink.wait(t, 2)
	r.finish()
	if err := os.Truncate(path, int64(len(cri("stdout", "F", first)))); err != nil {
		t.Fatal(err)
	}
	r.sink = newLedger()
	r.start()
	if diff := cmp.Diff([]string{first}, r.sink.wait(t, 1)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if got := r.metric("ingot_podlogs_truncations_total"); got != 1 {
		t.Errorf("%v truncations, want 1", got)
	}
}

func TestPositionsNeverPassWhatIsOnItsWay(t *testing.T) {
	r := newRig(t)
	r.sink.hold = true
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("a")
	r.start()
	r.sink.wait(t, 1)
	const bad = "malformed\n"
	f.write(bad)
	size := int64(len(cri("stdout", "F", "a") + bad))
	eventually(t, "reading", func() bool { s, _ := r.status("0.log"); return s.Read == size })
	if s, _ := r.status("0.log"); s.Acknowledged != 0 {
		t.Errorf("%d bytes are acknowledged while their push is on its way", s.Acknowledged)
	}
	r.sink.set(func() {
		for _, ack := range r.sink.acks {
			ack()
		}
	})
	eventually(t, "the malformed line to be acknowledged", func() bool { s, _ := r.status("0.log"); return s.Acknowledged == size })
}

func TestPositionSurvivesAnotherDeviceNumber(t *testing.T) {
	r := newRig(t)
	f := openLog(t, filepath.Join(r.dir("web", "nginx"), "0.log")).out("1", "2")
	r.start()
	r.sink.wait(t, 2)
	r.finish()
	recs, _, err := readPositions(r.positions)
	if err != nil {
		t.Fatal(err)
	}
	recs[0].Dev += 7
	if err := os.WriteFile(r.positions, encodePositions(recs), 0o600); err != nil {
		t.Fatal(err)
	}
	f.out("3")
	r.sink = newLedger()
	r.start()
	if diff := cmp.Diff([]string{"3"}, r.sink.wait(t, 1)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestPositionsAreWrittenEachSecondWhenChangedAndAtTheStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	synctest.Test(t, func(t *testing.T) {
		p := NewPositions(path, "loki", testLogger(t), NewMetrics(prometheus.NewRegistry()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = p.Run(ctx) }()
		synctest.Wait()
		pos, _ := p.open(fileID{1, 2}, "/a", []byte("head"))
		p.fingerprint(pos, fingerprintOf([]byte("head")))
		offset := func() int64 {
			recs, _, err := readPositions(path)
			if err != nil || len(recs) != 1 {
				t.Fatalf("readPositions() = %v, %v", recs, err)
			}
			return recs[0].Offset
		}
		p.acknowledge([]mark{{pos, 10}})
		time.Sleep(writeInterval)
		synctest.Wait()
		if got := offset(); got != 10 {
			t.Errorf("offset after a second = %d, want 10", got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * writeInterval)
		synctest.Wait()
		if _, err := os.Stat(path); err == nil {
			t.Error("positions that did not change were written")
		}
		p.acknowledge([]mark{{pos, 20}})
		cancel()
		<-done
		if got := offset(); got != 20 {
			t.Errorf("offset after the stop = %d, want 20", got)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("mode of the file = %v, %v, want 0600", fi.Mode(), err)
		}
	})
}

func TestUnwritablePositionsAreCountedAndTriedAgain(t *testing.T) {
	dir := t.TempDir()
	blocker := filepath.Join(dir, "data")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, reg: prometheus.NewRegistry()}
	p := NewPositions(filepath.Join(blocker, "p.json"), "loki", testLogger(t), NewMetrics(r.reg))
	p.load()
	p.write()
	if got := r.metric("ingot_podlogs_position_write_failures_total"); got != 1 {
		t.Errorf("%v failures, want 1", got)
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	p.write()
	if _, _, err := readPositions(filepath.Join(blocker, "p.json")); err != nil {
		t.Errorf("positions after the repair: %v", err)
	}
}

func TestAnyChangeOfThePositionsFileIsNoticed(t *testing.T) {
	good := encodePositions([]storedPosition{
		{Path: "/var/log/pods/a_b_c/d/0.log", Dev: 1, Ino: 2, Offset: 3, HeadSize: 4, HeadSum: 5},
		{Path: "/b", Dev: 1 << 63, Ino: 1<<64 - 1, Offset: 1 << 62, HeadSize: 256, HeadSum: 1},
	})
	if _, torn, err := decodePositions(good); err != nil || torn {
		t.Fatal(torn, err)
	}
	for i := range good {
		if recs, _, err := decodePositions(good[:i]); err == nil {
			t.Errorf("cut at %d: %v", i, recs)
		}
		for _, bit := range []byte{1, 0x20} {
			b := slices.Clone(good)
			b[i] ^= bit
			recs, _, err := decodePositions(b)
			if err == nil && !bytes.Equal(encodePositions(recs), good) {
				t.Errorf("bit %#x of byte %d: %v", bit, i, recs)
			}
		}
	}
}

func FuzzPositions(f *testing.F) {
	f.Add(encodePositions(nil))
	f.Add(encodePositions([]storedPosition{{Path: "/a", Dev: 1, Ino: 2, Offset: 3, HeadSize: 4, HeadSum: 5}}))
	f.Add([]byte(strings.Repeat("{}\n", 3)))
	f.Add([]byte(`{"format":"ingot log positions","version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		recs, _, err := decodePositions(data)
		if err != nil {
			return
		}
		again, torn, err := decodePositions(encodePositions(recs))
		if err != nil || torn {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if diff := cmp.Diff(recs, again); diff != "" {
			t.Errorf("positions changed (-first +again):\n%s", diff)
		}
	})
}
