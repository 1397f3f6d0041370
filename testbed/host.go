package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// statePath says what a running or crashed testbed has to take away again.
	statePath = "/run/ingot-testbed.json"
	lockPath  = "/run/ingot-testbed.lock"
)

// host is the machine as this run changes it. Everything is written to the
// state file before it happens, so that another process can undo it.
type host struct {
	log    io.Writer
	state  *state // nil when there is nothing to undo
	unlock func()
}

// state is the content of the state file.
type state struct {
	WorkDir   string      `json:"work_dir"`
	Processes []processID `json:"processes"`
	// Before lists, for folders that the testbed shares with the machine, the
	// entries that were there first; a folder that is missing here did not exist.
	Before map[string][]string `json:"before"`
	// Chains are the iptables chains that were there first.
	Chains []string `json:"chains"`
	// Sysctls are the kernel settings before kubelet and the CNI plugins wrote
	// them, by file below /proc/sys.
	Sysctls map[string]string `json:"sysctls"`
}

// sharedDirs are the folders whose place the servers do not let us choose.
func sharedDirs() []string {
	return []string{
		"/var/log/pods", "/var/log/containers", // kubelet; Ingot reads them where nodes have them
		"/var/lib/kubelet", // kubelet's device plugins
		"/var/lib/cni", "/var/lib/cni/results", "/var/lib/cni/networks",
		"/run/containerd", "/run/containerd/s", "/run/containerd/runc", // containerd's shims
		"/run/netns", "/run/mount",
	}
}

// sysctls are the settings that kubelet and the CNI plugins change.
func sysctls() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
		"net/ipv4/ip_forward", "net/netfilter/nf_conntrack_max",
	}
}

// lockHost waits for at most patience until no other process runs a testbed, and
// reads what a crashed one left.
func lockHost(ctx context.Context, log io.Writer, patience time.Duration) (*host, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("run a testbed: only root can, since it mounts file systems and makes network devices")
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	unlock, err := lockFile(ctx, lockPath)
	if err != nil {
		return nil, fmt.Errorf("wait until the other testbed on this machine has ended: %w", err)
	}
	h := &host{log: log, unlock: unlock}
	text, err := os.ReadFile(statePath)
	if errors.Is(err, os.ErrNotExist) {
		return h, nil
	}
	if err == nil {
		h.state = &state{}
		err = json.Unmarshal(text, h.state)
	}
	if err != nil {
		unlock()
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return h, nil
}

// claimHost locks the machine, removes what a crashed run left, and notes how
// the machine looks before this run changes it.
func claimHost(ctx context.Context, log io.Writer) (*host, error) {
	// A reaper may be at work; that takes seconds.
	h, err := lockHost(ctx, log, time.Minute)
	if err != nil {
		return nil, err
	}
	if h.state != nil {
		fmt.Fprintf(log, "testbed: cleaning up after a run that crashed, %s\n", h.state.WorkDir)
	}
	err = h.clean()
	if err == nil {
		err = h.look()
	}
	if err != nil {
		h.release()
		return nil, fmt.Errorf("prepare this machine: %w", err)
	}
	return h, nil
}

// look writes the first state file of a run.
func (h *host) look() error {
	if pids := cgroupPIDs(podCgroups()); len(pids) > 0 {
		return fmt.Errorf("pods of another cluster run here (processes %v); a testbed needs a machine without kubelet", pids)
	}
	dir, err := os.MkdirTemp("", "ingot-testbed-")
	if err != nil {
		return err
	}
	// Pods without root read what is mounted from here.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	st := &state{WorkDir: dir, Before: map[string][]string{}, Sysctls: map[string]string{}}
	for _, shared := range sharedDirs() {
		if entries, err := os.ReadDir(shared); err == nil {
			names := []string{}
			for _, e := range entries {
				names = append(names, e.Name())
			}
			st.Before[shared] = names
		}
	}
	for _, name := range sysctls() {
		if value, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil {
			st.Sysctls[name] = strings.TrimSpace(string(value))
		}
	}
	for _, family := range iptablesFamilies() {
		chains, _, err := readIptables(family)
		if err != nil {
			return err
		}
		for _, chain := range chains {
			st.Chains = append(st.Chains, family+" "+chain.String())
		}
	}
	h.state = st
	return h.save()
}

func (h *host) recordProcess(name string, pid int) error {
	start, _, err := processStart(pid)
	if err != nil {
		return err
	}
	h.state.Processes = append(h.state.Processes, processID{name, pid, start})
	return h.save()
}

// save replaces the state file in one step: a half-written one would leave the
// next run without knowledge of this one.
func (h *host) save() error {
	text, err := json.MarshalIndent(h.state, "", "  ")
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := os.WriteFile(statePath+".new", text, 0o600); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := os.Rename(statePath+".new", statePath); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// addBridge makes the network device that joins the pods and carries the
// addresses of the servers.
func (h *host) addBridge() error {
	for _, args := range [][]string{
		// With an address of its own: else a bridge takes one of its ports', another
		// one whenever a pod comes or goes, and pods go on sending to the old one.
		{"link", "add", bridgeName, "address", bridgeMAC, "type", "bridge"},
		{"addr", "add", nodeIP + "/24", "dev", bridgeName},
		{"addr", "add", apiServerIP + "/32", "dev", bridgeName},
		{"link", "set", bridgeName, "up"},
		// Without kube-proxy no other service address answers. A route that
		// refuses them keeps their packets from leaving by the default route.
		{"route", "add", "unreachable", serviceCIDR},
	} {
		if err := command("ip", args...); err != nil {
			return fmt.Errorf("make bridge: %w", err)
		}
	}
	return nil
}

// release lets the next testbed run.
func (h *host) release() { h.unlock() }

// lockFile waits for an exclusive lock on path, which the kernel drops when this
// process ends, however it does.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// command runs a short program and returns what it said when it failed. It takes
// no context: what it does must also be done after a cancel.
func command(program string, args ...string) error {
	out, err := exec.CommandContext(context.Background(), program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
