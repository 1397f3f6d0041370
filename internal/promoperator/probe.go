package promoperator

import (
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// probe makes the job of a Probe: what is scraped is the prober, with the target as a
// parameter.
func (o *object) probe(m *monitoringv1.Probe) scrape.JobConfig {
	s := &m.Spec
	job := o.newJob(o.job)
	o.honor(&job, false, nil, nil)
	o.setTimes(&job, s.Interval, s.ScrapeTimeout, "spec.interval", "spec.scrapeTimeout")
	job.MetricsPath = "/probe"
	if s.ProberSpec.Path != "" {
		job.MetricsPath = s.ProberSpec.Path
	}
	job.Scheme = o.scheme("spec.prober.scheme", s.ProberSpec.Scheme)
	if !validProber(s.ProberSpec.URL) {
		o.reject("spec.prober.url", "must be a host or host:port without scheme and path, is %q", s.ProberSpec.URL)
	}
	job.Params = o.probeParams(s)
	c := endpointClient("spec", s.HTTPConfigWithoutTLS, s.TLSConfig, s.ProberSpec.ProxyConfig)
	c.proxyField = "spec.prober"
	c.authorization = s.Authorization // Not that of the embedded struct, which it hides.
	job.HTTPClientConfig = o.httpClient(c, o.class)

	if s.JobName != "" {
		job.RelabelConfigs = append(job.RelabelConfigs, o.set("job", s.JobName, anything))
	}
	var own []monitoringv1.RelabelConfig
	field := "spec.targets.staticConfig.relabelingConfigs"
	switch t := s.Targets; {
	case t.StaticConfig != nil:
		// As in the operator, static targets win where there are both, and a fault in the
		// other rejects all the same.
		if t.Ingress != nil {
			o.warn("spec.targets.ingress", "is ignored, since staticConfig is there too")
			o.rules("spec.targets.ingress.relabelingConfigs", t.Ingress.RelabelConfigs, model.UTF8Validation)
		}
		own = t.StaticConfig.RelabelConfigs
		job.StaticConfigs = []discovery.StaticConfig{o.probeTargets(t.StaticConfig)}
		job.RelabelConfigs = append(job.RelabelConfigs, o.set("__param_target", "$1", anything, "__address__"))
	case t.Ingress != nil:
		own, field = t.Ingress.RelabelConfigs, "spec.targets.ingress.relabelingConfigs"
		o.checkSelector("spec.targets.ingress.selector", &t.Ingress.Selector)
		job.KubernetesSDConfigs = []discovery.KubernetesConfig{{
			Role:       discovery.RoleIngress,
			Namespaces: o.namespaces(t.Ingress.NamespaceSelector),
			Only:       only(&t.Ingress.Selector),
		}}
		job.RelabelConfigs = append(job.RelabelConfigs, o.ingressRules(t.Ingress)...)
	default:
		o.reject("spec.targets", "must have staticConfig or ingress")
	}
	job.RelabelConfigs = append(job.RelabelConfigs,
		o.set("instance", "$1", anything, "__param_target"),
		o.set("__address__", s.ProberSpec.URL, anything),
	)
	job.RelabelConfigs = append(job.RelabelConfigs, o.class.RelabelConfigs...)
	job.RelabelConfigs = append(job.RelabelConfigs, o.rules(field, own, model.UTF8Validation)...)
	job.MetricRelabelConfigs = o.metricRules("spec.metricRelabelings", s.MetricRelabelConfigs, model.UTF8Validation)
	o.setLimits(&job, limits{
		s.SampleLimit, s.TargetLimit, s.LabelLimit, s.LabelNameLengthLimit, s.LabelValueLengthLimit, s.KeepDroppedTargets,
		nil, s.ScrapeProtocols, s.FallbackScrapeProtocol, s.ExtraScrapeMetrics, s.NativeHistogramConfig,
	})
	return job
}

func (o *object) probeParams(s *monitoringv1.ProbeSpec) url.Values {
	params := url.Values{}
	for i, p := range s.Params {
		if p.Name == "module" && s.Module != "" {
			o.warn(config.Index("spec.params", i), "is ignored, since spec.module names a module too")
			continue
		}
		params[p.Name] = p.Values
	}
	if s.Module != "" {
		params["module"] = []string{s.Module}
	}
	if len(params) == 0 {
		return nil
	}
	return params
}

// probeTargets are static targets; those without a label namespace get that of the object.
func (o *object) probeTargets(s *monitoringv1.ProbeTargetStaticConfig) discovery.StaticConfig {
	labels := o.labelSet("spec.targets.staticConfig.labels", s.Labels)
	if _, ok := labels["namespace"]; !ok {
		labels["namespace"] = model.LabelValue(o.namespace)
	}
	return discovery.StaticConfig{Targets: s.Targets, Labels: labels}
}

// labelSet returns a copy of labels that an object gives to targets.
func (o *object) labelSet(field string, labels map[string]string) model.LabelSet {
	set := model.LabelSet{}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if !model.UTF8Validation.IsValidLabelName(name) {
			o.reject(field, "holds %q, which is no label name", name)
		}
		set[model.LabelName(name)] = model.LabelValue(labels[name])
	}
	return set
}

// ingressRules keep the ingresses that are meant and make their URLs the targets.
func (t *Translator) ingressRules(i *monitoringv1.ProbeTargetIngress) []*relabel.Config {
	return append(t.selected("ingress", &i.Selector),
		t.set("__param_target", "$1://$2$3", ingressURL, "__meta_kubernetes_ingress_scheme", "__address__", "__meta_kubernetes_ingress_path"),
		t.set("namespace", "$1", anything, "__meta_kubernetes_namespace"),
		t.set("ingress", "$1", anything, "__meta_kubernetes_ingress_name"),
		t.set("__tmp_ingress_address", "$1", anything, "__address__"),
	)
}

var hostName = regexp.MustCompile(`^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.)*[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?\.?$`)

// validProber tells whether s is a host or host:port. Anything else could make __address__
// point to another path of another server than the object seems to say.
func validProber(s string) bool {
	host := s
	if h, port, err := net.SplitHostPort(s); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	}
	_, err := netip.ParseAddr(host)
	return err == nil || len(host) <= 253 && hostName.MatchString(host)
}
