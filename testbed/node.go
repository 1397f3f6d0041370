package testbed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	pauseImage = "testbed/pause:1"
	// WorkloadImage is the image of the workload program, always there.
	WorkloadImage = "testbed/workload:1"
	// staticPods is where kubelet looks for static pods, in the work folder.
	staticPods = "static-pods"
)

// startContainerd starts a container runtime that shares neither folder nor
// socket with another one on the machine.
func (c *Cluster) startContainerd() (*process, error) {
	for name, text := range map[string]string{
		"etc/containerd.toml":         c.containerdConfig(),
		"etc/cni/10-testbed.conflist": c.cniConfig(),
		// Pods get no name server: nothing outside may be asked, and inside there
		// is none.
		"etc/resolv.conf": "",
	} {
		if err := c.write(name, text); err != nil {
			return nil, fmt.Errorf("start containerd: %w", err)
		}
	}
	return c.run("containerd", "containerd", "--config", c.path("etc/containerd.toml"))
}

func (c *Cluster) write(name, text string) error {
	path := c.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (c *Cluster) containerdSocket() string { return c.path("containerd/containerd.sock") }

// containerdConfig is written for containerd 1.6 and 1.7. The plugin "opt" is
// off because it makes a folder in /opt.
func (c *Cluster) containerdConfig() string {
	return fmt.Sprintf(`version = 2
root = %[1]q
state = %[2]q
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = %[3]q

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %[4]q
# Without CAP_SYS_RESOURCE nobody may lower an OOM score, and runc dies trying.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %[5]q
conf_dir = %[6]q

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = %[7]q
`, c.path("containerd/root"), c.path("containerd/state"), c.containerdSocket(), pauseImage,
		cniBinDir, c.path("etc/cni"), c.path("containerd/runc"))
}

// cniConfig joins pods to the bridge. It sets no isGateway and no ipMasq: both
// would let packets of pods leave the machine.
func (c *Cluster) cniConfig() string {
	return fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": "ingot-testbed",
  "plugins": [
    {
      "type": "bridge", "bridge": %q,
      "ipam": {
        "type": "host-local", "dataDir": %q,
        "ranges": [[{"subnet": %q, "rangeStart": %q, "rangeEnd": %q, "gateway": %q}]],
        "routes": [{"dst": "0.0.0.0/0", "gw": %q}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, bridgeName, c.path("cni"), podCIDR, firstPodIP, lastPodIP, nodeIP, nodeIP)
}

// awaitContainerd waits for the runtime and gives it the testbed's two images.
func (c *Cluster) awaitContainerd(ctx context.Context, p *process) error {
	if err := c.await(ctx, p, func(ctx context.Context) error {
		return c.ctr(ctx, "version")
	}); err != nil {
		return err
	}
	if err := c.Image(ctx, pauseImage, c.opts.Binaries.Pause, nil); err != nil {
		return err
	}
	return c.Image(ctx, WorkloadImage, c.opts.Binaries.Workload, nil)
}

// startNode starts kubelet and waits until the node accepts pods.
func (c *Cluster) startNode(ctx context.Context) error {
	kubeconfig := c.path("etc/kubelet.kubeconfig")
	if err := writeKubeconfig(kubeconfig, c.APIServerURL, c.CAFile, c.pki.nodeToken); err != nil {
		return err
	}
	if err := c.write("etc/kubelet.yaml", c.kubeletConfig()); err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	// A folder that is missing when kubelet starts is looked for only now and then.
	if err := os.MkdirAll(c.path(staticPods), 0o755); err != nil {
		return fmt.Errorf("start kubelet: %w", err)
	}
	kubelet, err := c.run("kubelet", c.opts.Binaries.Kubelet,
		"--config="+c.path("etc/kubelet.yaml"),
		"--kubeconfig="+kubeconfig,
		"--root-dir="+c.path("kubelet"),
		"--cert-dir="+c.path("pki"),
		"--hostname-override="+c.NodeName,
		"--node-ip="+nodeIP,
		// The cAdvisor in kubelet looks for containerd at its usual place instead of
		// asking; without containerd it reports pods but no containers.
		"--containerd="+c.containerdSocket(),
	)
	if err != nil {
		return err
	}
	return c.await(ctx, kubelet, c.nodeReady)
}

// StaticPod makes kubelet run a pod from a file, without the API server, until
// it is called again with an empty manifest. While the API server answers, kubelet
// shows it the pod as <pod name>-<node name>.
func (c *Cluster) StaticPod(name, yaml string) error {
	path := filepath.Join(c.path(staticPods), name+".yaml")
	if yaml == "" {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("end static pod: %w", err)
		}
		return nil
	}
	// Kubelet reads the file as soon as it appears, which a rename does at once.
	draft := c.path(name + ".draft")
	if err := errors.Join(os.WriteFile(draft, []byte(yaml), 0o644), os.Rename(draft, path)); err != nil {
		return fmt.Errorf("run static pod: %w", err)
	}
	return nil
}

// kubeletConfig keeps kubelet's defaults where Ingot could notice a difference.
// Eviction for lack of disk and the removal of unused images are off: a test
// machine's disk may be nearly full, and an image cannot be pulled again.
func (c *Cluster) kubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
port: %[2]d
healthzPort: 0
tlsCertFile: %[3]q
tlsPrivateKeyFile: %[4]q
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[5]q}
authorization: {mode: Webhook}
containerRuntimeEndpoint: %[6]q
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: %[7]q
volumePluginDir: %[8]q
staticPodPath: %[12]q
containerLogMaxSize: %[9]q
containerLogMaxFiles: %[10]d
containerLogMonitorInterval: %[11]s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "100Mi", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
`, nodeIP, KubeletPort, c.pki.cert("kubelet"), c.pki.key("kubelet"), c.CAFile, "unix://"+c.containerdSocket(),
		c.path("etc/resolv.conf"), c.path("volume-plugins"),
		c.opts.ContainerLogMaxSize, c.opts.ContainerLogMaxFiles, c.opts.ContainerLogMonitorInterval,
		c.path(staticPods))
}
