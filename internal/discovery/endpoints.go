package discovery

import (
	"net"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// serviceNameLabel is the label by which a slice says whose endpoints it has.
const serviceNameLabel = "kubernetes.io/service-name"

// seenPod is a pod that a slice has named, and the ports of the slice that it was named with.
type seenPod struct {
	pod   *kube.PodDetail
	ports []int32
}

// sliceTargets returns a target for each address and port of a slice, and one for each port
// that the pods behind it declare and the slice does not have. Of a service with addresses of
// both families only those of the first one count, as in Prometheus.
//
// Role endpoints is served from slices too, since the API of endpoints is deprecated and cut
// off at a thousand addresses: with the labels that an object of that kind leads to, except
// that labels and annotations of the object are those of the slice but for what makes it one.
func (s *clusterRun) sliceTargets(k kube.Key) []labels.Labels {
	sl, ok := s.client.EndpointSlices().Get(k)
	if !ok || !s.chooses(sl) {
		return nil
	}
	old := s.cfg.Role == RoleEndpoints
	m := s.labels
	m.reset()
	name := sl.Labels.Get(serviceNameLabel)
	if old && (name == "" || sl.AddressType == "FQDN") {
		return nil
	}
	m.set("namespace", sl.Namespace)
	if !old {
		m.set("endpointslice_address_type", sl.AddressType)
		m.object("endpointslice", sl.Meta)
	}
	var ofService model.Labels
	if name != "" {
		if svc, ok := s.service(kube.Key{Namespace: sl.Namespace, Name: name}); ok {
			ofService = svc.Labels
			if svc.PrimaryFamily != "" && svc.PrimaryFamily != sl.AddressType {
				return nil
			}
			m.object("service", svc.Meta)
		}
	}
	if !s.only.MatchesSet(ofService) {
		return nil
	}
	if old {
		m.object("endpoints", asEndpoints(sl, name))
	}
	s.namespaceLabels(sl.Namespace)
	m.group()
	var targets []labels.Labels
	seen := map[kube.Key]*seenPod{}
	for i := range sl.Endpoints {
		e := &sl.Endpoints[i]
		if old && e.Terminating == "true" && e.Ready != "true" {
			continue // The controller leaves those out of the older object.
		}
		for j := range sl.Ports {
			for _, address := range e.Addresses {
				targets = append(targets, s.endpointTarget(e, &sl.Ports[j], address, seen))
			}
		}
	}
	for _, p := range seen {
		targets = s.otherPorts(targets, p)
	}
	return targets
}

// chooses tells whether the selector of the role chooses a sl.
func (s *Kubernetes) chooses(sl *kube.EndpointSlice) bool {
	meta := sl.Meta
	if s.cfg.Role == RoleEndpoints {
		meta.Name = sl.Labels.Get(serviceNameLabel)
	}
	return s.choose[s.cfg.Role].chooses(meta, nil)
}

// asEndpoints returns what the object of kind Endpoints would have that a slice comes from.
func asEndpoints(sl *kube.EndpointSlice, name string) kube.Meta {
	var own []byte
	for k, _, raw, rest, ok := sl.Labels.Next(); ok; k, _, raw, rest, ok = rest.Next() {
		if k != serviceNameLabel && k != "endpointslice.kubernetes.io/managed-by" {
			own = append(own, raw...)
		}
	}
	return kube.Meta{Key: kube.Key{Namespace: sl.Namespace, Name: name}, Labels: model.Labels(own), Annotations: sl.Annotations}
}

// endpointTarget returns the target of one address and port.
func (s *clusterRun) endpointTarget(e *kube.Endpoint, port *kube.SlicePort, address string, seen map[kube.Key]*seenPod) labels.Labels {
	m := s.labels
	if port.Number >= 0 {
		address = net.JoinHostPort(address, strconv.Itoa(int(port.Number)))
	}
	m.plain(addressLabel, address)
	if s.cfg.Role == RoleEndpoints {
		s.endpointLabels(e, port)
	} else {
		s.sliceLabels(e, port)
	}
	p, ok := s.podOf(e)
	if !ok {
		return m.target()
	}
	s.podLabels(p)
	number := strconv.Itoa(int(port.Number))
	for i := range p.Containers {
		c := &p.Containers[i]
		for _, own := range c.Ports {
			if own.Number != port.Number {
				continue
			}
			if s.cfg.Role == RoleEndpoints {
				own.Protocol = port.Protocol
			}
			s.containerLabels(c, own, number)
			break
		}
	}
	if seen[p.Key] == nil {
		seen[p.Key] = &seenPod{pod: p}
	}
	seen[p.Key].ports = append(seen[p.Key].ports, port.Number)
	return m.target()
}

func (s *clusterRun) sliceLabels(e *kube.Endpoint, port *kube.SlicePort) {
	m := s.labels
	m.set("endpointslice_port_name", port.Name)
	m.set("endpointslice_port_protocol", port.Protocol)
	if port.Number >= 0 {
		m.set("endpointslice_port", strconv.Itoa(int(port.Number)))
	}
	m.set("endpointslice_port_app_protocol", port.AppProtocol)
	m.set("endpointslice_endpoint_conditions_ready", e.Ready)
	m.set("endpointslice_endpoint_conditions_serving", e.Serving)
	m.set("endpointslice_endpoint_conditions_terminating", e.Terminating)
	m.set("endpointslice_endpoint_hostname", e.Hostname)
	m.set("endpointslice_address_target_kind", e.TargetKind)
	m.set("endpointslice_address_target_name", e.Target.Name)
	m.set("endpointslice_endpoint_node_name", e.Node)
	m.set("endpointslice_endpoint_zone", e.Zone)
	for k, v, _, rest, ok := e.Topology.Next(); ok; k, v, _, rest, ok = rest.Next() {
		m.set("endpointslice_endpoint_topology_"+model.SanitizeName(k), v)
		m.set("endpointslice_endpoint_topology_present_"+model.SanitizeName(k), "true")
	}
	if e.TargetKind == "Node" {
		s.nodeLabels(e.Target.Name)
	} else {
		s.nodeLabels(e.Node)
	}
}

func (s *clusterRun) endpointLabels(e *kube.Endpoint, port *kube.SlicePort) {
	m := s.labels
	m.set("endpoint_port_name", port.Name)
	m.set("endpoint_port_protocol", port.Protocol)
	m.set("endpoint_ready", strconv.FormatBool(e.Ready != "false"))
	m.set("endpoint_address_target_kind", e.TargetKind)
	m.set("endpoint_address_target_name", e.Target.Name)
	m.set("endpoint_node_name", e.Node)
	m.set("endpoint_hostname", e.Hostname)
	if e.Node == "" && e.TargetKind == "Node" {
		s.nodeLabels(e.Target.Name)
	} else {
		s.nodeLabels(e.Node)
	}
}

// podOf returns the pod that an endpoint is, if it is one that is known.
func (s *Kubernetes) podOf(e *kube.Endpoint) (*kube.PodDetail, bool) {
	if e.TargetKind != "Pod" {
		return nil, false
	}
	return s.pod(e.Target)
}

func (s *clusterRun) containerLabels(c *kube.Container, port kube.ContainerPort, number string) {
	m := s.labels
	m.set("pod_container_name", c.Name)
	m.set("pod_container_image", c.Image)
	m.set("pod_container_port_name", port.Name)
	m.set("pod_container_port_number", number)
	m.set("pod_container_port_protocol", port.Protocol)
	m.set("pod_container_init", strconv.FormatBool(c.Init))
}

// otherPorts appends targets for ports of a pod's containers that the service does not have.
func (s *clusterRun) otherPorts(targets []labels.Labels, p *seenPod) []labels.Labels {
	if p.pod.IP == "" {
		return targets
	}
	for i := range p.pod.Containers {
		c := &p.pod.Containers[i]
		for _, port := range c.Ports {
			if slices.Contains(p.ports, port.Number) {
				continue
			}
			number := strconv.Itoa(int(port.Number))
			s.labels.plain(addressLabel, net.JoinHostPort(p.pod.IP, number))
			s.containerLabels(c, port, number)
			s.podLabels(p.pod)
			targets = append(targets, s.labels.target())
		}
	}
	return targets
}
