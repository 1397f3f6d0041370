package discovery

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/kube"
)

const (
	// objectPause is the shortest time between two looks at what has changed, so that an
	// object that changes all the time costs one look a second.
	objectPause = time.Second
	// groupsAtOnce bounds how many groups are made before the receiver takes them, which
	// keeps what it does not need of them from piling up.
	groupsAtOnce = 256
)

// Kubernetes is the source of targets that are made of the objects of a cluster, as
// kubernetes_sd_configs of Prometheus. All of them share the stores of one client; what is
// chosen by namespaces and selectors is chosen here.
type Kubernetes struct {
	cfg        KubernetesConfig
	client     *kube.Client
	namespaces []string // Sorted; empty means all.
	choose     map[string]chooser
	only       kube.Selector
	stores     []kube.Shared // Those that the targets depend on.
}

// chooser is the selector for one kind of object.
type chooser struct {
	labels kube.Selector
	fields kube.FieldSelector
}

// chooses tells whether an object is chosen. get returns fields other than those of the
// metadata; it may be nil where there are none.
func (c chooser) chooses(o kube.Meta, get func(string) string) bool {
	return c.labels.MatchesSet(o.Labels) && c.fields.Matches(func(field string) string {
		switch {
		case field == "metadata.name":
			return o.Name
		case field == "metadata.namespace":
			return o.Namespace
		case get != nil:
			return get(field)
		}
		return ""
	})
}

// NewKubernetes returns the source for one kubernetes_sd_configs block that has passed Validate,
// and tells the stores of client, which somebody else runs, what it needs.
func NewKubernetes(cfg KubernetesConfig, client *kube.Client) (*Kubernetes, error) {
	s := &Kubernetes{cfg: cfg, client: client, namespaces: slices.Clone(cfg.Namespaces.Names), choose: map[string]chooser{}}
	if cfg.Namespaces.OwnNamespace {
		own, err := client.Namespace()
		if err != nil {
			return nil, err
		}
		s.namespaces = append(s.namespaces, own)
	}
	var err error
	if s.only, err = kube.ParseSelector(cfg.Only); err != nil {
		return nil, err
	}
	slices.Sort(s.namespaces)
	s.namespaces = slices.Compact(s.namespaces)
	scopes := map[string]kube.Scope{}
	for _, role := range []string{RoleNode, RolePod, RoleService, RoleEndpoints, RoleEndpointSlice, RoleIngress} {
		scopes[role] = kube.Scope{Namespaces: s.namespaces}
	}
	scopes[RoleNode] = kube.Scope{}
	for _, sel := range cfg.Selectors {
		byLabel, err := kube.ParseSelector(sel.Label)
		if err != nil {
			return nil, err
		}
		byField, err := kube.ParseFieldSelector(sel.Field)
		if err != nil {
			return nil, err
		}
		s.choose[sel.Role] = chooser{byLabel, byField}
		scope := scopes[sel.Role]
		scope.Label, scope.Field = sel.Label, sel.Field
		if sel.Role == RoleEndpoints {
			scope.Field = "" // Slices have other names.
		}
		scopes[sel.Role] = scope
	}
	s.need(scopes)
	return s, nil
}

func needs[T any](s *Kubernetes, store *kube.Store[T], scope kube.Scope) {
	store.Need(scope)
	s.stores = append(s.stores, store)
}

// need tells the stores what is needed of them.
func (s *Kubernetes) need(scopes map[string]kube.Scope) {
	c, role := s.client, s.cfg.Role
	switch role {
	case RoleNode:
		needs(s, c.Nodes(), scopes[RoleNode])
		return // Nothing can be attached to nodes.
	case RolePod:
		needs(s, c.PodDetails(), scopes[RolePod])
	case RoleService:
		needs(s, c.Services(), scopes[RoleService])
	case RoleIngress:
		needs(s, c.Ingresses(), scopes[RoleIngress])
	default:
		needs(s, c.EndpointSlices(), scopes[role])
		needs(s, c.Services(), scopes[RoleService])
		needs(s, c.PodDetails(), scopes[RolePod])
	}
	if s.attachesNodes() {
		needs(s, c.Nodes(), scopes[RoleNode])
	}
	if s.cfg.AttachMetadata.Namespace {
		needs(s, c.Namespaces(), kube.Scope{})
	}
}

