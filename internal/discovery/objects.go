package discovery

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

// What follows writes the labels of targets as package discovery/kubernetes of Prometheus does,
// whose order of precedence is that of the calls here.

const addressLabel = "__address__"

// podTargets returns a target for each port of each container, and for a container without
// ports one without.
func (s *clusterRun) podTargets(k kube.Key) []labels.Labels {
	p, ok := s.pod(k)
	if !ok || p.IP == "" || !s.only.MatchesSet(p.Labels) {
		return nil
	}
	m := s.labels
	m.reset()
	s.podLabels(p)
	m.set("namespace", p.Namespace)
	if s.cfg.AttachMetadata.Node {
		n, ok := s.node(p.Node)
		if !ok {
			return nil // As in Prometheus, whose selectors of nodes so choose pods.
		}
		m.object("node", n.Meta)
	}
	s.namespaceLabels(p.Namespace)
	m.group()
	var targets []labels.Labels
	for i := range p.Containers {
		c := &p.Containers[i]
		for _, port := range portsOrNone(c) {
			address := p.IP
			if port != nil {
				number := strconv.Itoa(int(port.Number))
				address = net.JoinHostPort(p.IP, number)
				m.set("pod_container_port_number", number)
				m.set("pod_container_port_name", port.Name)
				m.set("pod_container_port_protocol", port.Protocol)
			}
			m.plain(addressLabel, address)
			m.set("pod_container_name", c.Name)
			m.set("pod_container_id", c.ID)
			m.set("pod_container_image", c.Image)
			m.set("pod_container_init", strconv.FormatBool(c.Init))
			targets = append(targets, m.target())
		}
	}
	return targets
}

func portsOrNone(c *kube.Container) []*kube.ContainerPort {
	if len(c.Ports) == 0 {
		return []*kube.ContainerPort{nil}
	}
	all := make([]*kube.ContainerPort, len(c.Ports))
	for i := range c.Ports {
		all[i] = &c.Ports[i]
	}
	return all
}

// podLabels sets what is known of a pod.
func (s *clusterRun) podLabels(p *kube.PodDetail) {
	m := s.labels
	m.set("pod_ip", p.IP)
	ready := "unknown"
	if p.Ready != "" {
		ready = strings.ToLower(p.Ready)
	}
	m.set("pod_ready", ready)
	m.set("pod_phase", p.Phase)
	m.set("pod_node_name", p.Node)
	m.set("pod_host_ip", p.HostIP)
	m.set("pod_uid", p.UID)
	m.object("pod", p.Meta)
	m.set("pod_controller_kind", p.Owner.Kind)
	m.set("pod_controller_name", p.Owner.Name)
}

func (s *clusterRun) namespaceLabels(namespace string) {
	if !s.cfg.AttachMetadata.Namespace {
		return
	}
	if n, ok := s.client.Namespaces().Get(kube.Key{Name: namespace}); ok {
		s.labels.sets("namespace", *n)
	}
}

// nodeLabels sets what is attached of a node, if that is wanted and it is known.
func (s *clusterRun) nodeLabels(name string) {
	if !s.cfg.AttachMetadata.Node {
		return
	}
	if n, ok := s.node(name); ok {
		s.labels.object("node", n.Meta)
	}
}

// serviceTargets returns a target for each port of a service, under the name of the service.
func (s *clusterRun) serviceTargets(k kube.Key) []labels.Labels {
	svc, ok := s.service(k)
	if !ok || !s.only.MatchesSet(svc.Labels) {
		return nil
	}
	m := s.labels
	m.reset()
	m.set("namespace", svc.Namespace)
	m.object("service", svc.Meta)
	s.namespaceLabels(svc.Namespace)
	m.group()
	targets := make([]labels.Labels, 0, len(svc.Ports))
	for _, port := range svc.Ports {
		number := strconv.Itoa(int(port.Number))
		m.plain(addressLabel, net.JoinHostPort(svc.Name+"."+svc.Namespace+".svc", number))
		m.set("service_port_name", port.Name)
		m.set("service_port_number", number)
		m.set("service_port_protocol", port.Protocol)
		m.set("service_type", svc.Type)
		switch svc.Type {
		case "ExternalName":
			m.set("service_external_name", svc.ExternalName)
		case "LoadBalancer":
			m.set("service_loadbalancer_ip", svc.LoadBalancerIP)
			m.set("service_cluster_ip", svc.ClusterIP)
		default:
			m.set("service_cluster_ip", svc.ClusterIP)
		}
		targets = append(targets, m.target())
	}
	return targets
}

// ingressTargets returns a target for each path of each rule.
func (s *clusterRun) ingressTargets(k kube.Key) []labels.Labels {
	in, ok := s.client.Ingresses().Get(k)
	if !ok || !s.choose[RoleIngress].chooses(in.Meta, nil) || !s.only.MatchesSet(in.Labels) {
		return nil
	}
	m := s.labels
	m.reset()
	m.set("namespace", in.Namespace)
	m.set("ingress_class_name", in.Class)
	m.object("ingress", in.Meta)
	s.namespaceLabels(in.Namespace)
	m.group()
	var targets []labels.Labels
	for _, rule := range in.Rules {
		scheme := "http"
		if slices.ContainsFunc(in.TLSHosts, func(pattern string) bool { return matchesHost(pattern, rule.Host) }) {
			scheme = "https"
		}
		paths := rule.Paths
		if paths == nil {
			paths = []string{""}
		}
		for _, path := range paths {
			if path == "" {
				path = "/"
			}
			m.plain(addressLabel, rule.Host)
			m.set("ingress_scheme", scheme)
			m.set("ingress_host", rule.Host)
			m.set("ingress_path", path)
			targets = append(targets, m.target())
		}
	}
	return targets
}

// matchesHost tells whether a host is one of a pattern, whose first part may be a * for any
// one part.
func matchesHost(pattern, host string) bool {
	if pattern == host {
		return true
	}
	rest, ok := strings.CutPrefix(pattern, "*.")
	if !ok {
		return false
	}
	_, tail, ok := strings.Cut(host, ".")
	return ok && tail == rest
}
