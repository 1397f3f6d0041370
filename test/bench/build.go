//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// modulePath tells this repository's root from any other folder with a go.mod.
const modulePath = "github.com/ingot-telemetry/ingot"

// A peer is a program that is measured beside Ingot. Its module is below test/bench/peers.
type peer struct {
	name string
	pkg  string // Main package.
	cgo  bool   // It is released with cgo, so it is measured with it where there is a compiler.
}

func peers() []peer {
	return []peer{
		{vmagentName, "github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent", true},
		{promagentName, ".", false},
	}
}

// build builds Ingot and, if asked for, the peers that are to be measured.
func (b *bench) build(ctx context.Context, withPeers bool) error {
	root, err := repoRoot()
	if err != nil {
		return err
	}
	b.cacheDir = filepath.Join(root, ".cache", "bench")
	if err = os.MkdirAll(b.cacheDir, 0o755); err != nil {
		return fmt.Errorf("make cache folder: %w", err)
	}
	b.ingot = b.opts.ingot
	if b.ingot == "" {
		begin := time.Now()
		b.ingot = filepath.Join(b.cacheDir, "ingot")
		if err = goBuild(ctx, root, "./cmd/ingot", b.ingot, false); err != nil {
			return fmt.Errorf("build ingot: %w", err)
		}
		b.progress("built ingot in %.1f s", time.Since(begin).Seconds())
	}
	b.peers = map[string]string{}
	if !withPeers {
		return nil
	}
	version, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOARCH").Output()
	if err != nil {
		return fmt.Errorf("ask go for its version: %w", err)
	}
	for _, p := range peers() {
		if b.wanted(p.name) {
			b.peers[p.name] = filepath.Join(b.cacheDir, p.name)
			if err := b.buildPeer(ctx, p, filepath.Join(root, "test", "bench", "peers", p.name), version); err != nil {
				return fmt.Errorf("build %s: %w", p.name, err)
			}
		}
	}
	return nil
}

// buildPeer builds a peer unless the stamp beside it says that it is the one wanted.
func (b *bench) buildPeer(ctx context.Context, p peer, module string, goVersion []byte) error {
	_, err := exec.LookPath("gcc")
	cgo := p.cgo && err == nil
	sum := sha256.New()
	fmt.Fprintf(sum, "%s %v\n", goVersion, cgo)
	err = fs.WalkDir(os.DirFS(module), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(module, name))
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
		return err
	})
	if err != nil {
		return err
	}
	begin, out, want := time.Now(), b.peers[p.name], hex.EncodeToString(sum.Sum(nil))+"\n"
	stamp := out + ".stamp"
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		b.progress("have %s", p.name)
		return nil
	}
	// The stamp goes first: a build that is interrupted must not leave a good one.
	if err := os.Remove(stamp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.progress("building %s (cgo: %v)", p.name, cgo)
	if err := goBuild(ctx, module, p.pkg, out, cgo); err != nil {
		return err
	}
	b.progress("built %s in %.1f s", p.name, time.Since(begin).Seconds())
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// goBuild runs at low priority, so that the machine stays usable.
func goBuild(ctx context.Context, dir, pkg, out string, cgo bool) error {
	cmd := exec.CommandContext(ctx, "nice", "-n", "10", "go", "build", "-trimpath", "-buildvcs=false", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	// On cancel the compilers go with the go command.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(msg))
	}
	return nil
}

// repoRoot walks up from the current folder, since a test runs in the folder of its package.
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
