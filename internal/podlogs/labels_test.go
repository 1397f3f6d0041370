package podlogs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestLabelsAreThoseOfTheChart compares pods with their labels. Each file of testdata/labels
// holds a pod and what its lines get.
func TestLabelsAreThoseOfTheChart(t *testing.T) {
	paths, err := filepath.Glob("testdata/labels/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var in struct {
				Namespace, Pod, Container string
				Labels, Annotations       map[string]string
			}
			if err := yaml.Unmarshal(a.Files[0].Data, &in); err != nil {
				t.Fatal(err)
			}
			index, metadata := streamLabels(pod{in.Namespace, in.Pod, in.Container, in.Labels, in.Annotations})
			var b strings.Builder
			for _, l := range index.All() {
				fmt.Fprintf(&b, "label    %s=%q\n", l.Name, l.Value)
			}
			for _, l := range metadata.All() {
				fmt.Fprintf(&b, "metadata %s=%q\n", l.Name, l.Value)
			}
			if *update {
				a.Files = append(a.Files[:1], txtar.File{Name: "labels", Data: []byte(b.String())})
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.Files[1].Data), b.String()); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}
