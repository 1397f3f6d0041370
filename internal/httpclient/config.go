package httpclient

import (
	promconfig "github.com/prometheus/common/config"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// TLS is the block tls: the trust bundle of every client that sets no CA of its own.
type TLS struct {
	// CAFile is a file of PEM certificates to trust. It is read again when it changes.
	// Default empty: the system's certificates.
	CAFile string `yaml:"ca_file,omitempty"`
}

// Validate returns every problem of an HTTP client configuration as [config.Problems]. Where
// a struct inlines the block, its Validate must call this one, since inlining bypasses the
// checks of the type itself. As in Prometheus, bearer_token becomes authorization.
func Validate(cfg *promconfig.HTTPClientConfig) error {
	var ps config.Problems
	ps.Merge("", cfg.Validate())
	checkTLS(&ps, "tls_config", cfg.TLSConfig)
	checkProxy(&ps, "", cfg.ProxyConfig)
	if a := cfg.Authorization; a != nil {
		checkRef(&ps, "authorization.credentials", a.CredentialsRef)
	}
	if b := cfg.BasicAuth; b != nil {
		checkRef(&ps, "basic_auth.username", b.UsernameRef)
		checkRef(&ps, "basic_auth.password", b.PasswordRef)
	}
	if o := cfg.OAuth2; o != nil {
		checkRef(&ps, "oauth2.client_secret", o.ClientSecretRef)
		checkRef(&ps, "oauth2.client_certificate_key", o.ClientCertificateKeyRef)
		checkTLS(&ps, "oauth2.tls_config", o.TLSConfig)
		checkProxy(&ps, "oauth2", o.ProxyConfig)
	}
	return ps.Err()
}

func checkTLS(ps *config.Problems, path string, c promconfig.TLSConfig) {
	ps.Merge(path, c.Validate())
	if c.MinVersion != 0 && c.MaxVersion != 0 && c.MinVersion > c.MaxVersion {
		ps.Add(config.Join(path, "min_version"), "must be at most max_version, %s, is %s", c.MaxVersion.String(), c.MinVersion.String())
	}
	checkRef(ps, config.Join(path, "ca"), c.CARef)
	checkRef(ps, config.Join(path, "cert"), c.CertRef)
	checkRef(ps, config.Join(path, "key"), c.KeyRef)
}

func checkProxy(ps *config.Problems, path string, c promconfig.ProxyConfig) {
	if c.ProxyURL.URL == nil {
		return
	}
	switch scheme := c.ProxyURL.Scheme; scheme {
	case "http", "https", "socks5", "socks5h":
		if c.ProxyURL.Host == "" {
			ps.Add(config.Join(path, "proxy_url"), "must name a host, such as http://proxy:3128")
		}
	default:
		ps.Add(config.Join(path, "proxy_url"), "must start with http://, https:// or socks5://")
	}
}

// checkRef refuses references into a secret manager, which Prometheus' types have a place
// for and no program but one with a manager can follow.
func checkRef(ps *config.Problems, path, ref string) {
	if ref != "" {
		ps.Add(path+"_ref", "names a secret of a secret manager, which Ingot does not have; use %s_file", lastKey(path))
	}
}

func lastKey(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' {
			return path[i+1:]
		}
	}
	return path
}
