package kube

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ingot-telemetry/ingot/internal/model"
)

const (
	objectAccept = "application/vnd.kubernetes.protobuf,application/json"

	corePath       = "/api/v1"
	discoveryPath  = "/apis/discovery.k8s.io/v1"
	networkingPath = "/apis/networking.k8s.io/v1"
)

// Meta is the name, labels and annotations of an object; both sets may have empty values, and
// are in memory that objects with the same ones share. Of the annotations kubectl's
// last-applied-configuration is left out: it is a second copy of the object.
type Meta struct {
	Key
	Labels, Annotations model.Labels
}

// PodDetail is what is known of a pod of the cluster to reach its ports.
type PodDetail struct {
	Meta
	UID string
	// IP, HostIP and Node are empty until the pod has them. Phase is such as Running. Ready is
	// True, False, Unknown, or empty without that condition.
	IP, HostIP, Node, Phase, Ready string
	Owner                          Owner
	// Containers are in the order of the object, those for the start last.
	Containers []Container
}

// Container is a container of a pod. ID is empty until it has run.
type Container struct {
	Name, Image, ID string
	Init            bool
	Ports           []ContainerPort
}

// ContainerPort is a port that a container declares. Name may be empty.
type ContainerPort struct {
	Name, Protocol string
	Number         int32
}

// Service is what is known of a service.
type Service struct {
	Meta
	Type, ClusterIP, ExternalName, LoadBalancerIP string
	Ports                                         []ContainerPort
	// PrimaryFamily is IPv4 or IPv6 for a service that is to have both, else empty.
	PrimaryFamily string
}

// EndpointSlice is some of the endpoints of a service.
type EndpointSlice struct {
	Meta
	// AddressType is IPv4, IPv6 or FQDN.
	AddressType string
	Ports       []SlicePort
	Endpoints   []Endpoint
}

// SlicePort is a port of all endpoints of a slice. Number is negative where none is given.
type SlicePort struct {
	Name, Protocol, AppProtocol string
	Number                      int32
}

// Endpoint is a pod, a node or a machine behind a service.
type Endpoint struct {
	Addresses []string
	// Ready, Serving and Terminating are true, false or empty.
	Ready, Serving, Terminating string
	Hostname, Node, Zone        string
	// TargetKind is empty when the endpoint does not say what it is.
	TargetKind string
	Target     Key
	Topology   model.Labels
}

// Ingress is what is known of an ingress. Class is empty without one.
type Ingress struct {
	Meta
	Class    string
	TLSHosts []string
	Rules    []IngressRule
}

// IngressRule is one host of an ingress and its paths; Paths is nil when the rule has none,
// which means all.
type IngressRule struct {
	Host  string
	Paths []string
}

func metaOf(o metav1.Object) Meta {
	return Meta{
		Key:         Key{intern(o.GetNamespace()), intern(o.GetName())},
		Labels:      setOf(o.GetLabels()),
		Annotations: setOf(o.GetAnnotations()),
	}
}

