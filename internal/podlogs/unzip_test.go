package podlogs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func slurp(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func spit(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func erase(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// squeeze compresses a file in the steps of the kubelet.
func squeeze(t testing.TB, path string) {
	t.Helper()
	spit(t, path+".tmp", gzipped(t, slurp(t, path)))
	if err := os.Rename(path+".tmp", path+".gz"); err != nil {
		t.Fatal(err)
	}
	erase(t, path)
}

// rotator writes a container's log as the runtime and the kubelet do.
type rotator struct {
	t       *testing.T
	path    string
	log     *logFile
	rotated []string // without .gz, oldest first
	n       int
}

func newRotator(t *testing.T, dir string) *rotator {
	t.Helper()
	path := filepath.Join(dir, "0.log")
	return &rotator{t: t, path: path, log: openLog(t, path)}
}

// write writes whole lines whose ids end in their number.
func (w *rotator) write(n int) (ids []string) {
	w.t.Helper()
	ids = numbered("id", w.n, w.n+n)
	w.n += n
	w.log.out(ids...)
	return ids
}

// rotate compresses the rotated files and renames the present one. Two files keep their names.
func (w *rotator) rotate() {
	w.t.Helper()
	for _, path := range w.rotated {
		if _, err := os.Stat(path); err == nil {
			squeeze(w.t, path)
		}
	}
	to := fmt.Sprintf("%s.20260102-0304%02d", w.path, len(w.rotated))
	rename(w.t, w.path, to)
	w.rotated = append(w.rotated, to)
	w.log = openLog(w.t, w.path)
}

// wantOrder checks that exactly want arrived, in that order.
func wantOrder(t *testing.T, got, want []string) {
	t.Helper()
	wantSet(t, got, want)
	if !t.Failed() && !slices.Equal(got, want) {
		t.Errorf("lines are not in order")
	}
}

func TestDownOverThreeRotationsLosesNothingAndRepeatsNothing(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.start()
	r.sink.wait(t, len(w.write(1000)))
	r.finish()
	r.sink = newLedger()
	var want []string
	for range 3 {
		want = append(want, w.write(2000)...)
		w.rotate()
	}
	want = append(want, w.write(10)...)
	if names, _ := filepath.Glob(w.path + ".*.gz"); len(names) != 2 {
		t.Fatalf("compressed files = %v, want 2", names)
	}
	r.start()
	wantOrder(t, r.sink.wait(t, len(want)), want)
	r.settledDown(1 + 1)
	want = append(want, w.write(10)...)
	wantOrder(t, r.sink.wait(t, len(want)), want)
	r.finish()
	r.conserved()
	if n := r.metric("ingot_podlogs_lost_bytes_total"); n != 0 {
		t.Errorf("%v bytes are counted as lost", n)
	}
	// Neither the same files nor one more rotation bring anything again.
	r.sink = newLedger()
	r.start()
	more := w.write(5)
	w.rotate()
	more = append(more, w.write(5)...)
	wantOrder(t, r.sink.wait(t, len(more)), more)
	r.settledDown(2)
	r.finish()
	wantOrder(t, r.sink.texts(), more)
}

// settledDown waits until only so many files are open and nothing lags.
func (r *rig) settledDown(files int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprint(files, " open files without lag"), func() bool {
		s := r.c.Status()
		return len(s.Files) == files && s.LagBytes == 0
	})
}

func TestRestartWithinACompressedFileGoesOnWhereItWas(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	want := w.write(60_000) // more than one turn, more than can be skipped in one
	want = append(want, w.write(40_000)...)
	w.rotate()
	want = append(want, w.write(3)...)
	w.rotate()
	want = append(want, w.write(3)...)
	// Else each start would wait for what the runtime might still write to the rotated file.
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(w.rotated[1], long, long); err != nil {
		t.Fatal(err)
	}
	var got []string
	for stops := 0; len(got) < len(want); stops++ {
		if stops > 50 {
			t.Fatalf("%d of %d lines after %d starts", len(got), len(want), stops)
		}
		r.sink = newLedger()
		r.build()
		r.p.load()
		s, rd := newScanner(r.c), newReader(r.c)
		s.scan(time.Now())
		for range 6 {
			rd.round(t.Context())
		}
		r.p.write()
		_ = r.c.Run(canceled(t)) // closes the files
		got = append(got, r.sink.texts()...)
	}
	wantOrder(t, got, want)
}

func TestKilledReaderOfACompressedFileRepeatsOnlyWhatWasNotNoted(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	want := w.write(50_000)
	length := int64(len(slurp(t, w.path))) / int64(len(want))
	w.rotate()
	w.rotate()
	noted, top := 0, 0
	for kill := 0; top < len(want); kill++ {
		if kill > 500 {
			t.Fatalf("only %d lines were noted after %d starts", noted, kill)
		}
		r.sink = newLedger()
		r.sink.hold = rand.IntN(3) == 0 // What is not acknowledged is not noted.
		r.build()
		r.p.load()
		s, rd := newScanner(r.c), newReader(r.c)
		s.scan(time.Now())
		for range rand.IntN(4) {
			rd.round(t.Context())
		}
		got := r.sink.texts()
		top = max(top, noted+len(got))
		if !slices.Equal(got, want[noted:noted+len(got)]) {
			t.Fatalf("start %d does not go on with line %d", kill, noted)
		}
		if rand.IntN(2) == 0 {
			r.p.write()
			recs, _, err := readPositions(r.positions)
			if err != nil || len(recs) == 0 {
				t.Fatal(recs, err)
			}
			noted = int(recs[0].Offset / length)
		}
		_ = r.c.Run(canceled(t)) // closes the files, writes nothing
	}
}

func last(list []string, otherwise string) string {
	if len(list) == 0 {
		return otherwise
	}
	return list[len(list)-1]
}

func TestFileCompressedWhileItIsReadIsReadOnce(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.sink.shut = true
	r.start()
	want := w.write(20_000)
	eventually(t, "opening", func() bool { _, ok := r.status("0.log"); return ok })
	w.rotate()
	eventually(t, "opening the second", func() bool { return len(r.c.Status().Files) == 2 })
	want = append(want, w.write(100)...)
	w.rotate() // The half read one becomes .gz.
	want = append(want, w.write(100)...)
	eventually(t, "noticing", func() bool {
		f, ok := r.status(filepath.Base(w.rotated[0]))
		return ok && f.Deleted
	})
	r.sink.set(func() { r.sink.shut = false })
	wantOrder(t, r.sink.wait(t, len(want)), want)
	r.settledDown(2)
	w.rotate() // The directory is looked through once more.
	want = append(want, w.write(100)...)
	wantOrder(t, r.sink.wait(t, len(want)), want)
	r.settledDown(2)
	r.finish()
	wantOrder(t, r.sink.texts(), want)
	r.conserved()
}

func TestFileFoundEmptyAndCompressedUnreadIsReadOnce(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.sink.shut = true
	r.start()
	want := w.write(20_000) // It keeps the files after it waiting.
	eventually(t, "opening", func() bool { _, ok := r.status("0.log"); return ok })
	w.rotate()
	eventually(t, "opening the second, which is empty", func() bool { return len(r.c.Status().Files) == 2 })
	want = append(want, w.write(100)...)
	w.rotate()
	w.rotate() // The second becomes .gz, unread.
	eventually(t, "noticing", func() bool {
		deleted := 0
		for _, f := range r.c.Status().Files {
			if f.Deleted {
				deleted++
			}
		}
		return deleted == 2
	})
	r.sink.set(func() { r.sink.shut = false })
	wantOrder(t, r.sink.wait(t, len(want)), want)
	w.rotate() // The directory is looked through once more.
	want = append(want, w.write(1)...)
	r.sink.wait(t, len(want))
	r.finish()
	wantOrder(t, r.sink.texts(), want)
	r.conserved()
}

func TestCompressedFileWhoseAcknowledgementIsOutstandingIsNotReadAgain(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.sink.hold = true
	r.start()
	want := w.write(500)
	r.sink.wait(t, len(want))
	w.rotate()
	want = append(want, w.write(5)...)
	r.sink.wait(t, len(want))
	w.rotate()
	eventually(t, "closing the first", func() bool { _, ok := r.status(filepath.Base(w.rotated[0])); return !ok })
	w.rotate()
	want = append(want, w.write(5)...)
	r.sink.wait(t, len(want))
	eventually(t, "closing the second", func() bool { return len(r.c.Status().Files) == 2 })
	wantOrder(t, r.sink.texts(), want)
	r.kill()
	r.p.write()
	// Nothing was acknowledged, so that all comes again, from the copies.
	r.sink = newLedger()
	r.start()
	wantOrder(t, r.sink.wait(t, len(want)), want)
}

func TestLineAcrossCompressedFilesIsJoined(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	w.log.out("first").write(cri("stdout", "P", "one "))
	w.rotate()
	w.log.write(cri("stdout", "P", "two ")).write(cri("stderr", "F", "beside"))
	w.rotate()
	w.log.write(cri("stdout", "F", "three"))
	w.rotate()
	r.start()
	wantOrder(t, r.sink.wait(t, 3), []string{"first", "beside", "one two three"})
	r.settledDown(2)
	r.conserved()
}

func TestCompressedFileIsNotReadWhenItsOriginalWas(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.start()
	r.sink.wait(t, len(w.write(300)))
	r.finish()
	w.rotate()
	w.rotate()
	r.build()
	r.p.load()
	s := newScanner(r.c)
	if got := r.skippedNow(s); len(got) != 0 {
		t.Errorf("a file that was read to its end is shown: %v", got)
	}
	if _, ok := r.status(filepath.Base(w.rotated[0]) + ".gz"); ok {
		t.Error("a file that was read to its end is open")
	}
	// Its position must not be dropped while the compressed file is there.
	s.scan(time.Now().Add(2 * keepGone))
	s.scan(time.Now().Add(4 * keepGone))
	found := false
	for _, pos := range r.p.files {
		found = found || pos.path == w.path && !pos.open
	}
	if !found {
		t.Errorf("the position of the original was dropped")
	}
	_ = r.c.Run(canceled(t))
}

func TestDamagedCompressedFilesAreReadAsFarAsPossibleAndCounted(t *testing.T) {
	f := func(name string, spoil func([]byte) []byte, wantLost func(off, size int64) int64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			w := newRotator(t, r.dir("web", "nginx"))
			r.start()
			first := w.write(1)
			r.sink.wait(t, 1)
			var ids []string
			for i := range 3000 {
				ids = append(ids, fmt.Sprintf("%d-%x", i, rand.Uint64()))
			}
			r.sink.set(func() { r.sink.shut = true })
			w.log.out(ids...)
			size := int64(len(slurp(t, w.path)))
			eventually(t, "seeing all", func() bool { f, _ := r.status("0.log"); return f.Size == size })
			r.finish()
			w.rotate()
			w.rotate()
			after := w.write(1)
			path := w.rotated[0] + ".gz"
			spit(t, path, spoil(slurp(t, path)))
			r.sink = newLedger()
			r.start()
			eventually(t, "the line of the next file", func() bool { return slices.Contains(r.sink.texts(), after[0]) })
			r.settledDown(2)
			got := r.sink.texts()
			got = got[:len(got)-1]
			off := int64(len(cri("stdout", "F", first[0])))
			for i, text := range got {
				if text != ids[i] && (i < len(got)-1 || !strings.HasPrefix(ids[i], text)) {
					t.Fatalf("line %d is %.100q, want %q", i, text, ids[i])
				}
				off += int64(len(cri("stdout", "F", text)))
			}
			lost := int64(r.metric("ingot_podlogs_lost_bytes_total", "reason", lostDamaged))
			// A half line at the damage has no line feed, or not even a time.
			if want := wantLost(off, size); lost < want-100 || lost > want+100 {
				t.Errorf("%d bytes are counted as lost, want about %d: %d of %d lines arrived", lost, want, len(got), len(ids))
			}
			losses := r.c.Status().Lost
			if len(losses) != 1 || losses[0].Bytes != lost || losses[0].Pod != "web" || losses[0].Namespace != "shop" || losses[0].Err == "" {
				t.Errorf("losses = %+v", losses)
			}
			r.conserved()
			r.finish()
			// It is not tried again.
			r.sink = newLedger()
			r.start()
			r.sink.wait(t, len(w.write(1)))
			r.settledDown(2)
			r.finish()
			if n := len(r.sink.texts()); n != 1 || len(r.c.Status().Lost) != 0 {
				t.Errorf("%d lines and %v after a restart, want the new line alone", n, r.c.Status().Lost)
			}
		})
	}
	rest := func(off, size int64) int64 { return size - off }
	f("truncated", func(b []byte) []byte { return b[:len(b)*2/3] }, rest)
	f("without its end", func(b []byte) []byte { return b[:len(b)-8] }, rest)
	f("wrong checksum", func(b []byte) []byte { b[len(b)-8] ^= 1; return b }, func(int64, int64) int64 { return 0 })
}

