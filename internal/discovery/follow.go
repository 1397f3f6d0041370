package discovery

import (
	"github.com/ingot-telemetry/ingot/internal/kube"
)

// link adds the objects whose targets may have changed since the last call.
type link func(changed map[kube.Key]bool)

// keys returns the objects that are there now.
func (s *Kubernetes) keys() []kube.Key {
	switch s.cfg.Role {
	case RoleNode:
		return keysOf(s, s.client.Nodes())
	case RolePod:
		return keysOf(s, s.client.PodDetails())
	case RoleService:
		return keysOf(s, s.client.Services())
	case RoleIngress:
		return keysOf(s, s.client.Ingresses())
	default:
		return keysOf(s, s.client.EndpointSlices())
	}
}

// keysOf returns the objects of a store in the namespaces of the source.
func keysOf[T any](s *Kubernetes, store *kube.Store[T]) []kube.Key {
	if len(s.namespaces) == 0 || s.cfg.Role == RoleNode {
		return store.Keys("", true)
	}
	var all []kube.Key
	for _, ns := range s.namespaces {
		all = append(all, store.Keys(ns, false)...)
	}
	return all
}

// follow begins to take note of changes, until end is called.
func (s *Kubernetes) follow(wake chan struct{}) (links []link, end func()) {
	c := s.client
	var ends []func()
	add := func(feed *kube.Feed, end func(), affected func(of, changed map[kube.Key]bool)) {
		ends = append(ends, end)
		links = append(links, func(changed map[kube.Key]bool) {
			if of := feed.Take(); len(of) > 0 {
				affected(of, changed)
			}
		})
	}
	own := func(feed *kube.Feed, end func()) {
		add(feed, end, func(of, changed map[kube.Key]bool) {
			for k := range of {
				changed[k] = true
			}
		})
	}
	switch s.cfg.Role {
	case RoleNode:
		own(c.Nodes().Follow(wake))
	case RolePod:
		own(c.PodDetails().Follow(wake))
	case RoleService:
		own(c.Services().Follow(wake))
	case RoleIngress:
		own(c.Ingresses().Follow(wake))
	default:
		own(c.EndpointSlices().Follow(wake))
		feed, end := c.Services().Follow(wake)
		add(feed, end, s.ofServices)
		feed, end = c.PodDetails().Follow(wake)
		add(feed, end, s.ofPods)
	}
	if s.attachesNodes() {
		feed, end := c.Nodes().Follow(wake)
		add(feed, end, s.ofNodes)
	}
	if s.cfg.AttachMetadata.Namespace && s.cfg.Role != RoleNode {
		feed, end := c.Namespaces().Follow(wake)
		add(feed, end, s.ofNamespaces)
	}
	return links, func() {
		for _, end := range ends {
			end()
		}
	}
}

// ofServices adds the slices of services.
func (s *Kubernetes) ofServices(services, changed map[kube.Key]bool) {
	seen := map[string]bool{}
	for svc := range services {
		if seen[svc.Namespace] {
			continue
		}
		seen[svc.Namespace] = true
		for _, k := range s.client.EndpointSlices().Keys(svc.Namespace, false) {
			if sl, ok := s.client.EndpointSlices().Get(k); ok && services[kube.Key{Namespace: k.Namespace, Name: sl.Labels.Get(serviceNameLabel)}] {
				changed[k] = true
			}
		}
	}
}

// ofPods adds the slices that have pods.
func (s *Kubernetes) ofPods(pods, changed map[kube.Key]bool) {
	for p := range pods {
		for _, k := range s.client.EndpointSlices().Users(p) {
			changed[k] = true
		}
	}
}

// ofNodes adds what is on nodes. Their labels and annotations seldom change.
func (s *Kubernetes) ofNodes(nodes, changed map[kube.Key]bool) {
	for _, k := range s.keys() {
		if s.cfg.Role == RolePod {
			if p, ok := s.client.PodDetails().Get(k); ok && nodes[kube.Key{Name: p.Node}] {
				changed[k] = true
			}
			continue
		}
		sl, ok := s.client.EndpointSlices().Get(k)
		if !ok {
			continue
		}
		for i := range sl.Endpoints {
			e := &sl.Endpoints[i]
			if nodes[kube.Key{Name: e.Node}] || e.TargetKind == "Node" && nodes[kube.Key{Name: e.Target.Name}] {
				changed[k] = true
				break
			}
		}
	}
}

// ofNamespaces adds what is in namespaces.
func (s *Kubernetes) ofNamespaces(namespaces, changed map[kube.Key]bool) {
	for _, k := range s.keys() {
		if namespaces[kube.Key{Name: k.Namespace}] {
			changed[k] = true
		}
	}
}
