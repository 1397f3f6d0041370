package app

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/promoperator"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// Rendered is what objects of the Prometheus Operator become.
type Rendered struct {
	// YAML is the scrape_configs of Prometheus, without secrets.
	YAML []byte
	// Notes are lines for whoever wrote the objects, in their order: what is rejected, what is
	// not honoured, what is not chosen, which Secrets are assumed to exist.
	Notes []string
	// Rejected is how many objects are.
	Rejected int
}

// Render translates the objects of manifests, YAML or JSON, under a configuration. Kinds
// count as enabled. A Secret or ConfigMap that is not among the manifests is assumed to exist,
// so that what is stored in a repository can be rendered.
func Render(cfg Config, manifests []byte) (Rendered, error) {
	in, err := promoperator.Decode(manifests)
	if err != nil {
		return Rendered{}, err
	}
	o := cfg.OperatorObjects
	o.ServiceMonitors.Enabled, o.PodMonitors.Enabled, o.Probes.Enabled, o.ScrapeConfigs.Enabled = true, true, true, true
	values := &assumed{in: in}
	tr := promoperator.New(o, cfg.Scrape, values, values)
	var out Rendered
	var jobs []scrape.JobConfig
	for _, object := range in.Objects {
		values.missing = nil
		jobs = append(jobs, out.translate(tr, object)...)
		for _, m := range values.missing {
			out.note("%s: %s is not in the input and is assumed to exist", object, m)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(in.Ignored)) {
		out.note("objects of kind %s are ignored: %d", kind, in.Ignored[kind])
	}
	out.YAML, err = promoperator.RenderYAML(jobs)
	return out, err
}

func (r *Rendered) translate(tr *promoperator.Translator, object promoperator.Object) []scrape.JobConfig {
	if why := tr.Selects(object); why != nil {
		r.note("%s is not chosen: %v", object, why)
		return nil
	}
	got, err := tr.Translate(object)
	for _, w := range got.Warnings {
		r.note("%s: %v", object, w)
	}
	if err != nil {
		r.Rejected++
		var problems config.Problems
		problems.Merge("", err)
		for _, p := range problems {
			r.note("%s is rejected: %v", object, p)
		}
	}
	return got.Jobs
}

func (r *Rendered) note(format string, args ...any) {
	// Names and errors are of objects, which may hold what a terminal would obey.
	line := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, fmt.Sprintf(format, args...))
	r.Notes = append(r.Notes, line)
}

// assumed finds the values of the input and assumes all others.
type assumed struct {
	in      promoperator.Input
	missing []string
}

// Secret implements [promoperator.Secrets].
func (a *assumed) Secret(namespace, name, key string) (string, error) {
	return a.value("Secret", namespace, name, key, a.in.Secrets)
}

// ConfigMap implements [promoperator.ConfigMaps].
func (a *assumed) ConfigMap(namespace, name, key string) (string, error) {
	return a.value("ConfigMap", namespace, name, key, a.in.ConfigMaps)
}

func (a *assumed) value(kind, namespace, name, key string, values map[promoperator.ValueRef]string) (string, error) {
	if v, ok := values[promoperator.ValueRef{Namespace: namespace, Name: name, Key: key}]; ok {
		return v, nil
	}
	for ref := range values {
		if ref.Namespace == namespace && ref.Name == name { // It is there, so this is a mistake.
			return "", fmt.Errorf("%s %s/%s has no key %q", kind, namespace, name, key)
		}
	}
	if name == "" || key == "" {
		return "", fmt.Errorf("names no %s or no key of it", kind)
	}
	if m := fmt.Sprintf("key %s of %s %s", key, kind, name); !slices.Contains(a.missing, m) {
		a.missing = append(a.missing, m)
	}
	return promoperator.Assumed, nil
}
