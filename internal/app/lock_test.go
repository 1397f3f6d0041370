package app

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataDirectoryHasOneProcess(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	dir := filepath.Join(t.TempDir(), "new", "data")
	release, err := lockData(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = lockData(dir, log); !errors.Is(err, errInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second lock = %v, want errInUse with the directory", err)
	}
	release()
	again, err := lockData(dir, log)
	if err != nil {
		t.Fatalf("a lock after the release = %v, want nil", err)
	}
	again()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v (%v), want mode 0700", info.Mode(), err)
	}
}

func TestUnusableDataDirectoryIsNoReasonToEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		release, err := lockData(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("lock of %s = %v, want nil", dir, err)
		}
		release()
	}
}
