package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// Two pods of a Deployment on one node share a stream of Loki, which refuses what is an hour
// behind its newest line. Lines of hours, of much and of little, all arrive.
func TestPodsOfOneStreamCatchUpSideBySide(t *testing.T) {
	t.Parallel()
	loki, tree := kit.StartLogs(t, kit.LogsConfig{}), kit.NewPodLogWriter(t, t.TempDir())
	noisy, quiet := tree.Pod("shop", "noisy").Container("web"), tree.Pod("shop", "quiet").Container("web")
	begin := time.Now().Add(-3 * time.Hour)
	for i := range 180 {
		at := begin.Add(time.Duration(i) * time.Minute)
		tree.Now = func() time.Time { at = at.Add(time.Millisecond); return at }
		quiet.Write(1)
		for range 30 {
			noisy.Line("stdout", strings.Repeat("x", 800))
		}
	}
	p := kit.Start(t, kit.ProcessConfig{
		Config: config([]string{lokiTo("logs", loki.PushURL())}, nil, podLogsWith(tree.Dir, "first_start: {from: beginning}")),
	})
	wantOnce(t, tree, loki)
	if refused := loki.Refused(); len(refused) > 0 {
		t.Errorf("%d lines refused, such as %.100v", len(refused), refused[0])
	}
	waitBalance(t, p)
}
