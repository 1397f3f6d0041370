package app

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/httpclient"
	"github.com/ingot-telemetry/ingot/internal/loki"
	"github.com/ingot-telemetry/ingot/internal/remotewrite"
)

// The values of Destination.Type.
const (
	// Prometheus is a backend that takes remote write: Mimir, Cortex, Thanos, Prometheus.
	Prometheus = "prometheus"
	// Loki is a backend that takes Loki's push.
	Loki = "loki"
)

// tenantHeader is the header that multi-tenant backends tell tenants apart by.
const tenantHeader = "X-Scope-OrgID"

// Destination is one element of destinations: a backend.
type Destination struct {
	// Name tells destinations apart in status, metrics and below the data directory: 1 to
	// 40 characters of a-z, 0-9 and dash. A destination that is renamed starts with an
	// empty queue.
	Name string `yaml:"name"`
	// Type is prometheus (remote write) or loki (Loki's push).
	Type string `yaml:"type"`
	// URL is where to push to, path included, such as http://mimir/api/v1/push.
	URL string `yaml:"url"`
	// Tenant is sent as the header X-Scope-OrgID. Default empty: no such header.
	Tenant string `yaml:"tenant,omitempty"`
	// Timeout is how long one request may take. Default 30s for prometheus, 10s for loki.
	Timeout config.Duration `yaml:"timeout"`
	// ExternalLabels are added to everything that has no such label already.
	ExternalLabels map[string]string `yaml:"external_labels,omitempty"`

	// RemoteWrite says how requests of type prometheus are put together.
	RemoteWrite remotewrite.EndpointConfig `yaml:",inline"`
	// Loki says how requests of type loki are put together.
	Loki loki.Config `yaml:",inline"`
	// HTTP holds authentication, TLS and proxy. Unlike in scrape jobs, follow_redirects is
	// false by default: a push that is sent elsewhere is an error to see.
	HTTP promconfig.HTTPClientConfig `yaml:",inline"`
}

// DefaultDestination returns the defaults of a destination of the given type.
func DefaultDestination(typ string) Destination {
	d := Destination{
		Timeout:     config.Duration(30 * time.Second),
		RemoteWrite: remotewrite.DefaultEndpointConfig(),
		Loki:        loki.DefaultConfig(),
		HTTP:        promconfig.DefaultHTTPClientConfig,
	}
	if typ == Loki {
		d.Timeout = config.Duration(10 * time.Second)
	}
	d.HTTP.FollowRedirects = false
	return d
}

// UnmarshalYAML decodes onto the defaults, of which the timeout depends on the type.
func (d *Destination) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Destination
	*d = DefaultDestination("")
	if err := unmarshal((*plain)(d)); err != nil || d.Type != Loki {
		return err
	}
	*d = DefaultDestination(Loki)
	return unmarshal((*plain)(d))
}

// MarshalYAML leaves out the keys that belong to the other type.
func (d Destination) MarshalYAML() (any, error) {
	type plain Destination
	var all, others yaml.Node
	var other any = d.Loki
	if d.Type == Loki {
		other = d.RemoteWrite
	}
	if err := errors.Join(all.Encode(plain(d)), others.Encode(other)); err != nil {
		return nil, err
	}
	var kept []*yaml.Node
	for pair := range slices.Chunk(all.Content, 2) {
		if !slices.ContainsFunc(others.Content, func(n *yaml.Node) bool { return n.Value == pair[0].Value }) {
			kept = append(kept, pair...)
		}
	}
	all.Content = kept
	return &all, nil
}

var nameSyntax = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// tenantSyntax is what Mimir and Loki accept.
var tenantSyntax = regexp.MustCompile(`^[a-zA-Z0-9!_.*'()-]{1,150}$`)

func (d *Destination) knownType() bool { return d.Type == Prometheus || d.Type == Loki }

