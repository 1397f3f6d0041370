package promoperator

import (
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// scrapeConfig makes the job of a ScrapeConfig.
func (o *object) scrapeConfig(m *monitoringv1alpha1.ScrapeConfig) scrape.JobConfig {
	s := &m.Spec
	job := o.newJob(o.job)
	o.honor(&job, s.HonorLabels != nil && *s.HonorLabels, s.HonorTimestamps, s.TrackTimestampsStaleness)
	var interval, timeout monitoringv1.Duration
	if s.ScrapeInterval != nil {
		interval = *s.ScrapeInterval
	}
	if s.ScrapeTimeout != nil {
		timeout = *s.ScrapeTimeout
	}
	o.setTimes(&job, interval, timeout, "spec.scrapeInterval", "spec.scrapeTimeout")
	if s.MetricsPath != nil && *s.MetricsPath != "" {
		job.MetricsPath = *s.MetricsPath
	}
	job.Params = s.Params
	job.Scheme = o.scheme("spec.scheme", s.Scheme)
	job.EnableCompression = s.EnableCompression
	o.setNames(&job, s)
	job.HTTPClientConfig = o.httpClient(client{
		field: "spec", proxyField: "spec",
		authorization: s.Authorization, basicAuth: s.BasicAuth, oauth2: s.OAuth2, tls: s.TLSConfig, proxy: s.ProxyConfig,
		enableHTTP2: s.EnableHTTP2,
	}, o.class)
	o.setDiscovery(&job, s)

	job.RelabelConfigs = append(job.RelabelConfigs, o.class.RelabelConfigs...)
	if s.JobName != nil {
		job.RelabelConfigs = append(job.RelabelConfigs, o.set("job", *s.JobName, anything))
	}
	scheme := job.MetricNameValidationScheme
	if scheme == model.UnsetValidation {
		scheme = model.UTF8Validation
	}
	job.RelabelConfigs = append(job.RelabelConfigs, o.rules("spec.relabelings", s.RelabelConfigs, scheme)...)
	job.MetricRelabelConfigs = o.metricRules("spec.metricRelabelings", s.MetricRelabelConfigs, scheme)
	o.setLimits(&job, limits{
		s.SampleLimit, s.TargetLimit, s.LabelLimit, s.LabelNameLengthLimit, s.LabelValueLengthLimit, s.KeepDroppedTargets,
		s.BodySizeLimit, s.ScrapeProtocols, s.FallbackScrapeProtocol, s.ExtraScrapeMetrics, s.NativeHistogramConfig,
	})
	return job
}

// setNames gives a job the schemes of metric names.
func (o *object) setNames(job *scrape.JobConfig, s *monitoringv1alpha1.ScrapeConfigSpec) {
	if v := s.NameValidationScheme; v != nil {
		switch *v {
		case monitoringv1.UTF8NameValidationScheme:
			job.MetricNameValidationScheme = model.UTF8Validation
		case monitoringv1.LegacyNameValidationScheme:
			job.MetricNameValidationScheme = model.LegacyValidation
		default:
			o.reject("spec.nameValidationScheme", "must be UTF8 or Legacy, is %q", *v)
		}
	}
	if v := s.NameEscapingScheme; v != nil {
		switch *v {
		case monitoringv1.AllowUTF8NameEscapingScheme:
			job.MetricNameEscapingScheme = model.AllowUTF8
		case monitoringv1.UnderscoresNameEscapingScheme:
			job.MetricNameEscapingScheme = model.EscapeUnderscores
		case monitoringv1.DotsNameEscapingScheme:
			job.MetricNameEscapingScheme = model.EscapeDots
		case monitoringv1.ValuesNameEscapingScheme:
			job.MetricNameEscapingScheme = model.EscapeValues
		default:
			o.reject("spec.nameEscapingScheme", "must be AllowUTF8, Underscores, Dots or Values, is %q", *v)
		}
	}
}

// setDiscovery gives a job the discovery of its object. An object all of whose discovery is
// of kinds that Ingot does not have is rejected; one that has others too is used without.
func (o *object) setDiscovery(job *scrape.JobConfig, s *monitoringv1alpha1.ScrapeConfigSpec) {
	for i, c := range s.StaticConfigs {
		static := discovery.StaticConfig{Labels: o.labelSet(config.Index("spec.staticConfigs", i)+".labels", c.Labels)}
		for _, t := range c.Targets {
			static.Targets = append(static.Targets, string(t))
		}
		job.StaticConfigs = append(job.StaticConfigs, static)
	}
	for i, c := range s.FileSDConfigs {
		field := config.Index("spec.fileSDConfigs", i)
		if !o.cfg.ScrapeConfigs.FileDiscovery {
			o.reject(field, "reads files of Ingot's own pod, which operator_objects.scrape_configs.file_discovery does not allow")
		}
		file := discovery.FileConfig{RefreshInterval: o.refresh(field+".refreshInterval", c.RefreshInterval, 5*time.Minute)}
		for _, f := range c.Files {
			file.Files = append(file.Files, string(f))
		}
		o.problems.Merge(field, file.Validate())
		job.FileSDConfigs = append(job.FileSDConfigs, file)
	}
	for i := range s.HTTPSDConfigs {
		job.HTTPSDConfigs = append(job.HTTPSDConfigs, o.httpDiscovery(config.Index("spec.httpSDConfigs", i), &s.HTTPSDConfigs[i]))
	}
	for i := range s.DNSSDConfigs {
		job.DNSSDConfigs = append(job.DNSSDConfigs, o.dnsDiscovery(config.Index("spec.dnsSDConfigs", i), &s.DNSSDConfigs[i]))
	}
	for i := range s.KubernetesSDConfigs {
		job.KubernetesSDConfigs = append(job.KubernetesSDConfigs, o.kubernetesDiscovery(config.Index("spec.kubernetesSDConfigs", i), &s.KubernetesSDConfigs[i]))
	}
	carried := len(s.StaticConfigs)+len(s.FileSDConfigs)+len(s.HTTPSDConfigs)+len(s.DNSSDConfigs)+len(s.KubernetesSDConfigs) > 0
	others := otherDiscovery(s)
	for _, field := range others {
		const reason = "is a kind of discovery that Ingot does not have; it has staticConfigs, httpSDConfigs, kubernetesSDConfigs, dnsSDConfigs and fileSDConfigs"
		if carried {
			o.warn(field, reason+", and the job goes on without its targets")
		} else {
			o.reject(field, reason)
		}
	}
	if !carried && len(others) == 0 {
		o.warn("spec", "has no discovery, so the job has no targets")
	}
}

// otherDiscovery returns the fields of the discovery that Ingot does not have, clouds and the
// catalogues of other programs, as far as the object uses it.
func otherDiscovery(s *monitoringv1alpha1.ScrapeConfigSpec) []string {
	var fields []string
	for _, f := range []struct {
		name string
		n    int
	}{
		{"consulSDConfigs", len(s.ConsulSDConfigs)},
		{"ec2SDConfigs", len(s.EC2SDConfigs)},
		{"azureSDConfigs", len(s.AzureSDConfigs)},
		{"gceSDConfigs", len(s.GCESDConfigs)},
		{"openstackSDConfigs", len(s.OpenStackSDConfigs)},
		{"digitalOceanSDConfigs", len(s.DigitalOceanSDConfigs)},
		{"kumaSDConfigs", len(s.KumaSDConfigs)},
		{"eurekaSDConfigs", len(s.EurekaSDConfigs)},
		{"dockerSDConfigs", len(s.DockerSDConfigs)},
		{"linodeSDConfigs", len(s.LinodeSDConfigs)},
		{"hetznerSDConfigs", len(s.HetznerSDConfigs)},
		{"nomadSDConfigs", len(s.NomadSDConfigs)},
		{"dockerSwarmSDConfigs", len(s.DockerSwarmSDConfigs)},
		{"puppetDBSDConfigs", len(s.PuppetDBSDConfigs)},
		{"lightSailSDConfigs", len(s.LightSailSDConfigs)},
		{"ovhcloudSDConfigs", len(s.OVHCloudSDConfigs)},
		{"scalewaySDConfigs", len(s.ScalewaySDConfigs)},
		{"ionosSDConfigs", len(s.IonosSDConfigs)},
	} {
		if f.n > 0 {
			fields = append(fields, "spec."+f.name)
		}
	}
	return fields
}

func (o *object) httpDiscovery(field string, c *monitoringv1alpha1.HTTPSDConfig) discovery.HTTPConfig {
	h := discovery.HTTPConfig{
		URL:             string(c.URL),
		RefreshInterval: o.refresh(field+".refreshInterval", c.RefreshInterval, time.Minute),
		HTTPClientConfig: o.httpClient(client{
			field: field, proxyField: field,
			authorization: c.Authorization, basicAuth: c.BasicAuth, oauth2: c.OAuth2, tls: c.TLSConfig, proxy: c.ProxyConfig,
			followRedirects: c.FollowRedirects, enableHTTP2: c.EnableHTTP2,
		}, ScrapeClass{}),
	}
	if len(o.problems) == 0 {
		o.problems.Merge(field, h.Validate())
	}
	return h
}

func (o *object) dnsDiscovery(field string, c *monitoringv1alpha1.DNSSDConfig) discovery.DNSConfig {
	d := discovery.DefaultDNSConfig()
	d.Names = c.Names
	d.RefreshInterval = o.refresh(field+".refreshInterval", c.RefreshInterval, time.Duration(d.RefreshInterval))
	if c.Type != nil && *c.Type != "" {
		d.Type = string(*c.Type)
	}
	if c.Port != nil {
		if *c.Port < 0 || *c.Port > 65535 {
			o.reject(field+".port", "must be between 0 and 65535, is %d", *c.Port)
		} else {
			d.Port = uint16(*c.Port)
		}
	}
	o.problems.Merge(field, d.Validate())
	return d
}

func (o *object) kubernetesDiscovery(field string, c *monitoringv1alpha1.KubernetesSDConfig) discovery.KubernetesConfig {
	k := discovery.KubernetesConfig{Role: strings.ToLower(string(c.Role))}
	if c.APIServer != nil {
		o.reject(field+".apiServer", "names another API server, and Ingot only asks that of its own cluster")
	}
	own := o.httpClient(client{
		field: field, proxyField: field,
		authorization: c.Authorization, basicAuth: c.BasicAuth, oauth2: c.OAuth2, tls: c.TLSConfig, proxy: c.ProxyConfig,
		followRedirects: c.FollowRedirects, enableHTTP2: c.EnableHTTP2,
	}, ScrapeClass{})
	if !isDefaultClient(own) {
		o.warn(field, "has settings for requests to the API server, which are not used: Ingot asks with its own connection")
	}
	if n := c.Namespaces; n != nil {
		k.Namespaces = discovery.KubernetesNamespaces{OwnNamespace: n.IncludeOwnNamespace != nil && *n.IncludeOwnNamespace, Names: n.Names}
	}
	for _, s := range c.Selectors {
		selector := discovery.KubernetesSelector{Role: strings.ToLower(string(s.Role))}
		if s.Label != nil {
			selector.Label = *s.Label
		}
		if s.Field != nil {
			selector.Field = *s.Field
		}
		k.Selectors = append(k.Selectors, selector)
	}
	if c.AttachMetadata != nil && c.AttachMetadata.Node != nil && *c.AttachMetadata.Node {
		switch k.Role {
		case discovery.RolePod, discovery.RoleEndpoints, discovery.RoleEndpointSlice:
			k.AttachMetadata.Node = true
		default:
			o.warn(field+".attachMetadata", "is ignored: targets of role %s are on no node", c.Role)
		}
	}
	o.problems.Merge(field, k.Validate())
	return k
}

// isDefaultClient tells that nothing was set. Redirects and HTTP/2 change no answer.
func isDefaultClient(h promconfig.HTTPClientConfig) bool {
	return h.BasicAuth == nil && h.Authorization == nil && h.OAuth2 == nil && h.TLSConfig == (promconfig.TLSConfig{}) &&
		h.ProxyURL.URL == nil && h.NoProxy == "" && !h.ProxyFromEnvironment && len(h.ProxyConnectHeader) == 0
}
