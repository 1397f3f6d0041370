package discovery

import (
	"slices"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/kube"
)

// The roles of kubernetes_sd_configs: what one target is made of.
const (
	RoleNode          = "node"
	RolePod           = "pod"
	RoleService       = "service"
	RoleEndpoints     = "endpoints"
	RoleEndpointSlice = "endpointslice"
	RoleIngress       = "ingress"
)

// KubernetesConfig is one element of kubernetes_sd_configs, as in Prometheus, of the cluster
// that Ingot runs in. Its keys api_server, kubeconfig_file and those of an HTTP client have
// no counterpart: all discovery shares the connection of the block kubernetes.
type KubernetesConfig struct {
	// Role is what one target is made of: pod, service, endpoints, endpointslice, ingress
	// or node. Role endpoints is served from endpoint slices, with the labels of endpoints.
	Role string `yaml:"role"`
	// Namespaces are those to look in. Default: all.
	Namespaces KubernetesNamespaces `yaml:"namespaces,omitempty"`
	// Selectors choose objects, one for each kind of object that the role reads. The watch is
	// narrowed by them where all jobs have the same. Default: all objects.
	Selectors []KubernetesSelector `yaml:"selectors,omitempty"`
	// AttachMetadata adds labels of related objects to each target.
	AttachMetadata AttachMetadata `yaml:"attach_metadata,omitempty"`

	// Only is a label selector of jobs that Ingot writes: for pods of pods, for ingresses of
	// ingresses, else of services. What it does not choose has no targets, not even ones for
	// relabelling to drop, so that a thousand jobs over the same objects cost each its own. It
	// says what rules of the job say too.
	Only string `yaml:"-"`
}

// KubernetesNamespaces is the block namespaces of kubernetes_sd_configs.
type KubernetesNamespaces struct {
	// OwnNamespace adds the namespace that Ingot runs in. Default false.
	OwnNamespace bool `yaml:"own_namespace,omitempty"`
	// Names are names of namespaces.
	Names []string `yaml:"names,omitempty"`
}

// KubernetesSelector is one element of selectors of kubernetes_sd_configs.
type KubernetesSelector struct {
	// Role is the kind of object to choose: for the role of the block itself, and for
	// endpoints and endpointslice also pod and service.
	Role string `yaml:"role"`
	// Label is a label selector such as app=web,tier in (a,b),!canary.
	Label string `yaml:"label,omitempty"`
	// Field is a field selector such as spec.nodeName=a. Known are metadata.name and
	// metadata.namespace, of pods also spec.nodeName, status.phase and status.podIP, of
	// services spec.clusterIP and spec.type.
	Field string `yaml:"field,omitempty"`
}

// AttachMetadata is the block attach_metadata of kubernetes_sd_configs.
type AttachMetadata struct {
	// Node adds the labels of the node to targets of the roles pod, endpoints and
	// endpointslice. Default false.
	Node bool `yaml:"node,omitempty"`
	// Namespace adds labels and annotations of the namespace to targets of every role but
	// node. Default false.
	Namespace bool `yaml:"namespace,omitempty"`
}

// Validate returns the problems of the block.
func (c KubernetesConfig) Validate() error {
	var ps config.Problems
	allowed := selectorRoles(c.Role)
	if allowed == nil {
		ps.Add("role", "must be one of pod, service, endpoints, endpointslice, ingress, node, is %q", c.Role)
		return ps.Err()
	}
	if _, err := kube.ParseSelector(c.Only); err != nil {
		ps.Merge("only", err)
	}
	for i, s := range c.Selectors {
		path := config.Index("selectors", i)
		if !slices.Contains(allowed, s.Role) {
			ps.Add(path+".role", "must be one of %s under role %s, is %q", strings.Join(allowed, ", "), c.Role, s.Role)
		}
		if slices.ContainsFunc(c.Selectors[:i], func(o KubernetesSelector) bool { return o.Role == s.Role }) {
			ps.Add(path+".role", "%s is there twice", s.Role)
		}
		if _, err := kube.ParseSelector(s.Label); err != nil {
			ps.Merge(path+".label", err)
		}
		fields, err := kube.ParseFieldSelector(s.Field)
		if err != nil {
			ps.Merge(path+".field", err)
		}
		for _, field := range fields.Fields() {
			if known := selectableFields(s.Role); !slices.Contains(known, field) {
				ps.Add(path+".field", "must be about %s, is about %q; choose by labels or by relabel_configs instead", strings.Join(known, ", "), field)
			}
		}
	}
	return ps.Err()
}

// selectorRoles returns the kinds of object that a role reads, nil for an unknown one.
func selectorRoles(role string) []string {
	switch role {
	case RoleNode, RoleService, RoleIngress:
		return []string{role}
	case RolePod:
		return []string{RolePod, RoleNode}
	case RoleEndpoints, RoleEndpointSlice:
		return []string{RolePod, RoleService, role}
	}
	return nil
}

// DNSConfig is one element of dns_sd_configs, as in Prometheus.
type DNSConfig struct {
	// Names are the DNS names to look up.
	Names []string `yaml:"names"`
	// Type is the type of record: SRV, A, AAAA, MX or NS. Default SRV.
	Type string `yaml:"type,omitempty"`
	// Port is the port of targets from records that have none, which is all but SRV.
	Port uint16 `yaml:"port,omitempty"`
	// RefreshInterval is how often the names are looked up. Default 30s.
	RefreshInterval config.Duration `yaml:"refresh_interval,omitempty"`
}

// DefaultDNSConfig returns the defaults of an element of dns_sd_configs.
func DefaultDNSConfig() DNSConfig {
	return DNSConfig{Type: "SRV", RefreshInterval: config.Duration(30 * time.Second)}
}

// UnmarshalYAML decodes onto the defaults.
func (c *DNSConfig) UnmarshalYAML(unmarshal func(any) error) error {
	*c = DefaultDNSConfig()
	type plain DNSConfig
	return unmarshal((*plain)(c))
}

// Validate returns the problems of the block.
func (c DNSConfig) Validate() error {
	var ps config.Problems
	if len(c.Names) == 0 || slices.Contains(c.Names, "") {
		ps.Add("names", "must list at least one name, and none that is empty")
	}
	switch strings.ToUpper(c.Type) {
	case "SRV":
	case "A", "AAAA", "MX", "NS":
		if c.Port == 0 {
			ps.Add("port", "must be set for records of type %s, which have none", strings.ToUpper(c.Type))
		}
	default:
		ps.Add("type", "must be one of SRV, A, AAAA, MX, NS, is %q", c.Type)
	}
	if c.RefreshInterval <= 0 {
		ps.Add("refresh_interval", "must be positive, is %s", c.RefreshInterval)
	}
	return ps.Err()
}
