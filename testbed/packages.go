package testbed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// cniBinDir is where Debian puts the CNI plugins.
const cniBinDir = "/usr/lib/cni"

// debianPackages names, for each package the node needs, one file that proves
// it is there.
func debianPackages() []struct{ name, program string } {
	return []struct{ name, program string }{
		{"containerd", "containerd"},
		{"runc", "runc"},
		{"containernetworking-plugins", cniBinDir + "/bridge"},
		{"iptables", "iptables"},
		{"conntrack", "conntrack"},
		{"iproute2", "ip"},
	}
}

// installPackages installs what is missing and asks nothing of the package
// registry when all is there.
func installPackages(ctx context.Context, log io.Writer) error {
	var missing []string
	for _, p := range debianPackages() {
		if _, err := exec.LookPath(p.program); err != nil {
			missing = append(missing, p.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	names := strings.Join(missing, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("install Debian packages %s: only root can; run apt-get install %s", names, names)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return errors.New("install Debian packages " + names + ": this machine has no apt-get; install them by hand")
	}
	begin := time.Now()
	install := append([]string{"install", "--yes", "--no-install-recommends"}, missing...)
	for _, args := range [][]string{{"update"}, install} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("install Debian packages %s: apt-get %s: %w\n%s", names, args[0], err, lastLines(out, 10))
		}
	}
	progress(log, "installed "+names, begin)
	return nil
}
