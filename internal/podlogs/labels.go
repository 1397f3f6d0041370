package podlogs

import (
	"maps"
	"slices"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// The annotations that steer labels.
const (
	resourcePrefix     = "resource.opentelemetry.io/"
	serviceName        = resourcePrefix + "service.name"
	serviceNamespace   = resourcePrefix + "service.namespace"
	serviceInstance    = resourcePrefix + "service.instance.id"
	jobAnnotation      = "k8s.grafana.com/logs.job"
	nameLabel          = "app.kubernetes.io/name"
	nameLabelSanitised = "app_kubernetes_io_name"
)

// pod is what the labels of a container's log streams are made of. labels and annotations
// are nil while only the path is known.
type pod struct {
	namespace, name, container string
	labels, annotations        map[string]string
}

// streamLabels returns the index labels and the structured metadata that version 3 of
// k8s-monitoring gives the lines of a container. Later steps overwrite earlier ones, among
// them labels and annotations that happen to have the name of another label.
func streamLabels(p pod) (index, metadata model.Labels) {
	l := map[string]string{
		"namespace": p.namespace,
		"pod":       p.name,
		"container": p.container,
		"job":       p.namespace + "/" + p.container,
	}
	copyLabels(l, p.labels, "")
	copyLabels(l, p.annotations, "")
	l["service_name"] = firstOf(p.annotations[serviceName], p.labels[nameLabel], p.container)
	l["service_namespace"] = firstOf(p.annotations[serviceNamespace], p.namespace)
	l["service_instance_id"] = p.annotations[serviceInstance]
	// The chart's rule demands three parts without a dot and leaves the label out otherwise.
	if l["service_instance_id"] == "" && !strings.Contains(p.namespace+p.name+p.container, ".") {
		l["service_instance_id"] = p.namespace + "." + p.name + "." + p.container
	}
	copyLabels(l, p.annotations, resourcePrefix)
	if v := p.annotations[jobAnnotation]; v != "" {
		l["job"] = v
	}
	if v := p.labels[nameLabel]; v != "" {
		l[nameLabelSanitised] = v
	}
	var ix, md []model.Label
	for name, value := range l {
		switch value = strings.ToValidUTF8(value, "\uFFFD"); {
		case isMetadata(name):
			md = append(md, model.Label{Name: name, Value: value})
		case isKept(name):
			ix = append(ix, model.Label{Name: name, Value: value})
		}
	}
	return model.NewLabels(ix...), model.NewLabels(md...)
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

func sanitise(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

// firstOf returns the first value that is not empty, up to its first semicolon, as the
// chart's rule over the values joined by semicolons does.
func firstOf(values ...string) string {
	s := strings.TrimLeft(strings.Join(values, ";"), ";")
	s, _, _ = strings.Cut(s, ";")
	return s
}

// isMetadata tells the labels that version 3 moves to structured metadata.
func isMetadata(name string) bool {
	switch name {
	case "k8s_pod_name", "pod", "service_instance_id":
		return true
	}
	return false
}

// isKept tells the labels that version 3 keeps as index labels.
func isKept(name string) bool {
	switch name {
	case nameLabelSanitised, "container", "instance", "job", "level", "namespace",
		"service_name", "service_namespace", "deployment_environment", "deployment_environment_name",
		"k8s_namespace_name", "k8s_deployment_name", "k8s_statefulset_name", "k8s_daemonset_name",
		"k8s_cronjob_name", "k8s_job_name", "k8s_node_name":
		return true
	}
	return false
}

// fileLabels returns the index labels of an ordinary log file.
func fileLabels(path string, configured map[string]string) model.Labels {
	ls := []model.Label{{Name: "filename", Value: strings.ToValidUTF8(path, "\uFFFD")}}
	for name, value := range configured {
		ls = append(ls, model.Label{Name: name, Value: value})
	}
	return model.NewLabels(ls...)
}