// setOf returns labels or annotations in the order of their names, with empty values.
func setOf(m map[string]string) model.Labels {
	if len(m) == 0 {
		return ""
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		if k != lastAppliedAnnotation {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var wire []byte
	for _, k := range keys {
		wire = model.AppendLabel(wire, k, m[k])
	}
	return model.Labels(intern(string(wire)))
}

func wrongType(kind string, obj any) error {
	return fmt.Errorf("read one of %s: the API server sent a %T", kind, obj)
}

func podDetailKind() kindOf[PodDetail] {
	return kindOf[PodDetail]{
		resource: resource{name: "cluster_pods", kind: "pods", path: corePath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *PodDetail, error) {
			o, ok := obj.(*corev1.Pod)
			if !ok {
				return Key{}, nil, wrongType("pods", obj)
			}
			p := &PodDetail{
				Meta:   metaOf(o),
				UID:    strings.Clone(string(o.UID)),
				IP:     intern(o.Status.PodIP),
				HostIP: intern(o.Status.HostIP),
				Node:   intern(o.Spec.NodeName),
				Phase:  intern(string(o.Status.Phase)),
			}
			for _, c := range o.Status.Conditions {
				if c.Type == corev1.PodReady {
					p.Ready = intern(string(c.Status))
					break
				}
			}
			if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
				p.Owner = Owner{intern(ref.Kind), intern(ref.Name)}
			}
			p.Containers = slices.Grow(p.Containers, len(o.Spec.Containers)+len(o.Spec.InitContainers))
			p.addContainers(o.Spec.Containers, o.Status.ContainerStatuses, false)
			p.addContainers(o.Spec.InitContainers, o.Status.InitContainerStatuses, true)
			return p.Key, p, nil
		},
	}
}

func (p *PodDetail) addContainers(containers []corev1.Container, states []corev1.ContainerStatus, start bool) {
	for i := range containers {
		c := Container{Name: intern(containers[i].Name), Image: intern(containers[i].Image), Init: start}
		if n := slices.IndexFunc(states, func(s corev1.ContainerStatus) bool { return s.Name == c.Name }); n >= 0 {
			c.ID = strings.Clone(states[n].ContainerID)
		}
		for _, port := range containers[i].Ports {
			c.Ports = append(c.Ports, ContainerPort{intern(port.Name), intern(string(port.Protocol)), port.ContainerPort})
		}
		c.Ports = slices.Clip(c.Ports)
		p.Containers = append(p.Containers, c)
	}
}

func serviceKind() kindOf[Service] {
	return kindOf[Service]{
		resource: resource{name: "services", kind: "services", path: corePath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *Service, error) {
			o, ok := obj.(*corev1.Service)
			if !ok {
				return Key{}, nil, wrongType("services", obj)
			}
			s := &Service{
				Meta:           metaOf(o),
				Type:           intern(string(o.Spec.Type)),
				ClusterIP:      strings.Clone(o.Spec.ClusterIP),
				ExternalName:   strings.Clone(o.Spec.ExternalName),
				LoadBalancerIP: strings.Clone(o.Spec.LoadBalancerIP),
			}
			for _, port := range o.Spec.Ports {
				s.Ports = append(s.Ports, ContainerPort{intern(port.Name), intern(string(port.Protocol)), port.Port})
			}
			if p := o.Spec.IPFamilyPolicy; p != nil && *p != corev1.IPFamilyPolicySingleStack && len(o.Spec.IPFamilies) > 0 {
				s.PrimaryFamily = intern(string(o.Spec.IPFamilies[0]))
			}
			return s.Key, s, nil
		},
	}
}

func endpointSliceKind() kindOf[EndpointSlice] {
	return kindOf[EndpointSlice]{
		resource: resource{name: "endpointslices", kind: "endpointslices", group: discoveryv1.GroupName, path: discoveryPath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *EndpointSlice, error) {
			o, ok := obj.(*discoveryv1.EndpointSlice)
			if !ok {
				return Key{}, nil, wrongType("endpointslices", obj)
			}
			s := &EndpointSlice{Meta: metaOf(o), AddressType: intern(string(o.AddressType))}
			for _, p := range o.Ports {
				port := SlicePort{Name: text(p.Name), Protocol: text(p.Protocol), AppProtocol: text(p.AppProtocol), Number: -1}
				if p.Port != nil {
					port.Number = *p.Port
				}
				s.Ports = append(s.Ports, port)
			}
			s.Endpoints = make([]Endpoint, 0, len(o.Endpoints))
			for i := range o.Endpoints {
				s.Endpoints = append(s.Endpoints, endpointOf(&o.Endpoints[i]))
			}
			return s.Key, s, nil
		},
		refs: func(s *EndpointSlice) []Key {
			var pods []Key
			for i := range s.Endpoints {
				if e := &s.Endpoints[i]; e.TargetKind == "Pod" {
					pods = append(pods, e.Target)
				}
			}
			return pods
		},
	}
}

func endpointOf(from *discoveryv1.Endpoint) Endpoint {
	e := Endpoint{
		Ready:       boolText(from.Conditions.Ready),
		Serving:     boolText(from.Conditions.Serving),
		Terminating: boolText(from.Conditions.Terminating),
		Hostname:    text(from.Hostname),
		Node:        text(from.NodeName),
		Zone:        text(from.Zone),
		Topology:    setOf(from.DeprecatedTopology),
	}
	for _, a := range from.Addresses {
		e.Addresses = append(e.Addresses, intern(a)) // Most are addresses of pods too.
	}
	if ref := from.TargetRef; ref != nil {
		e.TargetKind, e.Target = intern(ref.Kind), Key{intern(ref.Namespace), intern(ref.Name)}
	}
	return e
}

func text[S ~string](s *S) string {
	if s == nil {
		return ""
	}
	return intern(string(*s))
}

func boolText(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "true"
	default:
		return "false"
	}
}

func ingressKind() kindOf[Ingress] {
	return kindOf[Ingress]{
		resource: resource{name: "ingresses", kind: "ingresses", group: networkingv1.GroupName, path: networkingPath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *Ingress, error) {
			o, ok := obj.(*networkingv1.Ingress)
			if !ok {
				return Key{}, nil, wrongType("ingresses", obj)
			}
			in := &Ingress{Meta: metaOf(o), Class: text(o.Spec.IngressClassName)}
			for _, tls := range o.Spec.TLS {
				for _, host := range tls.Hosts {
					in.TLSHosts = append(in.TLSHosts, strings.Clone(host))
				}
			}
			for _, r := range o.Spec.Rules {
				rule := IngressRule{Host: strings.Clone(r.Host)}
				if r.HTTP != nil {
					rule.Paths = make([]string, 0, len(r.HTTP.Paths))
					for _, p := range r.HTTP.Paths {
						rule.Paths = append(rule.Paths, strings.Clone(p.Path))
					}
				}
				in.Rules = append(in.Rules, rule)
			}
			return in.Key, in, nil
		},
	}
}

// namespaceKind asks for the metadata of namespaces alone: there is hardly anything else.
func namespaceKind() kindOf[Meta] {
	return kindOf[Meta]{
		resource: resource{name: "namespaces", kind: "namespaces", path: corePath, accept: podAccept, acceptList: podListAccept},
		from: func(obj runtime.Object) (Key, *Meta, error) {
			o, ok := obj.(*metav1.PartialObjectMetadata)
			if !ok {
				return Key{}, nil, wrongType("namespaces", obj)
			}
			m := metaOf(o)
			return m.Key, &m, nil
		},
	}
}
