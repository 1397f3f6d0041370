package discovery

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/test/kit"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestNodeTargetsHaveThePrometheusLabels compares with targets that were written down from
// Prometheus' documentation and code, one archive a case: the nodes as YAML of the API, the
// targets, and the error if any.
func TestNodeTargetsHaveThePrometheusLabels(t *testing.T) {
	files, err := filepath.Glob("testdata/node/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			section := map[string]string{}
			for _, f := range ar.Files {
				section[f.Name] = string(f.Data)
			}
			server := kit.StartKube(t)
			for text := range strings.SplitSeq(section["nodes.yaml"], "---\n") {
				var node map[string]any
				if err := yaml.Unmarshal([]byte(text), &node); err != nil {
					t.Fatal(err)
				}
				node["apiVersion"], node["kind"] = "v1", "Node"
				server.Put(t, node)
			}
			source := nodesOf(t, server)
			updates := runSource(t, source)
			got := render(<-updates)
			gotErr := ""
			if err := source.Err(); err != nil {
				gotErr = err.Error() + "\n"
			}
			if *update {
				ar.Files = []txtar.File{
					{Name: "nodes.yaml", Data: []byte(section["nodes.yaml"])},
					{Name: "targets", Data: []byte(got)},
					{Name: "error", Data: []byte(gotErr)},
				}
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(section["targets"], got); diff != "" {
				t.Errorf("targets -want +got\n%s", diff)
			}
			if diff := cmp.Diff(section["error"], gotErr); diff != "" {
				t.Errorf("error -want +got\n%s", diff)
			}
		})
	}
}

// nodesOf returns a source over the nodes of server, with its store running.
func nodesOf(t *testing.T, server *kit.Kube) *Kubernetes {
	t.Helper()
	client, err := kube.New(kube.Config{KubeconfigFile: server.Kubeconfig(t)}, "node", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, client.Nodes().Run)
	source, err := NewKubernetes(KubernetesConfig{Role: RoleNode}, client)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// runSource runs a source and returns all of its targets after each change, those of groups
// with the lesser names first.
func runSource(t *testing.T, s Source) <-chan []labels.Labels {
	t.Helper()
	updates := make(chan []labels.Labels, 100)
	present := map[Key][]labels.Labels{}
	runUntilCleanup(t, func(ctx context.Context) error {
		return s.Run(ctx, func(groups []Group) {
			for _, g := range groups {
				present[g.Key] = g.Targets
			}
			keys := slices.SortedFunc(maps.Keys(present), func(a, b Key) int {
				return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
			})
			var all []labels.Labels
			for _, k := range keys {
				all = append(all, present[k]...)
			}
			updates <- all
		})
	})
	return updates
}

func runUntilCleanup(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

// render writes one label a line, targets apart by an empty line.
func render(targets []labels.Labels) string {
	var b strings.Builder
	for i, target := range targets {
		if i > 0 {
			b.WriteString("\n")
		}
		m := target.Map()
		for _, name := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%s = %s\n", name, m[name])
		}
	}
	return b.String()
}

func TestNodeSourceFollowsNodesAndSurvivesAnOutage(t *testing.T) {
	server := kit.StartKube(t)
	source := nodesOf(t, server)
	updates := runSource(t, source)
	if first := <-updates; len(first) != 0 {
		t.Fatalf("first list = %v, want an empty one for an empty cluster", first)
	}
	server.Put(t, kit.KubeNode("a", "10.0.0.1", 10250, nil))
	if got := <-updates; len(got) != 1 || got[0].Get("__address__") != "10.0.0.1:10250" {
		t.Fatalf("list after a node came = %v", got)
	}
	server.Down()
	waitFor(t, func() bool { return source.Err() != nil })
	if err := server.Up(); err != nil {
		t.Fatal(err)
	}
	server.Delete(t, "Node", "", "a")
	if got := <-updates; len(got) != 0 {
		t.Fatalf("list after the node went = %v", got)
	}
}

func TestNodeSourceWithoutAnAnswerGivesNoList(t *testing.T) {
	server := kit.StartKube(t)
	server.Refuse("nodes", kit.KubeRefusal{Code: 403})
	source := nodesOf(t, server)
	updates := runSource(t, source)
	waitFor(t, func() bool { return strings.Contains(fmt.Sprint(source.Err()), "resources: [nodes]") })
	select {
	case got := <-updates:
		t.Errorf("an update without any list: %v; a refused source is not an empty one", got)
	default:
	}
}

func TestNodeSourceCoalescesChanges(t *testing.T) {
	server := kit.StartKube(t)
	updates := runSource(t, nodesOf(t, server))
	<-updates
	const changes = 200
	for i := range changes {
		server.Put(t, kit.KubeNode("a", fmt.Sprintf("10.0.0.%d", i), 10250, nil))
	}
	want, seen := fmt.Sprintf("10.0.0.%d:10250", changes-1), 0
	for got := range updates {
		seen++
		if got[0].Get("__address__") == want {
			break
		}
	}
	if seen > 5 {
		t.Errorf("%d updates for %d changes at once, want a few", seen, changes)
	}
}

func TestOneNodeSourceServesSeveralJobs(t *testing.T) {
	server := kit.StartKube(t)
	server.Put(t, kit.KubeNode("a", "10.0.0.1", 10250, nil))
	source := nodesOf(t, server)
	first, second := runSource(t, source), runSource(t, source)
	if a, b := <-first, <-second; len(a) != 1 || len(b) != 1 {
		t.Errorf("lists = %v and %v, want one node in each", a, b)
	}
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 20s")
		}
	}
}
