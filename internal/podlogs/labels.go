package podlogs

import (
	"maps"
	"slices"
	"strings"
	"unique"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// What steers labels besides the configuration.
const (
	resourcePrefix   = "resource.opentelemetry.io/"
	serviceName      = resourcePrefix + "service.name"
	serviceNamespace = resourcePrefix + "service.namespace"
	serviceInstance  = resourcePrefix + "service.instance.id"
	nameLabel        = "app.kubernetes.io/name"
	instanceLabel    = "app.kubernetes.io/instance"

	// tenantLabel names the tenant of a line for the destination's writer and is always kept.
	tenantLabel = "__tenant_id__"
)

// pod is what the labels of a container's log streams are made of. labels and annotations
// are nil while only the path is known.
type pod struct {
	namespace, name, container string
	labels, annotations        map[string]string
	owner                      kube.Owner
}

// labelSet is what the lines of one stream carry.
type labelSet struct{ index, metadata model.Labels }

// streamLabels is what the lines of stdout, at 0, and of stderr, at 1, carry. The two are equal
// unless the label stream, which only version 4 keeps, is among them.
type streamLabels [2]labelSet

// labelRules are the rules by which k8s-monitoring labels the lines of containers, as
// pod_logs sets them. They do not change.
type labelRules struct {
	copyAll             bool // every label and annotation of the pod is a label first
	namespaceToo        bool // service_namespace and service_instance_id are derived
	alignService        bool
	annotations, labels []labelRule
	metadata            []labelRule // key is the label that is moved
	static              []model.Label
	// keep are the labels that are kept in the end, with tenantLabel; nil for all.
	keep []string
	// staged leaves the keeping to the stages, which may look at every label.
	staged bool
}

type labelRule struct{ name, key string }

// newLabelRules returns the rules of c, which has passed Validate. staged tells that stages
// follow, which end with the stage label_keep over keep.
func newLabelRules(c *PodConfig, staged bool) *labelRules {
	r := &labelRules{
		copyAll:      c.Profile != ProfileV4,
		namespaceToo: c.Profile != ProfileV2,
		alignService: c.AlignServiceName,
		annotations:  rulesOf(c.Annotations),
		labels:       rulesOf(c.Labels),
		staged:       staged,
	}
	for _, m := range rulesOf(c.StructuredMetadata) {
		r.metadata = append(r.metadata, labelRule{sanitise(m.name), sanitise(m.key)})
	}
	for _, m := range rulesOf(c.StaticLabels) {
		r.static = append(r.static, model.Label{Name: m.name, Value: m.key})
	}
	if len(c.LabelsToKeep) > 0 {
		r.keep = append(r.keep, tenantLabel)
		for _, name := range c.LabelsToKeep {
			r.keep = append(r.keep, sanitise(name))
		}
	}
	return r
}

func rulesOf(m map[string]string) []labelRule {
	var rules []labelRule
	for _, name := range slices.Sorted(maps.Keys(m)) {
		rules = append(rules, labelRule{name, m[name]})
	}
	return rules
}

// of returns the labels of a container. Later steps overwrite earlier ones, among them labels
// and annotations that happen to have the name of another label: in versions 2 and 3 a pod
// may give itself another job, or another namespace.
func (r *labelRules) of(p pod) (s streamLabels) {
	l := r.discovered(p)
	for i, stream := range [...]string{"stdout", "stderr"} {
		l["stream"], l["flags"] = stream, "F" // Parts of lines are joined, so that every line is a full one.
		s[i] = r.processed(l)
	}
	if s[0] == s[1] {
		s[1] = s[0] // One copy of the metadata.
	}
	return s
}

// discovered is the first half: what the chart's discovery makes of a pod.
func (r *labelRules) discovered(p pod) map[string]string {
	l := map[string]string{
		"namespace": p.namespace,
		"pod":       p.name,
		"container": p.container,
		"job":       p.namespace + "/" + p.container,
	}
	if r.copyAll {
		copyLabels(l, p.labels, "")
		copyLabels(l, p.annotations, "")
	}
	service := []string{p.annotations[serviceName], p.labels[nameLabel], p.container}
	if r.alignService {
		service = []string{p.annotations[serviceName], p.labels[instanceLabel], p.labels[nameLabel], workload(p.owner), p.name, p.container}
	}
	l["service_name"] = firstOf(service...)
	if r.namespaceToo {
		l["service_namespace"] = firstOf(p.annotations[serviceNamespace], l["namespace"])
		l["service_instance_id"] = p.annotations[serviceInstance]
		// The chart's rule demands three parts without a dot and leaves the label out otherwise.
		if l["service_instance_id"] == "" && !strings.Contains(l["namespace"]+l["pod"]+l["container"], ".") {
			l["service_instance_id"] = l["namespace"] + "." + l["pod"] + "." + l["container"]
		}
	}
	copyLabels(l, p.annotations, resourcePrefix)
	for _, x := range r.annotations {
		if v := p.annotations[x.key]; v != "" {
			l[x.name] = v
		}
	}
	for _, x := range r.labels {
		if v := p.labels[x.key]; v != "" {
			l[x.name] = v
		}
	}
	// The chart drops what its own rules and the file source put there.
	delete(l, "filename")
	delete(l, "tmp_container_runtime")
	return l
}

// processed is the second half: what the chart's pipeline makes of the labels.
func (r *labelRules) processed(l map[string]string) labelSet {
	var metadata []model.Label
	moved := map[string]bool{}
	for _, x := range r.metadata {
		if v := l[x.key]; v != "" {
			metadata = append(metadata, model.Label{Name: x.name, Value: valid(v)})
			moved[x.key] = true
		}
	}
	index := make([]model.Label, 0, len(l)+len(r.static))
	for name, value := range l {
		if !moved[name] && r.keeps(name) {
			index = append(index, model.Label{Name: name, Value: valid(value)})
		}
	}
	for _, x := range r.static {
		if r.keeps(x.Name) {
			index = append(index, x) // Of two labels of one name NewLabels takes the last.
		}
	}
	// Pods of a Deployment have the same labels, and the metadata tells them apart.
	return labelSet{unique.Make(model.NewLabels(index...)).Value(), model.NewLabels(metadata...)}
}

func (r *labelRules) keeps(name string) bool {
	return r.keep == nil || r.staged || slices.Contains(r.keep, name)
}

// vain returns the static labels that the list of labels to keep leaves out again, unless
// stages may have a use for them.
func (r *labelRules) vain() (names []string) {
	for _, l := range r.static {
		if !r.keeps(l.Name) {
			names = append(names, l.Name)
		}
	}
	return names
}

// workload returns the name of what owns a pod: of a ReplicaSet the Deployment behind it. A
// node owns its static pods, which says nothing of what they are.
func workload(o kube.Owner) string {
	switch o.Kind {
	case "ReplicaSet":
		if i := strings.LastIndexByte(o.Name, '-'); i > 0 {
			return o.Name[:i]
		}
	case "Node":
		return ""
	}
	return o.Name
}

// copyLabels copies the entries of from whose key starts with prefix under what follows the
// prefix, sanitised as Prometheus' service discovery does it.
func copyLabels(to, from map[string]string, prefix string) {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		if name, ok := strings.CutPrefix(key, prefix); ok && name != "" && from[key] != "" {
			to[sanitise(name)] = from[key]
		}
	}
}

// sanitise makes a label name of the key of a label or annotation. Loki refuses a name that
// starts with a digit, and the whole push with it.
func sanitise(name string) string {
	name = model.SanitizeName(name)
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

// firstOf returns the first value that is not empty, up to its first semicolon, as the
// chart's rule over the values joined by semicolons does.
func firstOf(values ...string) string {
	s := strings.TrimLeft(strings.Join(values, ";"), ";")
	s, _, _ = strings.Cut(s, ";")
	return s
}

func valid(value string) string { return strings.ToValidUTF8(value, "\uFFFD") }
