package promoperator

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func goldens(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	return files
}

// section returns a file of an archive, "" where it has none.
func section(ar *txtar.Archive, name string) string {
	for _, f := range ar.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// TestGoldenTranslations has an archive for each field: the objects, the block
// operator_objects if any, and what comes out, rewritten with -update.
func TestGoldenTranslations(t *testing.T) {
	for _, file := range goldens(t) {
		t.Run(strings.TrimSuffix(file[len("testdata/"):], ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := txtar.Format(ar)
			ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name != "input.yaml" && f.Name != "config.yaml" })
			for _, f := range translateGolden(t, section(ar, "input.yaml"), section(ar, "config.yaml")) {
				if len(f.Data) > 0 {
					ar.Files = append(ar.Files, f)
				}
			}
			got := txtar.Format(ar)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func translateGolden(t *testing.T, input, block string) []txtar.File {
	t.Helper()
	cfg := DefaultConfig()
	if block != "" {
		if err := config.Load([]byte(block), &cfg); err != nil {
			t.Fatal(err)
		}
	}
	in, err := Decode([]byte(input))
	if err != nil {
		t.Fatal(err)
	}
	tr := New(cfg, scrape.DefaultConfig(), in.Secrets, in.ConfigMaps)
	var jobs []scrape.JobConfig
	var warnings, rejected strings.Builder
	for _, o := range in.Objects {
		got, problems := tr.Translate(o)
		for _, w := range got.Warnings {
			fmt.Fprintln(&warnings, w)
		}
		if problems != nil {
			fmt.Fprintln(&rejected, problems)
			continue
		}
		jobs = append(jobs, got.Jobs...)
	}
	var text []byte
	if len(jobs) > 0 {
		if text, err = RenderYAML(jobs); err != nil {
			t.Fatal(err)
		}
		checkRendered(t, jobs, text)
	}
	return []txtar.File{
		{Name: "output.yaml", Data: text},
		{Name: "warnings", Data: []byte(warnings.String())},
		{Name: "rejected", Data: []byte(rejected.String())},
	}
}

// checkRendered reads what was rendered again: it is a configuration, it means the same, and
// it has no secret.
func checkRendered(t *testing.T, jobs []scrape.JobConfig, text []byte) {
	t.Helper()
	var again struct {
		ScrapeConfigs []operatorJob `yaml:"scrape_configs"`
	}
	if err := config.Load(text, &again); err != nil {
		t.Errorf("what was rendered is no configuration: %v", err)
		return
	}
	for i, j := range again.ScrapeConfigs {
		compareRules(t, jobs[i].JobName, jobs[i].RelabelConfigs, j.RelabelConfigs, jobs[i].JobName)
		compareRules(t, jobs[i].JobName, jobs[i].MetricRelabelConfigs, j.MetricRelabelConfigs, jobs[i].JobName)
		want, got := jobs[i], scrape.JobConfig(j)
		for _, job := range []*scrape.JobConfig{&want, &got} {
			job.RelabelConfigs, job.MetricRelabelConfigs = nil, nil
			job.HTTPClientConfig.BasicAuth, job.HTTPClientConfig.Authorization, job.HTTPClientConfig.OAuth2 = nil, nil, nil
			tls := &job.HTTPClientConfig.TLSConfig
			tls.CA, tls.Cert, tls.Key, job.HTTPClientConfig.ProxyConnectHeader = "", "", "", nil
			job.HTTPSDConfigs = nil
		}
		if diff := cmp.Diff(want, got, equalJobs()...); diff != "" {
			t.Errorf("rendered and read again: -want +got\n%s", diff)
		}
	}
	if strings.Contains(string(text), "hunter") || strings.Contains(string(text), "-----BEGIN") {
		t.Errorf("a secret is rendered:\n%s", text)
	}
}

// TestEveryFieldHasAGolden keeps the goldens complete when the operator adds a field: each
// field of the types has to be in the input of one, those of blocks that stand in several
// places once.
func TestEveryFieldHasAGolden(t *testing.T) {
	kinds := map[string]reflect.Type{
		"ServiceMonitor": reflect.TypeFor[monitoringv1.ServiceMonitorSpec](),
		"PodMonitor":     reflect.TypeFor[monitoringv1.PodMonitorSpec](),
		"Probe":          reflect.TypeFor[monitoringv1.ProbeSpec](),
		"ScrapeConfig":   reflect.TypeFor[monitoringv1alpha1.ScrapeConfigSpec](),
	}
	seen := map[string]bool{}
	for _, file := range goldens(t) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(section(ar, "input.yaml"), "\n---\n") {
			var o struct {
				Kind string
				Spec map[string]any
			}
			if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if typ, ok := kinds[o.Kind]; ok {
				markFields(typ, o.Spec, seen)
			}
		}
	}
	all := map[string]bool{}
	for _, typ := range kinds {
		allFields(typ, all)
	}
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if !seen[field] {
			t.Errorf("no golden has %s", field)
		}
	}
	t.Logf("%d fields", len(all))
}

// fieldsOf are the fields of a struct by their names in JSON, those of inlined ones too.
func fieldsOf(typ reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if strings.Contains(options, "inline") {
			for name, t := range fieldsOf(f.Type) {
				if _, hidden := fields[name]; !hidden {
					fields[name] = t
				}
			}
			continue
		}
		fields[name] = f.Type
	}
	return fields
}

// elem takes off pointers, lists and maps. ok says that the rest is a struct of the operator
// that Ingot looks into.
func elem(typ reflect.Type) (_ reflect.Type, ok bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
		typ = typ.Elem()
	}
	discovery, isDiscovery := strings.CutSuffix(typ.Name(), "SDConfig")
	carried := !isDiscovery || slices.Contains([]string{"File", "HTTP", "DNS", "Kubernetes"}, discovery)
	return typ, typ.Kind() == reflect.Struct && strings.Contains(typ.PkgPath(), "prometheus-operator") && carried
}

func allFields(typ reflect.Type, all map[string]bool) {
	for name, t := range fieldsOf(typ) {
		key := typ.Name() + "." + name
		if all[key] {
			continue
		}
		all[key] = true
		if e, ok := elem(t); ok {
			allFields(e, all)
		}
	}
}

func markFields(typ reflect.Type, value any, seen map[string]bool) {
	switch v := value.(type) {
	case []any:
		for _, e := range v {
			markFields(typ, e, seen)
		}
	case map[string]any:
		fields := fieldsOf(typ)
		for name, e := range v {
			t, known := fields[name]
			if !known { // A map with keys of its own.
				markFields(typ, e, seen)
				continue
			}
			seen[typ.Name()+"."+name] = true
			if inner, ok := elem(t); ok {
				markFields(inner, e, seen)
			}
		}
	}
}
