package podlogs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func TestConfigIsCheckedWithEveryProblemAtOnce(t *testing.T) {
	type root struct {
		PodLogs  PodConfig    `yaml:"pod_logs"`
		FileLogs []FileConfig `yaml:"file_logs"`
	}
	load := func(text string) (root, error) {
		c := root{PodLogs: DefaultPodConfig()}
		if err := config.Load([]byte(text), &c); err != nil {
			return c, err
		}
		var ps config.Problems
		ps.Merge("pod_logs", c.PodLogs.Validate())
		for i, f := range c.FileLogs {
			ps.Merge(config.Index("file_logs", i), f.Validate())
		}
		return c, ps.Err()
	}
	c, err := load(`
pod_logs: {enabled: true}
file_logs:
  - {paths: ["/var/log/*.log"], labels: {job: integrations/talos}, stages: []}
`)
	if err != nil {
		t.Fatal(err)
	}
	if c.PodLogs.Path != "/var/log/pods" || c.FileLogs[0].Format != FormatRaw {
		t.Errorf("defaults are not applied: %+v", c)
	}
	_, err = load(`
pod_logs: {path: "", namespaces: ["", "a("], metadata_timeout: 5s, scan_interval: 1ms}
file_logs:
  - {format: xml}
  - paths: [relative.log, "/a/[", "/a/**/b/c"]
    labels: {__x: a}
    stages: [{drop: {}}]
`)
	want := `pod_logs.path: must be the kubelet's directory of pod logs, such as /var/log/pods
pod_logs.namespaces[0]: must be a namespace or a regular expression, is empty
pod_logs.namespaces[1]: must be a namespace or a regular expression: error parsing regexp: missing closing ): ` + "`a(`" + `
pod_logs.scan_interval: must be at least 100ms, is 1ms
file_logs[0].paths: must name at least one file or pattern, such as /var/log/*.log
file_logs[0].format: must be cri, docker or raw, is "xml"
file_logs[1].paths[0]: must be an absolute path or pattern, is "relative.log"
file_logs[1].paths[1]: must be a pattern of *, ? and [a-z], is "/a/["
file_logs[1].paths[2]: may have ** only as the directory before the name of the file, as in /var/log/**/*.log, is "/a/**/b/c"
file_logs[1].labels.__x: must be a label name: letters, digits and _, not starting with a digit or __
file_logs[1].stages[0].drop: must have at least one of source, expression, older_than and longer_than`
	if err == nil {
		t.Fatal("a bad configuration was accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if _, err := load("file_logs: [{paths: [/a], formt: raw}]"); err == nil {
		t.Error("an unknown key in a list element was accepted")
	} else if want := "file_logs[0].formt: "; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("unknown key: %v, want %s...", err, want)
	}
}
