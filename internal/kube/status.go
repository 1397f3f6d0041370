package kube

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Status is a snapshot of one store for the status page.
type Status struct {
	// Kind is what is watched, the label kind of the metrics. Namespace, Selector, which is
	// the field selector, and LabelSelector narrow it, if set.
	Kind          string `json:"kind"`
	Namespace     string `json:"namespace,omitempty"`
	Selector      string `json:"selector,omitempty"`
	LabelSelector string `json:"label_selector,omitempty"`
	// Running tells whether the store's Run is running.
	Running bool `json:"running"`
	// Synced tells whether the store has had a whole list since the start.
	Synced bool `json:"synced"`
	// Objects is the number of objects in the store without those that were deleted.
	Objects int `json:"objects"`
	// LastContact is when the API server last said something: an event, a bookmark (about
	// one a minute) or a list.
	LastContact time.Time `json:"last_contact,omitzero"`
	// Lists counts whole lists, Restarts the watches opened after the first.
	Lists    uint64 `json:"lists"`
	Restarts uint64 `json:"restarts"`
	// Error is why the store may be out of date and ErrorSince since when; empty and zero
	// while it is current.
	Error      string    `json:"error,omitempty"`
	ErrorSince time.Time `json:"error_since,omitzero"`
}

// errNotListed is the state between the start and the first whole list.
var errNotListed = errors.New("the first list has not arrived yet")

// explain adds to an error of the API server what can be done about it.
func (r resource) explain(err error) error {
	kind := r.kind
	switch {
	case apierrors.IsForbidden(err) && r.namespace != "":
		return fmt.Errorf("watch %s in namespace %s: %w; grant the service account in that namespace the rule "+
			`{apiGroups: [%q], resources: [%s], verbs: [list, watch]}`, kind, r.namespace, err, r.group, kind)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("watch %s: %w; grant the service account the rule "+
			`{apiGroups: [%q], resources: [%s], verbs: [list, watch]}`, kind, err, r.group, kind)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("watch %s: %w; the API server does not know %s yet, which is looked for again", kind, err, strings.TrimPrefix(r.path, "/apis/")+" "+kind)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("watch %s: %w; the API server does not accept the token of the service account "+
			"or of kubernetes.kubeconfig_file", kind, err)
	default:
		return fmt.Errorf("watch %s: %w", kind, err)
	}
}

// reason is the value of the label reason for an error of a request or a watch.
func reason(err error) string {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok {
		return "connection"
	}
	switch code := status.Status().Code; {
	case code == http.StatusForbidden:
		return "forbidden"
	case code == http.StatusUnauthorized:
		return "unauthorized"
	case code == http.StatusGone:
		return "expired"
	case code == http.StatusTooManyRequests:
		return "throttled"
	case code >= 500:
		return "server"
	default:
		return "refused"
	}
}
