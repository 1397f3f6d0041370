package promoperator

import (
	"slices"
	"strconv"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// serviceEndpoint makes the job of one endpoint of a ServiceMonitor.
func (o *object) serviceEndpoint(m *monitoringv1.ServiceMonitor, i int) scrape.JobConfig {
	ep, field := m.Spec.Endpoints[i], config.Index("spec.endpoints", i)
	job := o.newJob(o.job + "/" + strconv.Itoa(i))
	o.honor(&job, ep.HonorLabels, ep.HonorTimestamps, ep.TrackTimestampsStaleness)
	o.setTimes(&job, ep.Interval, ep.ScrapeTimeout, field+".interval", field+".scrapeTimeout")
	if ep.Path != "" {
		job.MetricsPath = ep.Path
	}
	job.Params = ep.Params
	job.Scheme = o.scheme(field+".scheme", ep.Scheme)

	var tls *monitoringv1.SafeTLSConfig
	files := map[string]string{"bearerTokenFile": ep.BearerTokenFile} //nolint:staticcheck // It is refused.
	if ep.TLSConfig != nil {
		tls = &ep.TLSConfig.SafeTLSConfig
		files["tlsConfig.caFile"] = ep.TLSConfig.CAFile
		files["tlsConfig.certFile"] = ep.TLSConfig.CertFile
		files["tlsConfig.keyFile"] = ep.TLSConfig.KeyFile
	}
	o.denyFiles(field, files)
	job.HTTPClientConfig = o.httpClient(endpointClient(field, ep.HTTPConfigWithoutTLS, tls, ep.ProxyConfig), o.class)

	role := o.serviceRole(m.Spec.ServiceDiscoveryRole)
	job.KubernetesSDConfigs = []discovery.KubernetesConfig{{
		Role:           role,
		Namespaces:     o.namespaces(m.Spec.NamespaceSelector),
		Selectors:      o.selectors(m.Spec.SelectorMechanism, &m.Spec.Selector, role, discovery.RoleService),
		AttachMetadata: o.attach(m.Spec.AttachMetadata),
		Only:           only(&m.Spec.Selector),
	}}
	job.RelabelConfigs = append(job.RelabelConfigs, o.serviceRules(m, &ep, field, role)...)
	job.RelabelConfigs = append(job.RelabelConfigs, o.class.RelabelConfigs...)
	own := o.rules(field+".relabelings", ep.RelabelConfigs, model.UTF8Validation)
	o.checkRole(field+".relabelings", own, role)
	job.RelabelConfigs = append(job.RelabelConfigs, own...)
	job.MetricRelabelConfigs = o.metricRules(field+".metricRelabelings", ep.MetricRelabelConfigs, model.UTF8Validation)
	s := &m.Spec
	o.setLimits(&job, limits{
		s.SampleLimit, s.TargetLimit, s.LabelLimit, s.LabelNameLengthLimit, s.LabelValueLengthLimit, s.KeepDroppedTargets,
		s.BodySizeLimit, s.ScrapeProtocols, s.FallbackScrapeProtocol, s.ExtraScrapeMetrics, s.NativeHistogramConfig,
	})
	return job
}

// serviceRole is endpoints or endpointslice.
func (o *object) serviceRole(r *monitoringv1.ServiceDiscoveryRole) string {
	if r == nil || *r == "" {
		return o.cfg.ServiceMonitors.Role
	}
	switch *r {
	case monitoringv1.EndpointsRole:
		return discovery.RoleEndpoints
	case monitoringv1.EndpointSliceRole:
	default:
		o.reject("spec.serviceDiscoveryRole", "must be Endpoints or EndpointSlice, is %q", *r)
	}
	return discovery.RoleEndpointSlice
}

// checkRole warns of rules that read labels of the other role, which are never there.
func (o *object) checkRole(field string, rules []*relabel.Config, role string) {
	const slices, endpoints = "__meta_kubernetes_endpointslice_", "__meta_kubernetes_endpoint_"
	other := slices
	if role == discovery.RoleEndpointSlice {
		other = endpoints
	}
	for i, r := range rules {
		for _, source := range r.SourceLabels {
			if strings.HasPrefix(string(source), other) {
				o.warn(config.Index(field, i), "reads %s, which targets found by the role %s do not have; set spec.serviceDiscoveryRole", source, role)
			}
		}
	}
}

// serviceRules are the rules between the name of the job and those of the object: which
// targets of the discovery are meant, and what they are called.
func (o *object) serviceRules(m *monitoringv1.ServiceMonitor, ep *monitoringv1.Endpoint, field, role string) []*relabel.Config {
	prefix := "__meta_kubernetes_endpoint_"
	if role == discovery.RoleEndpointSlice {
		prefix = "__meta_kubernetes_endpointslice_"
	}
	var rules []*relabel.Config
	if !bySelectors(m.Spec.SelectorMechanism) {
		rules = o.selected("service", &m.Spec.Selector)
	}
	switch {
	case ep.Port != "":
		rules = append(rules, o.keepPort(field+".port", ep.Port, prefix+"port_name"))
	case ep.TargetPort != nil:
		rules = append(rules, o.keepTargetPort(field+".targetPort", ep.TargetPort)...)
	}
	kind, name := prefix+"address_target_kind", prefix+"address_target_name"
	rules = append(rules,
		o.set("node", "$1", onNode, kind, name),
		o.set("pod", "$1", inPod, kind, name),
		o.set("namespace", "$1", anything, "__meta_kubernetes_namespace"),
		o.set("service", "$1", anything, "__meta_kubernetes_service_name"),
		o.set("pod", "$1", anything, "__meta_kubernetes_pod_name"),
		o.set("container", "$1", anything, "__meta_kubernetes_pod_container_name"),
	)
	if ep.FilterRunning == nil || *ep.FilterRunning {
		rules = append(rules, o.running())
	}
	rules = append(rules, o.labelRules("service", m.Spec.TargetLabels...)...)
	rules = append(rules, o.labelRules("pod", slices.Concat(m.Spec.PodTargetLabels, o.cfg.PodTargetLabels)...)...)
	rules = append(rules, o.set("job", "$1", anything, "__meta_kubernetes_service_name"))
	if m.Spec.JobLabel != "" {
		rules = append(rules, o.copyLabel("job", labelOf("service", m.Spec.JobLabel)))
	}
	return append(rules, o.endpointLabel(ep.Port, ep.TargetPort)...)
}

// podEndpoint makes the job of one endpoint of a PodMonitor.
func (o *object) podEndpoint(m *monitoringv1.PodMonitor, i int) scrape.JobConfig {
	ep, field := m.Spec.PodMetricsEndpoints[i], config.Index("spec.podMetricsEndpoints", i)
	job := o.newJob(o.job + "/" + strconv.Itoa(i))
	o.honor(&job, ep.HonorLabels, ep.HonorTimestamps, ep.TrackTimestampsStaleness)
	o.setTimes(&job, ep.Interval, ep.ScrapeTimeout, field+".interval", field+".scrapeTimeout")
	if ep.Path != "" {
		job.MetricsPath = ep.Path
	}
	job.Params = ep.Params
	job.Scheme = o.scheme(field+".scheme", ep.Scheme)
	job.HTTPClientConfig = o.httpClient(endpointClient(field, ep.HTTPConfigWithoutTLS, ep.TLSConfig, ep.ProxyConfig), o.class)
	job.KubernetesSDConfigs = []discovery.KubernetesConfig{{
		Role:           discovery.RolePod,
		Namespaces:     o.namespaces(m.Spec.NamespaceSelector),
		Selectors:      o.selectors(m.Spec.SelectorMechanism, &m.Spec.Selector, discovery.RolePod),
		AttachMetadata: o.attach(m.Spec.AttachMetadata),
		Only:           only(&m.Spec.Selector),
	}}
	job.RelabelConfigs = append(job.RelabelConfigs, o.podRules(m, &ep, field)...)
	job.RelabelConfigs = append(job.RelabelConfigs, o.class.RelabelConfigs...)
	job.RelabelConfigs = append(job.RelabelConfigs, o.rules(field+".relabelings", ep.RelabelConfigs, model.UTF8Validation)...)
	job.MetricRelabelConfigs = o.metricRules(field+".metricRelabelings", ep.MetricRelabelConfigs, model.UTF8Validation)
	s := &m.Spec
	o.setLimits(&job, limits{
		s.SampleLimit, s.TargetLimit, s.LabelLimit, s.LabelNameLengthLimit, s.LabelValueLengthLimit, s.KeepDroppedTargets,
		s.BodySizeLimit, s.ScrapeProtocols, s.FallbackScrapeProtocol, s.ExtraScrapeMetrics, s.NativeHistogramConfig,
	})
	return job
}

// podRules are for pods what serviceRules are for services.
func (o *object) podRules(m *monitoringv1.PodMonitor, ep *monitoringv1.PodMetricsEndpoint, field string) []*relabel.Config {
	var rules []*relabel.Config
	if ep.FilterRunning == nil || *ep.FilterRunning {
		rules = append(rules, o.running())
	}
	if !bySelectors(m.Spec.SelectorMechanism) {
		rules = append(rules, o.selected("pod", &m.Spec.Selector)...)
	}
	port, target := "", ep.TargetPort //nolint:staticcheck // Deprecated in the operator, and still in use.
	if ep.Port != nil {
		port = *ep.Port
	}
	switch {
	case port != "":
		rules = append(rules, o.keepPort(field+".port", port, "__meta_kubernetes_pod_container_port_name"))
	case ep.PortNumber != nil && *ep.PortNumber != 0:
		rules = append(rules, o.keep(strconv.Itoa(int(*ep.PortNumber)), "__meta_kubernetes_pod_container_port_number"))
	case target != nil:
		rules = append(rules, o.keepTargetPort(field+".targetPort", target)...)
	}
	rules = append(rules,
		o.set("namespace", "$1", anything, "__meta_kubernetes_namespace"),
		o.set("container", "$1", anything, "__meta_kubernetes_pod_container_name"),
		o.set("pod", "$1", anything, "__meta_kubernetes_pod_name"),
	)
	rules = append(rules, o.labelRules("pod", slices.Concat(m.Spec.PodTargetLabels, o.cfg.PodTargetLabels)...)...)
	rules = append(rules, o.set("job", m.Namespace+"/"+m.Name, anything))
	if m.Spec.JobLabel != "" {
		rules = append(rules, o.copyLabel("job", labelOf("pod", m.Spec.JobLabel)))
	}
	return append(rules, o.endpointLabel(port, target)...)
}

// keepTargetPort keeps targets of containers by the name or the number of a port.
func (o *object) keepTargetPort(field string, port *intstr.IntOrString) []*relabel.Config {
	switch {
	case port.StrVal != "":
		return []*relabel.Config{o.keepPort(field, port.StrVal, "__meta_kubernetes_pod_container_port_name")}
	case port.IntVal != 0:
		return []*relabel.Config{o.keep(strconv.Itoa(int(port.IntVal)), "__meta_kubernetes_pod_container_port_number")}
	}
	return nil
}

// endpointLabel names the endpoint after its port.
func (t *Translator) endpointLabel(port string, target *intstr.IntOrString) []*relabel.Config {
	if port == "" && target != nil {
		port = target.String()
	}
	if port == "" {
		return nil
	}
	return []*relabel.Config{t.set("endpoint", port, anything)}
}

// bySelectors tells that the API server selects the objects, and no rules do.
func bySelectors(m *monitoringv1.SelectorMechanism) bool {
	return m != nil && *m == monitoringv1.SelectorMechanismRole
}

// only is a selector as text, empty for one that is rejected elsewhere.
func only(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || selector.Empty() {
		return ""
	}
	return selector.String()
}

// selectors are what the API server chooses objects of the roles by.
func (o *object) selectors(m *monitoringv1.SelectorMechanism, s *metav1.LabelSelector, roles ...string) []discovery.KubernetesSelector {
	if !bySelectors(m) {
		if m != nil && *m != "" && *m != monitoringv1.SelectorMechanismRelabel {
			o.reject("spec.selectorMechanism", "must be RelabelConfig or RoleSelector, is %q", *m)
		}
		return nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil // Rejected where all selectors are checked.
	}
	var out []discovery.KubernetesSelector
	for _, role := range roles {
		out = append(out, discovery.KubernetesSelector{Role: role, Label: selector.String()})
	}
	return out
}
