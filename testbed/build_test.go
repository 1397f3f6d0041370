package testbed

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStampDependsOnEachInput(t *testing.T) {
	base := stamp([]byte("mod"), []byte("sum"), "go1", "link")
	for name, other := range map[string]string{
		"go.mod":  stamp([]byte("mod2"), []byte("sum"), "go1", "link"),
		"go.sum":  stamp([]byte("mod"), []byte("sum2"), "go1", "link"),
		"version": stamp([]byte("mod"), []byte("sum"), "go2", "link"),
		"flags":   stamp([]byte("mod"), []byte("sum"), "go1", "link2"),
		"border":  stamp([]byte("mods"), []byte("um"), "go1", "link"),
	} {
		if other == base {
			t.Errorf("stamp does not depend on %s", name)
		}
	}
}

func TestKubernetesReportsTheVersionOfItsModule(t *testing.T) {
	root, err := repoRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets() {
		gomod, err := os.ReadFile(filepath.Join(root, "testbed", "servers", target.module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(gomod), target.pkg) {
			t.Errorf("go.mod of %s does not name the tool %s, so go mod tidy would drop it", target.module, target.pkg)
		}
		link := versionFlags(target, gomod)
		if has := strings.Contains(link, "version.gitVersion=v1."); has != (target.module == "kubernetes") {
			t.Errorf("versionFlags(%s) = %q", target.name, link)
		}
	}
}

func TestImageIsOneLayerWithTheBinary(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(binary, []byte("machine code"), 0o600); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := writeImage(&archive, "team/program:1", binary, []string{"/program"}); err != nil {
		t.Fatal(err)
	}
	files := untar(t, archive.Bytes())
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest[0].RepoTags[0] != "team/program:1" {
		t.Errorf("manifest = %s, want tag team/program:1", files["manifest.json"])
	}
	layer := files[manifest[0].Layers[0]]
	sum := sha256.Sum256(layer)
	// containerd refuses an image whose layer does not have this sum.
	if config := files[manifest[0].Config]; !strings.Contains(string(config), "sha256:"+hex.EncodeToString(sum[:])) {
		t.Errorf("config %s does not name the layer's sum", config)
	}
	content := untar(t, layer)
	if got := string(content["program"]); got != "machine code" {
		t.Errorf("program = %q, want the binary", got)
	}
	if _, ok := content["tmp/"]; !ok {
		t.Error("the layer has no /tmp")
	}
}

func untar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = body
	}
}
