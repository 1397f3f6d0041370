package podlogs

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestLabelsAreThoseOfTheChart compares pods with their labels. Each file of testdata/labels
// holds a pod, what pod_logs sets besides the profile, and what its lines get by profile.
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
			p, settings := goldenPod(t, a)
			want := a.Files[2:]
			var got []txtar.File
			for _, profile := range []Profile{ProfileV2, ProfileV3, ProfileV4} {
				if len(want) == 1 && want[0].Name != string(profile) {
					continue // Some files are about one profile.
				}
				var c PodConfig
				if err := config.Load(append([]byte("profile: "+string(profile)+"\n"), settings...), &c); err != nil {
					t.Fatal(err)
				}
				if err := c.Validate(); err != nil {
					t.Fatal(err)
				}
				got = append(got, txtar.File{Name: string(profile), Data: renderLabels(newLabelRules(&c, false).of(p))})
			}
			if *update {
				a.Files = append(a.Files[:2], got...)
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

// goldenPod reads the pod and the settings of a golden file.
func goldenPod(t *testing.T, a *txtar.Archive) (p pod, settings []byte) {
	t.Helper()
	var in struct {
		Namespace, Pod, Container string
		Labels, Annotations       map[string]string
		Owner                     kube.Owner
	}
	if len(a.Files) < 2 || a.Files[0].Name != "pod" || a.Files[1].Name != "pod_logs" {
		t.Fatal("the file must begin with pod and pod_logs")
	}
	if err := yaml.Unmarshal(a.Files[0].Data, &in); err != nil {
		t.Fatal(err)
	}
	return pod{
		namespace: in.Namespace, name: in.Pod, container: in.Container,
		labels: in.Labels, annotations: in.Annotations, owner: in.Owner,
	}, a.Files[1].Data
}

// renderLabels shows the labels of stdout and where those of stderr differ.
func renderLabels(s streamLabels) []byte {
	var b bytes.Buffer
	show := func(what string, of, but model.Labels) {
		for _, l := range of.All() {
			if but.Get(l.Name) != l.Value {
				fmt.Fprintf(&b, "%s %s=%q\n", what, l.Name, l.Value)
			}
		}
	}
	show("label   ", s[0].index, "")
	show("metadata", s[0].metadata, "")
	show("stderr label   ", s[1].index, s[0].index)
	show("stderr metadata", s[1].metadata, s[0].metadata)
	return b.Bytes()
}

func TestStaticLabelsThatAreNotKeptAreNamed(t *testing.T) {
	c := DefaultPodConfig()
	c.StaticLabels = map[string]string{"region": "eu", "level": "info", tenantLabel: "x"}
	if diff := cmp.Diff([]string{"region"}, newLabelRules(&c, false).vain()); diff != "" {
		t.Errorf("version 3 (-want +got):\n%s", diff)
	}
	if got := newLabelRules(&c, true).vain(); got != nil {
		t.Errorf("with stages that may use them: %q, want none", got)
	}
	c.LabelsToKeep = nil
	if got := newLabelRules(&c, false).vain(); got != nil {
		t.Errorf("where all are kept: %q, want none", got)
	}
}
