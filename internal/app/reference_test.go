package app

import (
	"bytes"
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const metricsHead = `# Metrics

<!-- Generated from the code by make generate. Change the help texts instead. -->

What Ingot says about itself at ` + "`/metrics`" + `, besides the usual ` + "`go_*` and `process_*`" + `. What to do about them is in [operations.md](operations.md).
`

// TestReferenceOfMetricsIsCurrent builds the program with everything in it and compares
// docs/metrics.md with what it has registered.
func TestReferenceOfMetricsIsCurrent(t *testing.T) {
	p := everything(t)
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		p.reg.Describe(descs)
	}()
	types := map[string]string{}
	families, err := p.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		types[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	// The form of Desc.String, which is the only way to its parts.
	parts := regexp.MustCompile(`fqName: "(ingot_([a-z]+)_\w+)", help: ("(?:[^"\\]|\\.)*"), .*variableLabels: \{([^}]*)\}`)
	var rows [][]string
	for d := range descs {
		m := parts.FindStringSubmatch(d.String())
		if m == nil {
			if strings.Contains(d.String(), `"ingot_`) {
				t.Errorf("cannot read %s", d)
			}
			continue
		}
		if !strings.HasSuffix(m[3], `."`) {
			t.Errorf("the help of %s is no sentence with a period: %s", m[1], m[3])
		}
		rows = append(rows, m)
	}
	slices.SortFunc(rows, func(a, b []string) int {
		return cmp.Or(strings.Compare(a[2], b[2]), strings.Compare(a[1], b[1]))
	})
	var out bytes.Buffer
	out.WriteString(metricsHead)
	pkg := ""
	for _, row := range rows {
		if row[2] != pkg {
			pkg = row[2]
			fmt.Fprintf(&out, "\n## %s\n\n| metric | type | labels | |\n|---|---|---|---|\n", pkg)
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", row[1], metricType(row[1], types), strings.ReplaceAll(row[4], ",", ", "), strings.ReplaceAll(strings.Trim(row[3], `"`), `\"`, `"`))
	}
	const name = "../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, out.Bytes()) {
		t.Error("docs/metrics.md is not what the code says, run make generate")
	}
}

// metricType returns the type of a metric: the gathered one, or what the name says of one
// that has no values yet.
func metricType(name string, gathered map[string]string) string {
	if typ, ok := gathered[name]; ok {
		return typ
	}
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case strings.HasSuffix(name, "_duration_seconds"):
		return "histogram"
	default:
		return "gauge"
	}
}

func TestMetricsFollowTheConventionsOfPrometheus(t *testing.T) {
	problems, err := testutil.GatherAndLint(everything(t).reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// everything builds a program that has every kind of part. Nothing of it runs.
func everything(t *testing.T) *program {
	t.Helper()
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	cfg, err := Load("../../examples/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := build(Options{
		Config: cfg, DataDir: t.TempDir(), Listen: "127.0.0.1:0", Role: RoleAll, NodeName: "node",
		Version: "test", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
