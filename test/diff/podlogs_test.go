package diff_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"

	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/podlogs"
)

// P18: a million records of both streams, their parts interleaved, one in twenty damaged, are
// the lines that the kubelet's own reader makes of them, byte by byte and in the same order.
// Only what is no UTF-8 differs, since Loki does not take it.
func TestLinesAreThoseOfTheKubelet(t *testing.T) {
	records := 1_000_000
	if testing.Short() {
		records = 20_000
	}
	root := t.TempDir()
	path := filepath.Join(root, "shop_cart_0f0e0d0c-0000-4000-8000-000000000001", "main", "0.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	writeRecords(t, path, rand.New(rand.NewPCG(seed, 0)), records)

	kubelet := &wholeLines{}
	ctx := klog.NewContext(t.Context(), logr.Discard())
	if err := logs.ReadLogs(ctx, path, "0123", &logs.LogOptions{}, nil, kubelet.stream(0), kubelet.stream(1)); err != nil {
		t.Fatal(err)
	}
	got := readPodLogs(t, root, len(kubelet.lines))
	if i := slices.IndexFunc(kubelet.lines, func(l string) bool { return !bytes.Equal(bytes.ToValidUTF8([]byte(l), []byte("\uFFFD")), []byte(l)) }); i < 0 {
		t.Error("no line is no UTF-8, which shows less than it should")
	}
	for i, want := range kubelet.lines {
		if i == len(got) {
			t.Fatalf("%d lines, the kubelet has %d, the next is %.200q", len(got), len(kubelet.lines), want)
		}
		if want := bytes.ToValidUTF8([]byte(want), []byte("\uFFFD")); got[i] != string(want) {
			t.Fatalf("line %d is %.200q, the kubelet has %.200q", i, got[i], want)
		}
	}
	if len(got) > len(kubelet.lines) {
		t.Errorf("%d lines, the kubelet has %d, the next is %.200q", len(got), len(kubelet.lines), got[len(kubelet.lines)])
	}
	t.Logf("%d records, %d lines", records, len(got))
}

// writeRecords writes a log file of fuzzed records; no line is left open at its end.
func writeRecords(t *testing.T, path string, rnd *rand.Rand, records int) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriterSize(file, 1<<20)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	zones := []*time.Location{time.UTC, time.FixedZone("", 2*3600), time.FixedZone("", -(3*3600 + 1800))}
	tags := []string{"F", "F", "F", "F:x", "P", "P", "P:y:z", "X", ""}
	// By the first line the kubelet tells the format of the file.
	fmt.Fprintf(out, "%s stdout F the begin\n", at.Format(time.RFC3339Nano))
	var line []byte
	for range records {
		at = at.Add(time.Duration(rnd.IntN(2_000_000)))
		layout := "2006-01-02T15:04:05.000000000Z07:00"
		if rnd.IntN(10) == 0 {
			layout = time.RFC3339Nano
		}
		line = at.In(zones[max(0, rnd.IntN(12)-9)]).AppendFormat(line[:0], layout)
		line = append(line, [2]string{" stdout ", " stderr "}[rnd.IntN(2)]...)
		line = append(append(line, tags[rnd.IntN(len(tags))]...), ' ')
		line = appendText(line, rnd)
		if rnd.IntN(20) == 0 {
			line = damage(line, rnd)
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
	}
	for _, stream := range []string{"stdout", "stderr"} {
		fmt.Fprintf(out, "%s %s F the end\n", at.Format(time.RFC3339Nano), stream)
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// appendText appends a text of any bytes but line feeds, of which most are letters.
func appendText(line []byte, rnd *rand.Rand) []byte {
	n := rnd.IntN(40)
	switch rnd.IntN(1000) {
	case 0:
		n = 16 << 10 // as runtimes split them
	case 1:
		n = rnd.IntN(32 << 10)
	}
	odd := rnd.IntN(4) == 0
	for range n {
		c := byte('a' + rnd.IntN(26))
		if odd && rnd.IntN(4) == 0 {
			if c = byte(rnd.IntN(256)); c == '\n' {
				c = ' '
			}
		}
		line = append(line, c)
	}
	return line
}

// damage changes the header of a line. Years are left alone, since those that do not fit into
// nanoseconds are no lines for us, and no NUL is put at its begin, where we take it for a hole.
func damage(line []byte, rnd *rand.Rand) []byte {
	const year = 4
	switch at := year + rnd.IntN(40); {
	case at >= len(line):
		return line[:year+rnd.IntN(len(line)-year)]
	case rnd.IntN(2) == 0:
		return append(line[:at], line[at+1:]...)
	default:
		if line[at] = byte(1 + rnd.IntN(255)); line[at] == '\n' {
			line[at] = ' '
		}
		return line
	}
}

// wholeLines puts together the lines of two streams in the order in which they end.
type wholeLines struct {
	open  [2][]byte
	lines []string
}

type oneStream struct {
	to *wholeLines
	i  int
}

func (w *wholeLines) stream(i int) oneStream { return oneStream{w, i} }

// Write takes one record, as the kubelet's reader writes them: without a line feed if parts
// are to follow.
func (s oneStream) Write(b []byte) (int, error) {
	text, whole := bytes.CutSuffix(b, []byte{'\n'})
	open := append(s.to.open[s.i], text...)
	if whole {
		s.to.lines = append(s.to.lines, string(open))
		open = open[:0]
	}
	s.to.open[s.i] = open
	return len(b), nil
}

// lineSink keeps the text of lines.
type lineSink struct {
	want int
	full chan struct{}
	once sync.Once

	mu    sync.Mutex
	lines []string
}

// Push implements podlogs.Sink.
func (s *lineSink) Push(_ context.Context, b *model.LogBatch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stream := range b.Streams {
		for _, e := range stream.Entries {
			s.lines = append(s.lines, string(e.Line))
		}
	}
	b.Ack()
	if len(s.lines) >= s.want {
		s.once.Do(func() { close(s.full) })
	}
	return nil
}

// readPodLogs returns the lines of a tree, waiting for so many.
func readPodLogs(t *testing.T, root string, want int) []string {
	t.Helper()
	cfg := podlogs.Config{Pods: podlogs.DefaultPodConfig()}
	cfg.Pods.Enabled, cfg.Pods.Path = true, root
	cfg.Pods.FirstStart = podlogs.StartConfig{From: "beginning"}
	logger := slog.New(slog.DiscardHandler)
	m := podlogs.NewMetrics(prometheus.NewRegistry())
	sink := &lineSink{want: want, full: make(chan struct{})}
	c, err := podlogs.New(cfg, logger, m, nil, podlogs.NewPositions(filepath.Join(t.TempDir(), "positions"), "loki", logger, m), sink)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	select {
	case <-sink.full:
	case <-time.After(time.Minute):
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return sink.lines
}
