package app

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDataOfUnknownDestinationsIsToldOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with [odd] * name")
	for _, file := range []string{
		"queues/metrics/00000000000000000001.seg", "queues/gone/00000000000000000001.seg", "queues/gone/00000000000000000002.seg",
		"queues/empty/cursor-3", "spool/logs/own/00000000000000000001.seg", "spool/logs/tenant-a/00000000000000000001.seg",
		"spool/metrics/own/00000000000000000001.seg", "spool/idle/own/cursor-3",
	} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	destinations := []Destination{{Name: "metrics", Type: Prometheus}, {Name: "logs", Type: Loki}}
	warnOfLeftovers(dir, destinations, slog.New(slog.NewTextHandler(&out, nil)))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "name=gone") || !strings.Contains(lines[1], "name=metrics") || !strings.Contains(lines[1], "spool") {
		t.Errorf("said:\n%s\nwant that of queues/gone and of spool/metrics", out.String())
	}
}
