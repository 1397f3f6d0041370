package testbed

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Image makes an image of one static binary and hands it to the node's
// containerd, without a registry. Pods name it as given here, with
// imagePullPolicy Never. The binary lies in the image's root under its own
// name, which is the entrypoint when that is empty, beside an empty /tmp that
// everyone may write to.
func (c *Cluster) Image(ctx context.Context, name, binaryPath string, entrypoint []string) error {
	if err := c.image(ctx, name, binaryPath, entrypoint); err != nil {
		return fmt.Errorf("make image %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) image(ctx context.Context, name, binaryPath string, entrypoint []string) (err error) {
	if len(entrypoint) == 0 {
		entrypoint = []string{"/" + filepath.Base(binaryPath)}
	}
	f, err := os.CreateTemp(c.dir, "image-*.tar")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	err = writeImage(f, name, binaryPath, entrypoint)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return c.ctr(ctx, "images", "import", f.Name())
}

// ctr runs containerd's own client in the namespace that kubelet uses.
func (c *Cluster) ctr(ctx context.Context, args ...string) error {
	args = append([]string{"--address", c.containerdSocket(), "--namespace", "k8s.io"}, args...)
	out, err := exec.CommandContext(ctx, "ctr", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args[4:], " "), err, lastLines(out, 5))
	}
	return nil
}

// writeImage writes an archive as docker save does: a manifest, a configuration
// and one layer.
func writeImage(w io.Writer, name, binaryPath string, entrypoint []string) error {
	binary, err := os.ReadFile(binaryPath)
	if err != nil {
		return err
	}
	layer, err := writeLayer(filepath.Base(binaryPath), binary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       map[string]any{"Entrypoint": entrypoint, "WorkingDir": "/"},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	for _, file := range []struct {
		name string
		body []byte
	}{{"manifest.json", manifest}, {"config.json", config}, {"layer.tar", layer}} {
		if err := writeFile(out, file.name, 0o644, file.body); err != nil {
			return err
		}
	}
	return out.Close()
}

func writeLayer(name string, binary []byte) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}); err != nil {
		return nil, err
	}
	if err := writeFile(w, name, 0o755, binary); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return layer.Bytes(), nil
}

func writeFile(w *tar.Writer, name string, mode int64, body []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(body))}); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}
