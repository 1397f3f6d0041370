package steps

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestPrinterWritesOneLineAStepIntoAFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := New(f)
	if p.Terminal() {
		t.Error("a file is taken for a terminal")
	}
	p.Begin("building")
	p.Update("%d done", 1) // too early for a dot
	p.dotted = p.dotted.Add(-time.Minute)
	p.Update("%d done", 2)
	p.Done("%d packages", 3)
	p.Done("twice")
	p.Begin("starting")
	p.Print("failed: x\n")
	p.Status("12:00 fine")
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	want := `^  building {21}\. 3 packages \(\d+\.\d s\)\n  starting {21}\nfailed: x\n12:00 fine\n$`
	if !regexp.MustCompile(want).Match(got) {
		t.Errorf("output %q, want a match of %s", got, want)
	}
}

func TestPrinterRewritesTheLineOnATerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := New(f)
	p.terminal = true
	p.Begin("building")
	p.Update("%d done", 1)
	p.Done("all")
	p.Status("one")
	p.Status("two")
	p.Print("end")
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	const line = "\r\x1b\\[K"
	want := `^  building {21}` + line + `  building {21}1 done, 0 s` + line + `  building {21}all \(0\.0 s\)\n` + line + `one` + line + `two\nend\n$`
	if !regexp.MustCompile(want).Match(got) {
		t.Errorf("output %q, want a match of %s", got, want)
	}
}
