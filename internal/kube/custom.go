package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const customAccept = "application/json"

// Custom is an object of a kind that was added to the API server, as JSON with apiVersion,
// kind, metadata and spec. Its status and what writers leave in its metadata are left out, so
// that a change of these alone is none. Nothing about spec is checked: what somebody else
// cannot make sense of is for him to say, and holds up no other object.
type Custom struct{ JSON []byte }

// customKinds are the kinds that there are stores for.
func customKinds() []customKind {
	operator := schema.GroupVersion{Group: "monitoring.coreos.com", Version: "v1"}
	alpha := schema.GroupVersion{Group: operator.Group, Version: "v1alpha1"}
	return []customKind{
		{operator.WithKind("ServiceMonitor"), "servicemonitors"},
		{operator.WithKind("PodMonitor"), "podmonitors"},
		{operator.WithKind("Probe"), "probes"},
		{alpha.WithKind("ScrapeConfig"), "scrapeconfigs"},
	}
}

type customKind struct {
	schema.GroupVersionKind
	resource string
}

// addCustomTo makes a scheme decode the kinds.
func addCustomTo(s *runtime.Scheme) {
	for _, k := range customKinds() {
		s.AddKnownTypeWithName(k.GroupVersionKind, &customObject{})
		list := k.GroupVersionKind
		list.Kind += "List"
		s.AddKnownTypeWithName(list, &customList{})
		metav1.AddToGroupVersion(s, k.GroupVersion())
	}
}

// store describes the objects of the kind.
func (k customKind) store() kindOf[Custom] {
	return kindOf[Custom]{
		resource: resource{
			name: k.resource, kind: k.resource, group: k.Group, path: "/apis/" + k.GroupVersion().String(),
			accept: customAccept, acceptList: customAccept,
		},
		from: func(obj runtime.Object) (Key, *Custom, error) {
			o, ok := obj.(*customObject)
			if !ok {
				return Key{}, nil, wrongType(k.resource, obj)
			}
			text, err := k.reduce(o.text)
			if err != nil {
				return Key{}, nil, fmt.Errorf("read %s %s/%s: %w", k.Kind, o.Namespace, o.Name, err)
			}
			return Key{intern(o.Namespace), intern(o.Name)}, &Custom{text}, nil
		},
	}
}

// reduce leaves out what nobody reads. The same object comes out as the same text.
func (k customKind) reduce(text []byte) ([]byte, error) {
	var o struct {
		Metadata map[string]any  `json:"metadata"`
		Spec     json.RawMessage `json:"spec,omitempty"`
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	for _, name := range []string{"managedFields", "resourceVersion", "selfLink", "finalizers", "ownerReferences"} {
		delete(o.Metadata, name)
	}
	if notes, ok := o.Metadata["annotations"].(map[string]any); ok {
		delete(notes, lastAppliedAnnotation)
	}
	return json.Marshal(struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   map[string]any  `json:"metadata"`
		Spec       json.RawMessage `json:"spec,omitempty"`
	}{k.GroupVersion().String(), k.Kind, o.Metadata, o.Spec})
}

// customObject is an object of which client-go reads the metadata alone.
type customObject struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	text []byte
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *customObject) UnmarshalJSON(text []byte) error {
	var head struct {
		metav1.TypeMeta
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return err
	}
	*o = customObject{head.TypeMeta, head.Metadata, bytes.Clone(text)}
	return nil
}

// DeepCopyObject implements runtime.Object.
func (o *customObject) DeepCopyObject() runtime.Object {
	d := *o
	return &d
}

// customList is a list of them.
type customList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []customObject `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *customList) DeepCopyObject() runtime.Object {
	d := *l
	d.Items = slices.Clone(l.Items)
	return &d
}
