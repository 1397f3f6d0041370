package kube

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Node is what Ingot knows of a node.
type Node struct {
	Meta
	// Addresses and Conditions are in the order of the object.
	Addresses  []NodeAddress
	Conditions []NodeCondition
	// KubeletPort is the TCP port of the kubelet's API, 0 when the node does not say.
	KubeletPort int32
	// ProviderID is the cloud's name of the machine, often empty.
	ProviderID string
}

// NodeAddress is one address of a node. Type is InternalIP, InternalDNS, ExternalIP,
// ExternalDNS, Hostname or what a cloud provider has made up.
type NodeAddress struct{ Type, Address string }

// NodeCondition is the present state of one condition: Type is such as Ready, Status is
// True, False or Unknown.
type NodeCondition struct{ Type, Status string }

func nodeKind() kindOf[Node] {
	return kindOf[Node]{
		resource: resource{name: "nodes", kind: "nodes", path: corePath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *Node, error) {
			o, ok := obj.(*corev1.Node)
			if !ok {
				return Key{}, nil, wrongType("nodes", obj)
			}
			n := &Node{
				Meta:        metaOf(o),
				KubeletPort: o.Status.DaemonEndpoints.KubeletEndpoint.Port,
				ProviderID:  strings.Clone(o.Spec.ProviderID),
			}
			for _, a := range o.Status.Addresses {
				n.Addresses = append(n.Addresses, NodeAddress{intern(string(a.Type)), intern(a.Address)})
			}
			for _, c := range o.Status.Conditions {
				n.Conditions = append(n.Conditions, NodeCondition{intern(string(c.Type)), intern(string(c.Status))})
			}
			return n.Key, n, nil
		},
	}
}
