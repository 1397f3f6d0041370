package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// startControlPlane starts etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	etcdURL, err := c.startEtcd(ctx)
	if err != nil {
		return err
	}
	if err = c.startAPIServer(ctx, etcdURL); err != nil {
		return err
	}
	controllers, err := c.run("kube-controller-manager", c.opts.Binaries.KubeControllerManager,
		"--kubeconfig="+c.Kubeconfig,
		"--authentication-kubeconfig="+c.Kubeconfig,
		"--authorization-kubeconfig="+c.Kubeconfig,
		"--bind-address="+nodeIP,
		"--service-account-private-key-file="+c.pki.key("service-account"),
		"--root-ca-file="+c.CAFile,
		"--leader-elect=false",
	)
	if err != nil {
		return err
	}
	scheduler, err := c.run("kube-scheduler", c.opts.Binaries.KubeScheduler,
		"--kubeconfig="+c.Kubeconfig,
		"--authentication-kubeconfig="+c.Kubeconfig,
		"--authorization-kubeconfig="+c.Kubeconfig,
		"--bind-address="+nodeIP,
		"--leader-elect=false",
	)
	if err != nil {
		return err
	}
	// The controllers are ready when the service account that pods run as is
	// there; a pod made earlier is refused.
	if err := c.await(ctx, controllers, func(ctx context.Context) error {
		_, err := c.get(ctx, c.APIServerURL+"/api/v1/namespaces/default/serviceaccounts/default", nil)
		return err
	}); err != nil {
		return err
	}
	return c.await(ctx, scheduler, func(ctx context.Context) error { return dial(ctx, nodeIP+":10259") })
}

func (c *Cluster) startEtcd(ctx context.Context) (url string, err error) {
	client, peer, err := twoFreePorts(ctx)
	if err != nil {
		return "", fmt.Errorf("start etcd: %w", err)
	}
	url = "http://" + client
	etcd, err := c.run("etcd", c.opts.Binaries.Etcd,
		"--data-dir="+c.path("etcd"),
		"--listen-client-urls="+url, "--advertise-client-urls="+url,
		"--listen-peer-urls=http://"+peer, "--initial-advertise-peer-urls=http://"+peer,
		"--initial-cluster=default=http://"+peer,
		// The data is thrown away, so nothing waits for the disk.
		"--unsafe-no-fsync",
	)
	if err != nil {
		return "", err
	}
	return url, c.awaitHTTP(ctx, etcd, url+"/health")
}

func (c *Cluster) startAPIServer(ctx context.Context, etcdURL string) error {
	p, err := c.run("kube-apiserver", c.opts.Binaries.KubeAPIServer,
		"--etcd-servers="+etcdURL,
		"--bind-address="+apiServerIP, "--advertise-address="+apiServerIP, "--secure-port=443",
		"--service-cluster-ip-range="+serviceCIDR,
		"--cert-dir="+c.path("pki"),
		"--tls-cert-file="+c.pki.cert("kube-apiserver"), "--tls-private-key-file="+c.pki.key("kube-apiserver"),
		"--client-ca-file="+c.CAFile,
		// No proxy stands before it, but without these two the controllers and the
		// scheduler do not learn whom to trust on their own ports.
		"--requestheader-client-ca-file="+c.CAFile, "--requestheader-allowed-names=front-proxy-client",
		"--token-auth-file="+c.pki.tokenFile,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+c.pki.key("service-account"),
		"--service-account-signing-key-file="+c.pki.key("service-account"),
		"--kubelet-client-certificate="+c.pki.cert("kubelet-client"),
		"--kubelet-client-key="+c.pki.key("kubelet-client"),
		"--kubelet-certificate-authority="+c.CAFile,
		"--kubelet-preferred-address-types=InternalIP",
		"--allow-privileged=true",
	)
	if err != nil {
		return err
	}
	return c.awaitHTTP(ctx, p, c.APIServerURL+"/readyz")
}

// nodeReady reports why the node does not accept pods yet.
func (c *Cluster) nodeReady(ctx context.Context) error {
	body, err := c.get(ctx, c.APIServerURL+"/api/v1/nodes/"+c.NodeName, nil)
	if err != nil {
		return err
	}
	var node struct {
		Spec struct {
			Taints []struct{ Key string }
		}
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := json.Unmarshal(body, &node); err != nil {
		return fmt.Errorf("parse node: %w", err)
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type != "Ready" {
			continue
		}
		if cond.Status != "True" {
			return errors.New("node: " + cond.Message)
		}
		if len(node.Spec.Taints) > 0 {
			return errors.New("node: still tainted " + node.Spec.Taints[0].Key)
		}
		return nil
	}
	return errors.New("node: it has not reported yet")
}

func dial(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// twoFreePorts returns two loopback addresses that nobody listens on.
func twoFreePorts(ctx context.Context) (first, second string, err error) {
	var lc net.ListenConfig
	a, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	// Both are open at the same time, or they could be one.
	b, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", errors.Join(err, a.Close())
	}
	return a.Addr().String(), b.Addr().String(), errors.Join(a.Close(), b.Close())
}
