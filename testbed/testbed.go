// Package testbed runs real servers on one plain Linux machine: a single-node
// Kubernetes cluster (etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, containerd, kubelet), a multi-tenant Cortex and a
// multi-tenant Loki. [Build] makes their binaries from Go modules, [Start]
// brings them up on a bridge network of their own, and [Cluster.Stop] takes
// away every process, mount, device and file that came with them.
//
// The package does not know Ingot: a test packs Ingot's binary with
// [Cluster.Image] and applies its manifests like those of any workload. It runs
// no kube-proxy and no cluster DNS, so pods reach each other by pod IP and the
// servers by the addresses in [Cluster]; the one service address that answers
// is that of the kube-apiserver. It pulls no image from anywhere, and nothing
// in it reaches an address outside the machine: packets of pods are not
// forwarded.
//
// It needs root, and one machine runs one testbed at a time.
package testbed

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options are what one run of the testbed may choose.
type Options struct {
	// Binaries are the servers, as [Build] returned them.
	Binaries Binaries
	// Log gets one line a step; nil discards them.
	Log io.Writer
	// LogDir keeps the servers' own logs after the run; empty puts them into the
	// work folder, which Stop removes.
	LogDir string
	// NodeName is the node's name, "testbed-node" when empty.
	NodeName string
	// ContainerLogMaxSize is the size at which kubelet rotates a container's log,
	// a Kubernetes quantity, "10Mi" when empty.
	ContainerLogMaxSize string
	// ContainerLogMaxFiles is how many files kubelet keeps of one container, at
	// least 2; 5 when zero.
	ContainerLogMaxFiles int
	// ContainerLogMonitorInterval is how often kubelet looks for logs to rotate;
	// 10s when zero, and kubelet accepts no less than 3s.
	ContainerLogMonitorInterval time.Duration
	// OutOfOrderWindow is how old a sample Cortex takes after a newer one of the
	// same series. Zero, the default, makes it reject every such sample, so that
	// a test sees each reordering.
	OutOfOrderWindow time.Duration
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.NodeName == "" {
		o.NodeName = "testbed-node"
	}
	if o.ContainerLogMaxSize == "" {
		o.ContainerLogMaxSize = "10Mi"
	}
	if o.ContainerLogMaxFiles == 0 {
		o.ContainerLogMaxFiles = 5
	}
	if o.ContainerLogMonitorInterval == 0 {
		o.ContainerLogMonitorInterval = 10 * time.Second
	}
	return o
}

// Cluster is a running testbed. Its addresses answer to the test and to pods
// alike, whether these use the host's network or not.
type Cluster struct {
	// CortexURL is Cortex' root: remote write is at /api/v1/push, queries below
	// /prometheus, rules at /api/v1/rules, the Alertmanager below /alertmanager.
	CortexURL string
	// LokiURL is Loki's root: the push route is /loki/api/v1/push.
	LokiURL string
	// APIServerURL is the kube-apiserver, at the address that pods find in
	// KUBERNETES_SERVICE_HOST.
	APIServerURL string
	// NodeIP is the node's InternalIP, where kubelet listens on KubeletPort.
	NodeIP string
	// NodeName is the name of the only node.
	NodeName string
	// Kubeconfig is the path of an administrator's kubeconfig.
	Kubeconfig string
	// CAFile is the certificate that signed all certificates of the cluster.
	CAFile string
	// AdminToken is a bearer token of group system:masters.
	AdminToken string
	// LogDir holds one log file a server.
	LogDir string

	opts Options
	dir  string // work folder
	pki  *pki
	http *http.Client // trusts the cluster's CA

	host *host // what the run changed on the machine

	mu       sync.Mutex // guards procs, stopping and host.state.Processes
	procs    []*process // in the order they were started
	stopping bool

	reaper      *process // cleans up should this process die
	reaperStdin io.Closer
	stopOnce    sync.Once
	stopErr     error
}