func TestOverwrittenCompressedFileEndsItsDamageWithIt(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		r := newRig(t)
		w := newRotator(t, r.dir("web", "nginx"))
		var want []string
		for i := range 3000 {
			want = append(want, fmt.Sprintf("%d-%x", i, rnd.Uint64()))
		}
		w.log.out(want...)
		w.rotate()
		w.rotate()
		after := w.write(3)
		path := w.rotated[0] + ".gz"
		data := slurp(t, path)
		for i := len(data) / 2; i < len(data)/2+500; i++ {
			data[i] = byte(rnd.Uint32())
		}
		spit(t, path, data)
		r.start()
		eventually(t, "the next file", func() bool { return last(r.sink.texts(), "") == after[2] })
		r.settledDown(2)
		got := r.sink.texts()
		if len(got) < 1000 || !slices.Equal(got[:1000], want[:1000]) || !slices.Equal(got[len(got)-3:], after) {
			t.Errorf("seed %d: %d lines, not those before the damage and of the next file", seed, len(got))
		}
		if lost := r.c.Status().Lost; len(lost) != 1 || lost[0].Reason != lostDamaged {
			t.Errorf("seed %d: losses = %v", seed, lost)
		}
		r.finish()
		r.conserved()
	}
}

func TestEveryTruncationOfACompressedFileIsSurvived(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		text.WriteString(cri("stdout", "F", fmt.Sprintf("%d-%x", i, rand.Uint64())))
	}
	whole := gzipped(t, []byte(text.String()))
	r := newRig(t)
	path := filepath.Join(r.dir("web", "nginx"), "0.log.20260102-030405.gz")
	for n := 0; n < len(whole); n += 7 {
		spit(t, path, whole[:n])
		r.sink = newLedger()
		r.positions = filepath.Join(t.TempDir(), "p")
		r.build()
		s, rd := newScanner(r.c), newReader(r.c)
		s.scan(time.Now())
		for range 5 {
			rd.round(t.Context())
			rd.now = rd.now.Add(time.Second)
		}
		eventually(t, "the end of the file", func() bool { rd.round(t.Context()); return len(r.c.Status().Files) == 0 })
		r.conserved()
		if st := r.c.Status(); len(st.Lost)+len(st.Skipped) != 1 {
			t.Fatalf("cut at %d: lost %v, skipped %v", n, st.Lost, st.Skipped)
		}
	}
}

