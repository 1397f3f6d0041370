package testbed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// modulePath tells this repository's root from any other folder with a go.mod.
const modulePath = "github.com/ingot-telemetry/ingot"

// Binaries are the paths of everything that a testbed runs.
type Binaries struct {
	KubeAPIServer         string
	KubeControllerManager string
	KubeScheduler         string
	Kubelet               string
	Kubectl               string
	Etcd                  string
	Cortex                string
	Loki                  string
	// Pause holds a pod's namespaces open; Workload writes numbered log lines and
	// serves metrics, see [ParseLine].
	Pause    string
	Workload string
	// Reaper cleans up when the process that started the testbed dies.
	Reaper string
}

// target is one binary to build.
type target struct {
	name   string // of the file
	module string // folder below testbed/servers
	pkg    string // main package
	tags   string // build tags, with commas
	path   func(*Binaries) *string
}

func targets() []target {
	const (
		kubernetes = "k8s.io/kubernetes/cmd/"
		// Cortex takes a label set apart as a slice; with Prometheus' default
		// representation it builds too, and panics at the first write.
		labelsTag = "slicelabels"
	)
	return []target{
		{"kube-apiserver", "kubernetes", kubernetes + "kube-apiserver", "", func(b *Binaries) *string { return &b.KubeAPIServer }},
		{"kube-controller-manager", "kubernetes", kubernetes + "kube-controller-manager", "", func(b *Binaries) *string { return &b.KubeControllerManager }},
		{"kube-scheduler", "kubernetes", kubernetes + "kube-scheduler", "", func(b *Binaries) *string { return &b.KubeScheduler }},
		{"kubelet", "kubernetes", kubernetes + "kubelet", "", func(b *Binaries) *string { return &b.Kubelet }},
		{"kubectl", "kubernetes", kubernetes + "kubectl", "", func(b *Binaries) *string { return &b.Kubectl }},
		{"etcd", "etcd", "go.etcd.io/etcd/server/v3", "", func(b *Binaries) *string { return &b.Etcd }},
		{"cortex", "cortex", "github.com/cortexproject/cortex/cmd/cortex", labelsTag, func(b *Binaries) *string { return &b.Cortex }},
		{"loki", "loki", "github.com/grafana/loki/v3/cmd/loki", "", func(b *Binaries) *string { return &b.Loki }},
	}
}

// ownTargets are the testbed's own programs. They build within a second or two
// from Go's build cache, so they have no stamp.
func ownTargets() []target {
	return []target{
		{"pause", "", "./testbed/images/pause", "", func(b *Binaries) *string { return &b.Pause }},
		{"workload", "", "./testbed/images/workload", "", func(b *Binaries) *string { return &b.Workload }},
		{"testbed", "", "./testbed/cmd/testbed", "", func(b *Binaries) *string { return &b.Reaper }},
	}
}

