package testbed

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Kubectl runs kubectl as an administrator and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, "", args...)
}

// Apply makes the objects of a YAML stream what it says.
func (c *Cluster) Apply(ctx context.Context, yaml string) error {
	_, err := c.kubectl(ctx, yaml, "apply", "-f", "-")
	return err
}

func (c *Cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.opts.Binaries.Kubectl, args...)
	// Its cache goes below HOME, and the user's configuration must not matter.
	cmd.Env = []string{"HOME=" + c.path("kubectl"), "KUBECONFIG=" + c.Kubeconfig, "PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, lastLines(stderr.Bytes(), 10))
	}
	return stdout.String(), nil
}

// deletePods lets kubelet and containerd take the pods down in order. First it
// ends what would make new ones. It is best effort and short: what remains is
// killed afterwards.
func (c *Cluster) deletePods(ctx context.Context) {
	c.mu.Lock()
	procs := slices.Clone(c.procs)
	c.mu.Unlock()
	kubeletRuns := false
	for _, p := range procs {
		switch p.name {
		case "kube-controller-manager", "kube-scheduler":
			p.stop(0)
		case "kubelet":
			kubeletRuns = true
		}
	}
	if !kubeletRuns {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := c.Kubectl(ctx, "delete", "pods", "--all", "--all-namespaces", "--grace-period=1"); err != nil {
		fmt.Fprintf(c.opts.Log, "testbed: pods are killed instead of deleted: %v\n", err)
	}
}
