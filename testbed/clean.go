package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clean undoes all that the state file names. It needs nothing but that file,
// so it serves the orderly end, the failed start and the crashed run alike. It
// goes on after a failure, and keeps the state file then for the next try.
func (h *host) clean() error {
	st := h.state
	if st == nil {
		return nil
	}
	err := errors.Join(
		st.killServers(),
		st.killPods(),
		st.unmount(),
		st.removeBridge(),
		st.removeChains(),
		st.restoreSysctls(),
		st.removeEntries(),
	)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(st.WorkDir); err != nil {
		return fmt.Errorf("remove work folder: %w", err)
	}
	if err := os.Remove(statePath); err != nil {
		return fmt.Errorf("remove state file: %w", err)
	}
	h.state = nil
	return nil
}

// killServers ends the recorded processes, the last started first: kubelet
// before containerd, so that it restarts no container that dies.
func (st *state) killServers() error {
	var errs []error
	for _, id := range slices.Backward(st.Processes) {
		errs = append(errs, kill(id))
	}
	return errors.Join(errs...)
}

// kill ends one process and waits until it is gone.
func kill(id processID) error {
	for range 100 {
		if !id.alive() {
			return nil
		}
		if err := syscall.Kill(id.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %s (%d): %w", id.Name, id.PID, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("kill %s (%d): it does not end", id.Name, id.PID)
}

// killPods ends containerd's shims, whose command line has the work folder, and
// every process in the cgroups that kubelet made for pods, then removes these.
func (st *state) killPods() error {
	var errs []error
	for _, pid := range shimPIDs(st.WorkDir) {
		errs = append(errs, killPID("containerd-shim", pid))
	}
	cgroups := podCgroups()
	for _, pid := range cgroupPIDs(cgroups) {
		errs = append(errs, killPID("process of a pod", pid))
	}
	// A folder can go once its children have; the kernel needs a moment after
	// the last process.
	for _, dir := range slices.Backward(cgroups) {
		errs = append(errs, removeCgroup(dir))
	}
	return errors.Join(errs...)
}

func killPID(name string, pid int) error {
	// A process that cannot be read has ended, and one with start time 0 is never
	// alive.
	start, _, _ := processStart(pid)
	return kill(processID{name, pid, start})
}

func shimPIDs(workDir string) []int {
	var pids []int
	// Glob fails only on a bad pattern.
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := bytes.Split(text, []byte{0})
		if bytes.Contains(args[0], []byte("containerd-shim")) && bytes.Contains(text, []byte(workDir+"/")) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// podCgroups lists kubelet's cgroups, parents before children, in every
// hierarchy of version 1 and in the one of version 2.
func podCgroups() []string {
	var dirs []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/kubepods", "/sys/fs/cgroup/kubepods"} {
		roots, _ := filepath.Glob(pattern)
		for _, root := range roots {
			// A cgroup that vanishes during the walk is one less to remove.
			_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
		}
	}
	return dirs
}

func cgroupPIDs(cgroups []string) []int {
	var pids []int
	for _, dir := range cgroups {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func removeCgroup(dir string) error {
	var err error
	for range 60 {
		err = syscall.Rmdir(dir)
		if err == nil || errors.Is(err, syscall.ENOENT) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("remove cgroup %s: %w", dir, err)
}

// unmount takes away every mount below the work folder: the containers' root
// file systems, their network namespaces and kubelet's volumes.
func (st *state) unmount() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for _, point := range mountsBelow(string(text), st.WorkDir) {
		if err = syscall.Unmount(point, 0); err == nil {
			continue
		}
		// A mount that is still in use goes when its last user does.
		if err = syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	text, err = os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	// The work folder is removed next, and removing follows mounts.
	if left := mountsBelow(string(text), st.WorkDir); len(left) > 0 {
		errs = append(errs, fmt.Errorf("unmount below the work folder: still mounted: %s", strings.Join(left, " ")))
	}
	return errors.Join(errs...)
}

// mountsBelow returns the mount points below dir, deepest first.
func mountsBelow(mountinfo, dir string) []string {
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	// A later mount may lie on top of an earlier one at the same place, so the
	// order among equals is kept from the end.
	slices.Reverse(points)
	sort.SliceStable(points, func(i, j int) bool { return len(points[i]) > len(points[j]) })
	return points
}

// removeBridge deletes the bridge, and with it its addresses. The pods' devices
// have gone with their network namespaces.
func (st *state) removeBridge() error {
	// Deleting a route that is not there fails, and so says nothing.
	_ = command("ip", "route", "del", "unreachable", serviceCIDR)
	if !exists("/sys/class/net/" + bridgeName) {
		return nil
	}
	ports, _ := filepath.Glob("/sys/class/net/" + bridgeName + "/brif/*")
	for _, port := range ports {
		// The kernel may be deleting the device at this moment.
		_ = command("ip", "link", "del", filepath.Base(port))
	}
	if err := command("ip", "link", "del", bridgeName); err != nil {
		return fmt.Errorf("remove bridge: %w", err)
	}
	return nil
}

func (st *state) restoreSysctls() error {
	var errs []error
	for name, want := range st.Sysctls {
		path := filepath.Join("/proc/sys", name)
		have, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(have)) == want {
			continue
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("restore %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// removeEntries removes from the shared folders what was not there before.
func (st *state) removeEntries() error {
	var errs []error
	for _, dir := range sharedDirs() {
		before, existed := st.Before[dir]
		if !existed {
			errs = append(errs, removeAll(dir))
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if !slices.Contains(before, e.Name()) && !slices.Contains(sharedDirs(), path) {
				errs = append(errs, removeAll(path))
			}
		}
	}
	return errors.Join(errs...)
}

func removeAll(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