// Validate returns every problem of the destination as [config.Problems].
func (d *Destination) Validate() error {
	var ps config.Problems
	if !nameSyntax.MatchString(d.Name) {
		ps.Add("name", "must be 1 to 40 characters of a-z, 0-9 and dash, %s", isValue(d.Name))
	}
	if !d.knownType() {
		text := "must be prometheus or loki, " + isValue(d.Type)
		if s := config.Suggest(d.Type, []string{Prometheus, Loki}); s != "" {
			text += "; did you mean " + s + "?"
		}
		ps.Add("type", "%s", text)
	}
	d.validateURL(&ps)
	if t := d.Tenant; t != "" && (!tenantSyntax.MatchString(t) || t == "." || t == "..") {
		ps.Add("tenant", "must be 1 to 150 letters, digits and ! - _ . * ' ( ), and not . or .., is %q", t)
	}
	if d.Timeout <= 0 {
		ps.Add("timeout", "must be longer than 0s, is %s", d.Timeout)
	}
	for _, name := range slices.Sorted(maps.Keys(d.ExternalLabels)) {
		if !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, model.ReservedLabelPrefix) {
			ps.Add(config.Key("external_labels", name), "is no label name: use letters, digits and _, not starting with a digit or __")
		}
	}
	ps.Merge("", d.RemoteWrite.Validate())
	ps.Merge("", d.Loki.Validate())
	d.validateKind(&ps)
	ps.Merge("", httpclient.Validate(&d.HTTP))
	d.validateAuth(&ps)
	d.validateTenant(&ps)
	return ps.Err()
}

func isValue(s string) string {
	if s == "" {
		return "is missing"
	}
	return "is \"" + s + "\""
}

func (d *Destination) validateURL(ps *config.Problems) {
	u, err := url.Parse(d.URL)
	switch {
	case d.URL == "":
		ps.Add("url", "is missing; write the whole address such as %s", d.exampleURL())
	case err != nil:
		// The error of package url would quote it, with what may be a password.
		ps.Add("url", "is no URL; write it as %s and percent-encode special characters", d.exampleURL())
	case u.User != nil:
		ps.Add("url", "must not hold credentials; use basic_auth with username and password_file")
	case u.Scheme != "http" && u.Scheme != "https":
		ps.Add("url", "must start with http:// or https://, as in %s", d.exampleURL())
	case u.Hostname() == "":
		ps.Add("url", "must name a host, as in %s", d.exampleURL())
	case u.Fragment != "":
		ps.Add("url", "must not hold a # part, which is never sent")
	}
}

func (d *Destination) exampleURL() string {
	if d.Type == Loki {
		return "http://loki:3100/loki/api/v1/push"
	}
	return "http://mimir:8080/api/v1/push"
}

// validateKind refuses the keys of the other type, which would do nothing.
func (d *Destination) validateKind(ps *config.Problems) {
	def := DefaultDestination(d.Type)
	if d.Type == Loki {
		for _, key := range changed(d.RemoteWrite, def.RemoteWrite) {
			ps.Add(key, "is a key of type prometheus; remove it, type loki has batch_size, batch_wait and spool")
		}
	}
	if d.Type == Prometheus {
		for _, key := range changed(d.Loki, def.Loki) {
			ps.Add(key, "is a key of type loki; remove it, type prometheus has max_samples_per_send, max_bytes and batch_send_deadline")
		}
	}
}

// changed returns the keys of the fields by which two values of one struct type differ.
func changed(a, b any) (keys []string) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			key, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("yaml"), ",")
			keys = append(keys, key)
		}
	}
	return keys
}

func (d *Destination) validateAuth(ps *config.Problems) {
	if b := d.HTTP.BasicAuth; b != nil {
		if b.Username == "" && b.UsernameFile == "" && b.UsernameRef == "" {
			ps.Add("basic_auth", "has no username; set username or username_file")
		}
		if b.Password == "" && b.PasswordFile == "" && b.PasswordRef == "" {
			ps.Add("basic_auth", "has no password; set password_file or password")
		}
	}
	if a := d.HTTP.Authorization; a != nil && a.Credentials == "" && a.CredentialsFile == "" && a.CredentialsRef == "" {
		ps.Add("authorization", "has no credentials; set credentials_file or credentials")
	}
}

// validateTenant refuses a tenant that is named twice.
func (d *Destination) validateTenant(ps *config.Problems) {
	if d.Tenant == "" {
		return
	}
	const twice = "is set by tenant already; keep one of them"
	isTenant := func(name string) bool {
		return http.CanonicalHeaderKey(name) == http.CanonicalHeaderKey(tenantHeader)
	}
	if d.HTTP.HTTPHeaders != nil {
		for name := range d.HTTP.HTTPHeaders.Headers {
			if isTenant(name) {
				ps.Add(config.Key("http_headers", name), twice)
			}
		}
	}
	for name := range d.RemoteWrite.Headers {
		if isTenant(name) {
			ps.Add(config.Key("headers", name), twice)
		}
	}
}
