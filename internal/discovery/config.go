package discovery

import (
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// StaticConfig is one element of static_configs, as in Prometheus: addresses that share
// labels. The same form is what files and HTTP endpoints of discovery hold.
type StaticConfig struct {
	// Targets are addresses, host:port.
	Targets []string `json:"targets" yaml:"targets"`
	// Labels are given to each of the targets.
	Labels model.LabelSet `json:"labels,omitempty" yaml:"labels,omitempty"`
}

// Validate returns the problems of the block. An address that is a URL is one of them,
// since the scheme and the path have keys of their own.
func (c StaticConfig) Validate() error {
	var ps config.Problems
	for i, t := range c.Targets {
		if strings.Contains(t, "/") {
			ps.Add(config.Index("targets", i), "must be host:port without scheme and path, is %q; use scheme and metrics_path", t)
		}
	}
	for name := range c.Labels {
		if !model.UTF8Validation.IsValidLabelName(string(name)) {
			ps.Add("labels", "holds %q, which is no label name", string(name))
		}
	}
	return ps.Err()
}

// FileConfig is one element of file_sd_configs, as in Prometheus.
type FileConfig struct {
	// Files are paths of JSON or YAML files. The last path segment may hold one *.
	Files []string `yaml:"files"`
	// RefreshInterval is how often the files are read even when no change was seen. Default 5m.
	RefreshInterval config.Duration `yaml:"refresh_interval,omitempty"`
}

// UnmarshalYAML decodes onto the defaults.
func (c *FileConfig) UnmarshalYAML(unmarshal func(any) error) error {
	*c = FileConfig{RefreshInterval: config.Duration(5 * time.Minute)}
	type plain FileConfig
	return unmarshal((*plain)(c))
}

// Validate returns the problems of the block.
func (c FileConfig) Validate() error {
	var ps config.Problems
	if len(c.Files) == 0 {
		ps.Add("files", "must list at least one path")
	}
	pattern := regexp.MustCompile(`^[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)$`)
	for i, f := range c.Files {
		if !pattern.MatchString(f) {
			ps.Add(config.Index("files", i), "must end in .json, .yml or .yaml and have a * only in its last segment, is %q", f)
		} else if _, err := filepath.Match(f, ""); err != nil {
			ps.Add(config.Index("files", i), "is no valid pattern: %q", f)
		}
	}
	if c.RefreshInterval <= 0 {
		ps.Add("refresh_interval", "must be positive, is %s", c.RefreshInterval)
	}
	return ps.Err()
}

// SetDirectory makes relative paths start at dir.
func (c *FileConfig) SetDirectory(dir string) {
	for i, f := range c.Files {
		c.Files[i] = promconfig.JoinDir(dir, f)
	}
}

// HTTPConfig is one element of http_sd_configs, as in Prometheus.
type HTTPConfig struct {
	// URL answers with a JSON list of {targets, labels}.
	URL string `yaml:"url"`
	// RefreshInterval is how often the URL is fetched. Default 60s.
	RefreshInterval config.Duration `yaml:"refresh_interval,omitempty"`
	// HTTPClientConfig holds authentication, TLS and proxy of the discovery request.
	HTTPClientConfig promconfig.HTTPClientConfig `yaml:",inline"`
}

// UnmarshalYAML decodes onto the defaults.
func (c *HTTPConfig) UnmarshalYAML(unmarshal func(any) error) error {
	*c = HTTPConfig{RefreshInterval: config.Duration(time.Minute), HTTPClientConfig: promconfig.DefaultHTTPClientConfig}
	type plain HTTPConfig
	return unmarshal((*plain)(c))
}

// Validate returns the problems of the block.
func (c *HTTPConfig) Validate() error {
	var ps config.Problems
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		ps.Add("url", "must be set")
	case err != nil:
		ps.Add("url", "is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		ps.Add("url", "must begin with http:// or https://")
	case u.Host == "":
		ps.Add("url", "has no host")
	}
	if c.RefreshInterval <= 0 {
		ps.Add("refresh_interval", "must be positive, is %s", c.RefreshInterval)
	}
	ps.Merge("", c.HTTPClientConfig.Validate())
	return ps.Err()
}