func TestWhatIsNoArchiveIsShownAndTemporaryFilesAreNotRead(t *testing.T) {
	r := newRig(t)
	dir := r.dir("web", "nginx")
	const day = "0.log.20260102-030405"
	spit(t, filepath.Join(dir, day+".gz"), []byte("not gzip"))
	spit(t, filepath.Join(dir, day+".tmp"), gzipped(t, []byte(cri("stdout", "F", "x"))))
	spit(t, filepath.Join(dir, day+".gz.tmp"), gzipped(t, []byte(cri("stdout", "F", "x"))))
	spit(t, filepath.Join(dir, "0.log.20260102-030406.gz"), gzipped(t, nil))
	r.build()
	want := map[string]string{"pods/shop_web_uid-web/nginx/" + day + ".gz": skipCompressed}
	if diff := cmp.Diff(want, r.skippedNow(newScanner(r.c))); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if files := r.c.Status().Files; len(files) != 0 {
		t.Errorf("open files = %v, want none", files)
	}
}

func TestCompressedFileBeyondTheLimitIsCutAndCounted(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	w.write(20_000)
	size := len(slurp(t, w.path))
	w.rotate()
	w.rotate()
	w.write(1)
	r.build()
	r.c.maxUnzipped = 300 << 10
	r.run()
	r.settledDown(2)
	eventually(t, "the line of the present file", func() bool { return last(r.sink.texts(), "") == "id-020000" })
	got := r.sink.texts()
	line := len(cri("stdout", "F", got[0]))
	if want := (300<<10 + turnSize) / line; len(got) > want+2 {
		t.Errorf("%d lines were read, want at most %d", len(got), want)
	}
	if lost, want := int(r.metric("ingot_podlogs_lost_bytes_total", "reason", lostTooLarge)), size-(len(got)-1)*line; lost != want {
		t.Errorf("%d bytes are counted as lost, want %d", lost, want)
	}
}

