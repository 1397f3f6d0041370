package promoperator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// Input is what a stream of manifests holds, as kubectl get -o yaml or a chart writes them.
type Input struct {
	// Objects are those of the four kinds, in the order of the stream.
	Objects []Object
	// Secrets and ConfigMaps are those of the stream.
	Secrets    SecretValues
	ConfigMaps ConfigMapValues
	// Ignored is how many objects of other kinds there were, by kind.
	Ignored map[string]int
}

// Object is one object of a kind that Ingot translates.
type Object struct {
	Kind, Namespace, Name string
	Labels                map[string]string
	// Unknown are fields that the types of this Ingot do not have. They are not honoured.
	Unknown []Warning

	value any   // a pointer to the type of the kind
	err   error // why the object could not be read; Translate returns it
}

// String returns the object as users name it.
func (o Object) String() string { return o.Kind + " " + o.Namespace + "/" + o.Name }

// SecretValues are the values of Secrets. It implements [Secrets].
type SecretValues map[ValueRef]string

// ConfigMapValues are the values of ConfigMaps. It implements [ConfigMaps].
type ConfigMapValues map[ValueRef]string

// ValueRef names one value of a Secret or a ConfigMap.
type ValueRef struct{ Namespace, Name, Key string }

// Secret returns a value, or an error that names what is missing.
func (s SecretValues) Secret(namespace, name, key string) (string, error) {
	if v, ok := s[ValueRef{namespace, name, key}]; ok {
		return v, nil
	}
	return "", missing("Secret", namespace, name, key)
}

// ConfigMap returns a value, or an error that names what is missing.
func (s ConfigMapValues) ConfigMap(namespace, name, key string) (string, error) {
	if v, ok := s[ValueRef{namespace, name, key}]; ok {
		return v, nil
	}
	return "", missing("ConfigMap", namespace, name, key)
}

func missing(kind, namespace, name, key string) error {
	return fmt.Errorf("there is no key %q of a %s %s/%s", key, kind, namespace, name)
}

// Translate translates an object of any of the kinds. The warnings include its unknown fields.
func (t *Translator) Translate(o Object) (tr Translation, err error) {
	if o.err != nil {
		return Translation{}, o.err
	}
	switch v := o.value.(type) {
	case *monitoringv1.ServiceMonitor:
		tr, err = t.ServiceMonitor(v)
	case *monitoringv1.PodMonitor:
		tr, err = t.PodMonitor(v)
	case *monitoringv1.Probe:
		tr, err = t.Probe(v)
	case *monitoringv1alpha1.ScrapeConfig:
		tr, err = t.ScrapeConfig(v)
	default:
		err = config.Problem{Path: "kind", Text: fmt.Sprintf("%q is not translated", o.Kind)}
	}
	tr.Warnings = append(append([]Warning(nil), o.Unknown...), tr.Warnings...)
	return tr, err
}

// Selects says why the configuration does not obey an object, nil when it does.
func (t *Translator) Selects(o Object) error {
	kind := map[string]Kind{
		monitoringv1.ServiceMonitorsKind:     t.cfg.ServiceMonitors.Kind,
		monitoringv1.PodMonitorsKind:         t.cfg.PodMonitors,
		monitoringv1.ProbesKind:              t.cfg.Probes,
		monitoringv1alpha1.ScrapeConfigsKind: t.cfg.ScrapeConfigs.Kind,
	}[o.Kind]
	return kind.Selects(o.Namespace, o.Labels)
}

// Decode reads YAML or JSON of any number of documents, each an object or a list of objects.
// An error is about the stream as a whole or names the document; nothing is returned then.
func Decode(data []byte) (Input, error) {
	in := Input{Secrets: SecretValues{}, ConfigMaps: ConfigMapValues{}, Ignored: map[string]int{}}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for n := 1; ; n++ {
		var doc any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return in, nil
		}
		if err == nil && doc != nil {
			err = in.document(doc)
		}
		if err != nil {
			return Input{}, fmt.Errorf("document %d: %w", n, err)
		}
	}
}