// attachesNodes tells whether targets have labels of their node, which those of services and
// ingresses do not have.
func (s *Kubernetes) attachesNodes() bool {
	return s.cfg.AttachMetadata.Node && (s.cfg.Role == RolePod || s.slices())
}

func (s *Kubernetes) slices() bool {
	return s.cfg.Role == RoleEndpoints || s.cfg.Role == RoleEndpointSlice
}

// Err implements [Source]. It also names nodes that have no address and hence no target.
func (s *Kubernetes) Err() error {
	var errs []error
	for _, store := range s.stores {
		errs = append(errs, store.Err())
	}
	if s.cfg.Role == RoleNode {
		errs = append(errs, s.unreachable())
	}
	return errors.Join(errs...)
}

// Run implements [Source]; it may run for several jobs at once. The first groups come when
// every store has had its first list, so that a slow API server never looks like an empty
// cluster. Each group is of one object.
func (s *Kubernetes) Run(ctx context.Context, update func([]Group)) error {
	wake := make(chan struct{}, 1)
	links, end := s.follow(wake)
	defer end()
	r := &clusterRun{Kubernetes: s, labels: newMetaLabels()}
	started := false
	for {
		if started || s.synced() {
			changed := map[kube.Key]bool{}
			for _, l := range links {
				l(changed)
			}
			if !started {
				started = true
				for _, k := range s.keys() {
					changed[k] = true
				}
				if len(changed) == 0 {
					update(nil) // Which says that there is nothing.
				}
			}
			r.send(changed, update)
			if !sleep(ctx, objectPause) {
				return nil
			}
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Kubernetes) synced() bool {
	return !slices.ContainsFunc(s.stores, func(store kube.Shared) bool { return !store.Synced() })
}

// clusterRun is one run of a source.
type clusterRun struct {
	*Kubernetes
	labels *metaLabels
}

// send makes the groups of changed objects and hands them over.
func (r *clusterRun) send(changed map[kube.Key]bool, update func([]Group)) {
	groups := make([]Group, 0, min(len(changed), groupsAtOnce))
	for k := range changed {
		if len(r.namespaces) > 0 && k.Namespace != "" && !slices.Contains(r.namespaces, k.Namespace) {
			continue
		}
		groups = append(groups, Group{Key: Key(k), Targets: r.targets(k)})
		if len(groups) == groupsAtOnce {
			update(groups)
			groups = groups[:0]
		}
	}
	if len(groups) > 0 {
		update(groups)
	}
}

// targets returns the targets of an object, none if it is not there or not chosen.
func (r *clusterRun) targets(k kube.Key) []labels.Labels {
	switch r.cfg.Role {
	case RoleNode:
		return r.nodeTargets(k)
	case RolePod:
		return r.podTargets(k)
	case RoleService:
		return r.serviceTargets(k)
	case RoleIngress:
		return r.ingressTargets(k)
	default:
		return r.sliceTargets(k)
	}
}

// The following return an object if it is there and the selector of its kind chooses it.

func (s *Kubernetes) pod(k kube.Key) (*kube.PodDetail, bool) {
	p, ok := s.client.PodDetails().Get(k)
	if !ok {
		return nil, false
	}
	return p, s.choose[RolePod].chooses(p.Meta, func(field string) string {
		switch field {
		case "spec.nodeName":
			return p.Node
		case "status.phase":
			return p.Phase
		case "status.podIP":
			return p.IP
		}
		return ""
	})
}

func (s *Kubernetes) service(k kube.Key) (*kube.Service, bool) {
	svc, ok := s.client.Services().Get(k)
	if !ok {
		return nil, false
	}
	return svc, s.choose[RoleService].chooses(svc.Meta, func(field string) string {
		switch field {
		case "spec.clusterIP":
			return svc.ClusterIP
		case "spec.type":
			return svc.Type
		}
		return ""
	})
}

func (s *Kubernetes) node(name string) (*kube.Node, bool) {
	n, ok := s.client.Nodes().Get(kube.Key{Name: name})
	if !ok {
		return nil, false
	}
	return n, s.choose[RoleNode].chooses(n.Meta, nil)
}

// selectableFields returns the fields that objects of a role can be chosen by: those of the
// API server of which something is kept.
func selectableFields(role string) []string {
	switch role {
	case RoleNode:
		return []string{"metadata.name"}
	case RolePod:
		return []string{"metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "status.podIP"}
	case RoleService:
		return []string{"metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"}
	default:
		return []string{"metadata.name", "metadata.namespace"}
	}
}