func TestManyCompressedFilesAreReadWithOneDecompressor(t *testing.T) {
	r := newRig(t)
	var want []string
	for i := range 30 {
		dir := r.dir(fmt.Sprint("pod", i), "c")
		var b strings.Builder
		for _, id := range numbered(fmt.Sprint("pod", i), 0, 3000) {
			want = append(want, id)
			b.WriteString(cri("stdout", "F", id))
		}
		spit(t, filepath.Join(dir, "0.log.20260102-030405.gz"), gzipped(t, []byte(b.String())))
		id := fmt.Sprint("live", i)
		openLog(t, filepath.Join(dir, "0.log")).out(id)
		want = append(want, id)
	}
	r.start()
	wantSet(t, r.sink.wait(t, len(want)), want)
	r.settledDown(30)
	r.finish()
	r.conserved()
}

func TestInodeOfTheOriginalMayBeReused(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.start()
	r.sink.wait(t, len(w.write(100)))
	r.finish()
	want := w.write(100)
	w.rotate()
	w.rotate()
	// Let the present file have the inode of the original.
	recs, _, err := readPositions(r.positions)
	if err != nil || len(recs) != 1 {
		t.Fatal(recs, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(w.path, &st); err != nil {
		t.Fatal(err)
	}
	recs[0].Ino = st.Ino
	spit(t, r.positions, encodePositions(recs))
	want = append(want, w.write(100)...)
	// The first look sees only the present file; a restart must not forget the displaced one.
	gz, away := w.rotated[0]+".gz", filepath.Join(t.TempDir(), "gz")
	rename(t, gz, away)
	r.sink = newLedger()
	r.sink.shut = true
	r.start()
	eventually(t, "opening", func() bool { return len(r.c.Status().Files) == 2 })
	r.finish()
	rename(t, away, gz)
	r.sink = newLedger()
	r.start()
	wantOrder(t, r.sink.wait(t, len(want)), want)
	r.settledDown(2)
	r.finish()
	wantOrder(t, r.sink.texts(), want)
}

func TestCompressedFileThatIsRemovedWhileItWaitsIsReadToItsEnd(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	want := w.write(30_000)
	w.rotate()
	want = append(want, w.write(10)...)
	w.rotate()
	want = append(want, w.write(10)...)
	r.sink.shut = true
	r.start()
	eventually(t, "opening", func() bool { return len(r.c.Status().Files) == 3 })
	erase(t, w.rotated[0]+".gz")
	eventually(t, "noticing", func() bool { f, _ := r.status(filepath.Base(w.rotated[0]) + ".gz"); return f.Deleted })
	r.sink.set(func() { r.sink.shut = false })
	wantOrder(t, r.sink.wait(t, len(want)), want)
	r.settledDown(2)
	r.conserved()
}

func TestOlderCompressedFileThatIsFoundLateTakesOver(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	want := w.write(30_000)
	w.rotate()
	want = append(want, w.write(30_000)...)
	w.rotate()
	w.rotate()
	gz, away := w.rotated[0]+".gz", filepath.Join(t.TempDir(), "gz")
	rename(t, gz, away)
	r.build()
	s, rd := newScanner(r.c), newReader(r.c)
	s.scan(time.Now())
	rd.round(t.Context())
	if len(r.sink.texts()) == 0 {
		t.Fatal("nothing of the younger file was read")
	}
	rename(t, away, gz)
	s.scan(time.Now().Add(time.Second))
	eventually(t, "reading all", func() bool { rd.round(t.Context()); return len(r.sink.texts()) >= len(want) })
	wantSet(t, r.sink.texts(), want)
	_ = r.c.Run(canceled(t))
}

// canceled returns a context that has ended.
func canceled(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestPositionsOfVersion1AreRead(t *testing.T) {
	body := `{"format":"ingot log positions","version":1}` + "\n" +
		`{"path":"/a","dev":1,"ino":2,"offset":3,"head_size":4,"head_sum":5}` + "\n"
	recs, torn, err := decodePositions(fmt.Appendf(nil, "%s{\"files\":1,\"crc32c\":\"%08x\"}\n", body, checksumOf(0, []byte(body))))
	if err != nil || torn {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]storedPosition{{Path: "/a", Dev: 1, Ino: 2, Offset: 3, HeadSize: 4, HeadSum: 5}}, recs); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
}

func TestFileThatWentAwayUnreadIsCountedOnce(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	r.start()
	r.sink.wait(t, len(w.write(10)))
	read := int64(len(slurp(t, w.path)))
	r.sink.set(func() { r.sink.shut = true })
	w.write(5000)
	size := int64(len(slurp(t, w.path)))
	eventually(t, "seeing all", func() bool { f, _ := r.status("0.log"); return f.Size == size })
	r.finish()
	w.rotate()
	erase(t, w.rotated[0])
	r.sink = newLedger()
	r.start()
	eventually(t, "the loss", func() bool { return len(r.c.Status().Lost) == 1 })
	loss := r.c.Status().Lost[0]
	if loss.Path != w.path || loss.Namespace != "shop" || loss.Pod != "web" || loss.Bytes != size-read || loss.Reason != lostRotatedAway {
		t.Errorf("loss = %+v, want %d bytes of %s", loss, size-read, w.path)
	}
	if n := int64(r.metric("ingot_podlogs_lost_bytes_total", "reason", lostRotatedAway)); n != size-read {
		t.Errorf("%d bytes are counted as lost, want %d", n, size-read)
	}
	r.sink.wait(t, len(w.write(1)))
	r.finish()
	r.start()
	later := time.Now().Add(4 * r.c.timing.goneAge)
	eventually(t, "later scans", func() bool { return r.c.Status().Scanned.After(later) })
	if got := r.c.Status().Lost; len(got) != 0 {
		t.Errorf("losses after a restart = %v, want none", got)
	}
}

func TestWhatIsNotLookedForIsNotLost(t *testing.T) {
	f := func(name string, change func(r *rig, path string), want int) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.sink.shut = true
			r.start()
			w := newRotator(t, r.dir("web", "nginx"))
			w.write(10)
			eventually(t, "opening", func() bool { f, ok := r.status("0.log"); return ok && f.Size > 0 })
			r.finish()
			change(r, w.path)
			r.build()
			r.p.load()
			s := newScanner(r.c)
			s.scan(time.Now())
			s.scan(time.Now().Add(time.Minute))
			if got := r.c.Status().Lost; len(got) != want {
				t.Errorf("losses = %v, want %d", got, want)
			}
			_ = r.c.Run(canceled(t))
		})
	}
	f("still there", func(*rig, string) {}, 0)
	f("rotated", func(_ *rig, path string) { rename(t, path, path+".20260102-030405") }, 0)
	f("compressed", func(_ *rig, path string) {
		rename(t, path, path+".20260102-030405")
		squeeze(t, path+".20260102-030405")
	}, 0)
	remove := func(path string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Dir(filepath.Dir(path))); err != nil {
			t.Fatal(err)
		}
	}
	f("pod removed", func(_ *rig, path string) { remove(path) }, 1)
	f("file removed", func(_ *rig, path string) { erase(t, path) }, 1)
	f("tree away", func(r *rig, _ string) { rename(t, r.root, r.root+"-away") }, 0)
	f("namespace excluded", func(r *rig, path string) { r.cfg.Pods.ExcludeNamespaces = []string{"shop"}; remove(path) }, 0)
	f("pods disabled", func(r *rig, path string) { r.cfg.Pods.Enabled = false; remove(path) }, 0)
}

func TestUnreadableCompressedFileIsTriedAgain(t *testing.T) {
	r := newRig(t)
	w := newRotator(t, r.dir("web", "nginx"))
	want := w.write(20_000)
	w.rotate()
	w.rotate()
	r.cfg.Pods.ScanInterval = config.Duration(time.Hour)
	r.build()
	r.c.timing.closeAge = time.Hour
	newScanner(r.c).scan(time.Now())
	bad := r.c.order[0].tails[0]
	rd := newReader(r.c)
	rd.round(t.Context())
	broken, err := os.OpenFile(w.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer broken.Close()
	good, err := syscall.Dup(int(bad.file))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup3(int(broken.Fd()), int(bad.file), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	eventually(t, "failing", func() bool { rd.round(t.Context()); return bad.state.Load() == stateFailed })
	if err := errors.Join(syscall.Dup3(good, int(bad.file), syscall.O_CLOEXEC), syscall.Close(good)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reading all", func() bool { rd.round(t.Context()); return len(r.sink.texts()) >= len(want) })
	wantOrder(t, r.sink.texts(), want)
	r.conserved()
	_ = r.c.Run(canceled(t))
}
