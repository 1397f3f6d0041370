// Package promoperator turns the objects of the Prometheus Operator (ServiceMonitor,
// PodMonitor, Probe, ScrapeConfig) into scrape jobs that find, label and scrape the same
// targets as a Prometheus that the operator runs. It is named after the operator and not
// after its monitors, since a ScrapeConfig is none.
//
// It is a pure translation: a typed object, our configuration and the values of Secrets in,
// [scrape.JobConfig] values out, one for each endpoint. An object that the operator would
// reject is rejected with every reason and its field; what Ingot cannot honour in a good one
// is a [Warning]. The package does not watch, select targets, scrape, or write to objects,
// and no object makes it read a file.
//
// What is generated follows the operator's generator (its pkg/prometheus/promcfg.go): the
// names of jobs, the order of relabelling and the labels that come out are the same, which
// the tests compare with what the generator itself wrote.
package promoperator

import (
	"fmt"
	"slices"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/httpclient"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// Secrets finds values of Secrets. It is only ever asked for the namespace of the object that
// is translated. In the program this is *kube.Secrets; of ingot render it is [SecretValues].
type Secrets interface {
	// Secret returns the value of a key. The error says what is missing, without the value.
	Secret(namespace, name, key string) (string, error)
}

// ConfigMaps finds values of ConfigMaps, under the same rule as [Secrets]. Of ingot render it
// is [ConfigMapValues].
type ConfigMaps interface {
	// ConfigMap returns the value of a key. The error says what is missing.
	ConfigMap(namespace, name, key string) (string, error)
}

// Assumed is what a resolver may return in place of a value that it does not know and that
// shall not be missed, as ingot render does for Secrets that are not in its input. It is
// accepted wherever a value is checked.
const Assumed = "<assumed>"

// Translator turns objects into jobs. It keeps nothing between calls and is safe for
// concurrent use when its resolvers are.
type Translator struct {
	cfg        Config
	global     scrape.Config
	secrets    Secrets
	configMaps ConfigMaps
	fixed      map[string]relabel.Regexp // read only
}

// New returns a translator. The configurations have passed their Validate; global is what
// jobs take for all that an object leaves open.
func New(cfg Config, global scrape.Config, secrets Secrets, configMaps ConfigMaps) *Translator {
	return &Translator{cfg: cfg, global: global, secrets: secrets, configMaps: configMaps, fixed: fixedPatterns()}
}

// Translation is what one object becomes.
type Translation struct {
	// Jobs are one for each endpoint of the object, in its order. The receiver owns them; the
	// rules of a configuration are shared between them and must not be changed.
	Jobs []scrape.JobConfig
	// Warnings are the parts of the object that are not honoured, or not as one would think.
	Warnings []Warning
	// References are what values were asked of. When one of them changes, the object is to be
	// translated again. They are there also when the object is rejected, perhaps since one is
	// missing.
	References []Reference
}

// Reference names a Secret or a ConfigMap, as Kind says.
type Reference struct{ Kind, Namespace, Name string }

// Warning is a part of an object that Ingot does not honour as it stands there.
type Warning struct {
	// Field is its path, as in spec.endpoints[0].port.
	Field string
	// Reason says what happens instead, and where there is one the cure.
	Reason string
}

// String returns the warning on one line.
func (w Warning) String() string { return w.Field + ": " + w.Reason }

// ServiceMonitor translates a ServiceMonitor. The error, of this and the following methods,
// is [config.Problems] with the paths of fields; the object is then rejected as a whole, as
// the operator does, and there are no jobs.
func (t *Translator) ServiceMonitor(m *monitoringv1.ServiceMonitor) (Translation, error) {
	o := t.object(t.cfg.ServiceMonitors.Kind, "serviceMonitor", m.Namespace, m.Name, m.Spec.ScrapeClassName)
	o.checkSelector("spec.selector", &m.Spec.Selector)
	for i := range m.Spec.Endpoints {
		o.add(o.serviceEndpoint(m, i), config.Index("spec.endpoints", i))
	}
	return o.done()
}

// PodMonitor translates a PodMonitor.
func (t *Translator) PodMonitor(m *monitoringv1.PodMonitor) (Translation, error) {
	o := t.object(t.cfg.PodMonitors, "podMonitor", m.Namespace, m.Name, m.Spec.ScrapeClassName)
	o.checkSelector("spec.selector", &m.Spec.Selector)
	for i := range m.Spec.PodMetricsEndpoints {
		o.add(o.podEndpoint(m, i), config.Index("spec.podMetricsEndpoints", i))
	}
	return o.done()
}

// Probe translates a Probe.
func (t *Translator) Probe(m *monitoringv1.Probe) (Translation, error) {
	o := t.object(t.cfg.Probes, "probe", m.Namespace, m.Name, m.Spec.ScrapeClassName)
	o.add(o.probe(m), "spec")
	return o.done()
}

// ScrapeConfig translates a ScrapeConfig.
func (t *Translator) ScrapeConfig(m *monitoringv1alpha1.ScrapeConfig) (Translation, error) {
	o := t.object(t.cfg.ScrapeConfigs.Kind, "scrapeConfig", m.Namespace, m.Name, m.Spec.ScrapeClassName)
	o.add(o.scrapeConfig(m), "spec")
	return o.done()
}

// object is the translation of one object under way.
type object struct {
	*Translator
	kind      Kind
	namespace string
	// job is the name of the object's jobs, without the number of the endpoint.
	job string
	// class is the scrape class of the object, the zero class where it has none.
	class      ScrapeClass
	jobs       []scrape.JobConfig
	warnings   []Warning
	references []Reference
	problems   config.Problems
}

func (t *Translator) object(kind Kind, prefix, namespace, name string, class *string) *object {
	o := &object{Translator: t, kind: kind, namespace: namespace, job: prefix + "/" + namespace + "/" + name}
	switch {
	case namespace == "" || name == "":
		o.reject("metadata", "must have a namespace and a name")
	case class != nil && *class != "":
		i := slices.IndexFunc(t.cfg.ScrapeClasses, func(c ScrapeClass) bool { return c.Name == *class })
		if i < 0 {
			o.reject("spec.scrapeClass", "%q is not defined in operator_objects.scrape_classes", *class)
			break
		}
		o.class = t.cfg.ScrapeClasses[i]
	default:
		if i := slices.IndexFunc(t.cfg.ScrapeClasses, func(c ScrapeClass) bool { return c.Default }); i >= 0 {
			o.class = t.cfg.ScrapeClasses[i]
		}
	}
	return o
}

// reject notes why the object cannot be used, once: fields of the spec are looked at for each
// endpoint.
func (o *object) reject(field, format string, args ...any) {
	p := config.Problem{Path: field, Text: fmt.Sprintf(format, args...)}
	if !slices.Contains(o.problems, p) {
		o.problems = append(o.problems, p)
	}
}

func (o *object) warn(field, format string, args ...any) {
	w := Warning{field, fmt.Sprintf(format, args...)}
	if !slices.Contains(o.warnings, w) {
		o.warnings = append(o.warnings, w)
	}
}

// refer notes that a value of a Secret or a ConfigMap is asked for.
func (o *object) refer(kind, name string) {
	if r := (Reference{kind, o.namespace, name}); !slices.Contains(o.references, r) {
		o.references = append(o.references, r)
	}
}

// newJob returns a job with the defaults and what the configuration gives to all jobs of the
// kind.
func (o *object) newJob(name string) scrape.JobConfig {
	job := scrape.DefaultJobConfig()
	job.JobName = name
	// First, as in k8s-monitoring, so that rules of the configuration can drop by the name of
	// the job before anything else happens. The copy of the name is the operator's.
	job.RelabelConfigs = append(slices.Clone(o.kind.RelabelConfigs), o.set("__tmp_prometheus_job_name", "$1", anything, "job"))
	return job
}

// add completes a job and keeps it. What only the whole job shows to be wrong is reported at
// the field of its endpoint.
func (o *object) add(job scrape.JobConfig, field string) {
	if label := o.cfg.EnforcedNamespaceLabel; label != "" {
		job.RelabelConfigs = append(job.RelabelConfigs, o.set(label, o.namespace, anything))
		job.MetricRelabelConfigs = append(job.MetricRelabelConfigs, o.set(label, o.namespace, anything))
	}
	job.MetricRelabelConfigs = append(job.MetricRelabelConfigs, o.kind.MetricRelabelConfigs...)
	if len(o.problems) == 0 {
		o.problems.Merge(field, httpclient.Validate(&job.HTTPClientConfig))
		for i := range job.HTTPSDConfigs {
			o.problems.Merge(config.Index(field+".httpSDConfigs", i), httpclient.Validate(&job.HTTPSDConfigs[i].HTTPClientConfig))
		}
	}
	if len(o.problems) == 0 {
		o.problems.Merge(field, job.Validate(o.global))
	}
	o.jobs = append(o.jobs, job)
}

func (o *object) done() (Translation, error) {
	if err := o.problems.Err(); err != nil {
		return Translation{Warnings: o.warnings, References: o.references}, err
	}
	return Translation{Jobs: o.jobs, Warnings: o.warnings, References: o.references}, nil
}