// Start cleans up what a crashed run left behind, then starts all servers and
// waits until each is ready and the node accepts pods. When it returns an error
// it has stopped and cleaned up everything again. The servers outlive ctx: only
// Stop ends them, or the death of this process.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	opts = opts.withDefaults()
	begin := time.Now()
	h, err := claimHost(ctx, opts.Log)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		CortexURL:    "http://" + cortexAddr,
		LokiURL:      "http://" + lokiAddr,
		APIServerURL: "https://" + apiServerIP,
		NodeIP:       nodeIP,
		NodeName:     opts.NodeName,
		LogDir:       opts.LogDir,
		opts:         opts,
		dir:          h.state.WorkDir,
		host:         h,
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	c.progress("testbed ready", begin)
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	c.startReaper()
	// What does not need the cluster starts first: the two backends take the
	// longest to become ready and have nothing to wait for.
	cortex, err := c.startCortex()
	if err != nil {
		return err
	}
	loki, err := c.startLoki()
	if err != nil {
		return err
	}
	containerd, err := c.startContainerd()
	if err != nil {
		return err
	}
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	if err := c.awaitContainerd(ctx, containerd); err != nil {
		return err
	}
	if err := c.startNode(ctx); err != nil {
		return err
	}
	if err := c.awaitHTTP(ctx, cortex, c.CortexURL+"/ready"); err != nil {
		return err
	}
	return c.awaitHTTP(ctx, loki, c.LokiURL+"/ready")
}

// prepare makes all that the servers find when they start: folders,
// certificates, tokens, kubeconfigs and the bridge.
func (c *Cluster) prepare() error {
	if c.LogDir == "" {
		c.LogDir = filepath.Join(c.dir, "logs")
	}
	for _, dir := range []string{c.LogDir, c.path("pki"), c.path("etc")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	var err error
	if c.pki, err = writePKI(c.path("pki"), c.NodeName); err != nil {
		return err
	}
	c.CAFile = c.pki.caFile
	c.AdminToken = c.pki.adminToken
	c.http = &http.Client{
		Timeout:   2 * time.Minute,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.pki.pool, MinVersion: tls.VersionTLS12}},
	}
	c.Kubeconfig = c.path("etc/admin.kubeconfig")
	if err := writeKubeconfig(c.Kubeconfig, c.APIServerURL, c.CAFile, c.AdminToken); err != nil {
		return err
	}
	return c.host.addBridge()
}

// Stop deletes all pods, ends every process of the testbed and removes what the
// run left on the machine. It may be called many times and from any goroutine;
// each call returns the result of the first.
func (c *Cluster) Stop() error {
	c.stopOnce.Do(func() {
		begin := time.Now()
		// The context of the test may be cancelled by now, the clean-up is not.
		c.deletePods(context.Background())
		c.stopProcesses()
		c.stopErr = c.host.clean()
		c.stopReaper()
		c.host.release()
		if c.stopErr != nil {
			c.stopErr = fmt.Errorf("clean up testbed: %w", c.stopErr)
		}
		c.progress("testbed stopped", begin)
	})
	return c.stopErr
}

// Clean removes what a crashed run left on this machine. It does nothing when
// nothing was left, and fails while another process runs a testbed.
func Clean(ctx context.Context, log io.Writer) error {
	h, err := lockHost(ctx, log, 5*time.Second)
	if err != nil {
		return err
	}
	defer h.release()
	return h.clean()
}

// HostDir makes a folder on the node for a pod's hostPath volume, which goes away
// with the testbed.
func (c *Cluster) HostDir(name string) (string, error) {
	dir := c.path(filepath.Join("host", name))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", fmt.Errorf("make folder for pods: %w", err)
	}
	return dir, nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *Cluster) progress(what string, since time.Time) {
	progress(c.opts.Log, what, since)
}

func progress(w io.Writer, what string, since time.Time) {
	fmt.Fprintf(w, "testbed: %-32s %6.1fs\n", what, time.Since(since).Seconds())
}