// Build installs the Debian packages that are missing and builds every server
// that is not yet in cacheDir, which is .cache/testbed in the repository when
// empty. Each binary has a stamp beside it, made of its module's go.mod and
// go.sum and the Go version; with the right stamp it is not built again. Two
// builds at the same time wait for each other.
func Build(ctx context.Context, cacheDir string, log io.Writer) (Binaries, error) {
	if log == nil {
		log = io.Discard
	}
	var bins Binaries
	root, err := repoRoot()
	if err != nil {
		return bins, err
	}
	if cacheDir == "" {
		cacheDir = filepath.Join(root, ".cache", "testbed")
	}
	if err = os.MkdirAll(cacheDir, 0o755); err != nil {
		return bins, fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lockFile(ctx, filepath.Join(cacheDir, "lock"))
	if err != nil {
		return bins, fmt.Errorf("lock cache folder: %w", err)
	}
	defer unlock()
	if err = installPackages(ctx, log); err != nil {
		return bins, err
	}
	version, err := goVersion(ctx)
	if err != nil {
		return bins, err
	}
	for _, t := range targets() {
		out := filepath.Join(cacheDir, t.name)
		if err = buildServer(ctx, t, filepath.Join(root, "testbed", "servers", t.module), out, version, log); err != nil {
			return bins, err
		}
		*t.path(&bins) = out
	}
	for _, t := range ownTargets() {
		out := filepath.Join(cacheDir, t.name)
		if err = goBuild(ctx, root, t.pkg, out, buildFlags(t, nil)); err != nil {
			return bins, fmt.Errorf("build %s: %w", t.name, err)
		}
		*t.path(&bins) = out
	}
	return bins, nil
}

func buildServer(ctx context.Context, t target, module, out, goVersion string, log io.Writer) error {
	gomod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return fmt.Errorf("build %s: %w", t.name, err)
	}
	gosum, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return fmt.Errorf("build %s: %w", t.name, err)
	}
	flags := buildFlags(t, gomod)
	want := stamp(gomod, gosum, goVersion, strings.Join(flags, " "))
	begin := time.Now()
	if have, err := os.ReadFile(out + ".stamp"); err == nil && string(have) == want && exists(out) {
		progress(log, "have "+t.name, begin)
		return nil
	}
	// The file goes first: a build that is interrupted must not leave a good
	// stamp beside a bad binary.
	if err := os.Remove(out + ".stamp"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("build %s: %w", t.name, err)
	}
	fmt.Fprintf(log, "testbed: building %s\n", t.name)
	if err := goBuild(ctx, module, t.pkg, out, flags); err != nil {
		return fmt.Errorf("build %s: %w", t.name, err)
	}
	if err := os.WriteFile(out+".stamp", []byte(want), 0o644); err != nil {
		return fmt.Errorf("build %s: %w", t.name, err)
	}
	progress(log, "built "+t.name, begin)
	return nil
}

// goBuild runs at low priority and two packages at a time, which keeps the
// largest of these builds below 3 GiB and the machine usable.
func goBuild(ctx context.Context, dir, pkg, out string, flags []string) error {
	args := append([]string{"-n", "10", "go", "build", "-p", "2", "-o", out}, flags...)
	cmd := exec.CommandContext(ctx, "nice", append(args, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	// On cancel the compilers go with the go command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, lastLines(msg, 20))
	}
	return nil
}

// buildFlags are the flags that decide what is in the binary.
func buildFlags(t target, gomod []byte) []string {
	flags := []string{"-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + versionFlags(t, gomod))}
	if t.tags != "" {
		flags = append(flags, "-tags", t.tags)
	}
	return flags
}

// versionFlags sets the version that Kubernetes' programs report. Without it
// kube-apiserver says v0.0.0, and clients that look at the version stumble.
func versionFlags(t target, gomod []byte) string {
	if t.module != "kubernetes" {
		return ""
	}
	version := regexp.MustCompile(`k8s\.io/kubernetes v(\d+)\.(\d+)\.\S+`).FindSubmatch(gomod)
	if version == nil {
		return ""
	}
	const base = "-X k8s.io/component-base/version."
	full := bytes.TrimPrefix(version[0], []byte("k8s.io/kubernetes "))
	return fmt.Sprintf("%sgitVersion=%s %sgitMajor=%s %sgitMinor=%s", base, full, base, version[1], base, version[2])
}

func stamp(gomod, gosum []byte, goVersion, flags string) string {
	sum := sha256.New()
	for _, part := range [][]byte{gomod, gosum, []byte(goVersion), []byte(flags)} {
		// The length keeps the parts apart.
		fmt.Fprintf(sum, "%d\n", len(part))
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil)) + "\n"
}

func goVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("ask go for its version: %w", err)
	}
	return string(out), nil
}

// repoRoot walks up from the current folder, since a test runs in the folder of
// its package.
func repoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(gomod, []byte("module "+modulePath+"\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the repository: no folder above the current one has the go.mod of " + modulePath)
		}
		dir = parent
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