func (in *Input) document(doc any) error {
	fields, ok := doc.(map[string]any)
	if !ok {
		return errors.New("is no object with apiVersion and kind")
	}
	kind, _ := fields["kind"].(string)
	if items, ok := fields["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		for i, item := range items {
			// The items of kubectl's lists have a kind, those of the API server do not.
			if m, ok := item.(map[string]any); ok && m["kind"] == nil && kind != "List" {
				m["kind"] = strings.TrimSuffix(kind, "List")
			}
			if err := in.document(item); err != nil {
				return fmt.Errorf("%s: %w", config.Index("items", i), err)
			}
		}
		return nil
	}
	if kind == "" {
		return errors.New("has no kind")
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return errors.New("has a key that is no text")
	}
	switch kind {
	case monitoringv1.ServiceMonitorsKind:
		in.object(kind, text, &monitoringv1.ServiceMonitor{})
	case monitoringv1.PodMonitorsKind:
		in.object(kind, text, &monitoringv1.PodMonitor{})
	case monitoringv1.ProbesKind:
		in.object(kind, text, &monitoringv1.Probe{})
	case monitoringv1alpha1.ScrapeConfigsKind:
		in.object(kind, text, &monitoringv1alpha1.ScrapeConfig{})
	case "Secret":
		return in.secret(text)
	case "ConfigMap":
		return in.configMap(text)
	default:
		in.Ignored[kind]++
	}
	return nil
}

func (in *Input) object(kind string, text []byte, value metav1.ObjectMetaAccessor) {
	strict, err := kjson.UnmarshalStrict(text, value, kjson.DisallowUnknownFields)
	meta := value.GetObjectMeta()
	meta.SetNamespace(orDefault(meta.GetNamespace()))
	o := Object{Kind: kind, Namespace: meta.GetNamespace(), Name: meta.GetName(), Labels: meta.GetLabels(), value: value}
	if err != nil { // One object that cannot be read does not cost the others.
		o.err = config.Problems{unreadable(err)}
	}
	for _, e := range strict {
		field := strings.Trim(strings.TrimPrefix(e.Error(), "unknown field "), `"`)
		o.Unknown = append(o.Unknown, Warning{field, "is a field that Ingot does not know, and it is ignored"})
	}
	in.Objects = append(in.Objects, o)
}

// unreadable says in the words of a user why an object does not fit its type.
func unreadable(err error) config.Problem {
	var e *json.UnmarshalTypeError
	if !errors.As(err, &e) {
		return config.Problem{Text: strings.TrimPrefix(err.Error(), "json: ")}
	}
	wanted := map[reflect.Kind]string{
		reflect.String: "text", reflect.Bool: "true or false", reflect.Slice: "a list", reflect.Struct: "a mapping of keys",
		reflect.Map: "a mapping of keys", reflect.Int64: "a whole number", reflect.Int32: "a whole number",
	}[e.Type.Kind()]
	return config.Problem{Path: e.Field, Text: fmt.Sprintf("must be %s, is %s", cmp.Or(wanted, e.Type.String()), e.Value)}
}

func (in *Input) secret(text []byte) error {
	var s corev1.Secret
	// The error of a decoder may quote what it cannot read, here a secret.
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &s); err != nil {
		return errors.New("a Secret cannot be read; its data must be base64, or use stringData")
	}
	for key, v := range s.Data {
		in.Secrets[ValueRef{orDefault(s.Namespace), s.Name, key}] = string(v)
	}
	for key, v := range s.StringData {
		in.Secrets[ValueRef{orDefault(s.Namespace), s.Name, key}] = v
	}
	return nil
}

func (in *Input) configMap(text []byte) error {
	var m corev1.ConfigMap
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &m); err != nil {
		return fmt.Errorf("ConfigMap: %w", err)
	}
	for key, v := range m.Data {
		in.ConfigMaps[ValueRef{orDefault(m.Namespace), m.Name, key}] = v
	}
	return nil
}

// orDefault is the namespace of a manifest, default where it names none.
func orDefault(namespace string) string {
	if namespace == "" {
		return metav1.NamespaceDefault
	}
	return namespace
}
