package promoperator

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	promconfig "github.com/prometheus/common/config"
	corev1 "k8s.io/api/core/v1"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// client is what the kinds say in different places about HTTP requests. Fields are paths,
// relative to that of the endpoint; proxies of a Probe stand below prober.
type client struct {
	field           string
	proxyField      string
	authorization   *monitoringv1.SafeAuthorization
	basicAuth       *monitoringv1.BasicAuth
	oauth2          *monitoringv1.OAuth2
	bearer          *corev1.SecretKeySelector
	tls             *monitoringv1.SafeTLSConfig
	proxy           monitoringv1.ProxyConfig
	followRedirects *bool
	enableHTTP2     *bool
}

// endpointClient is the client of endpoints of pods and services.
func endpointClient(field string, c monitoringv1.HTTPConfigWithoutTLS, tls *monitoringv1.SafeTLSConfig, proxy monitoringv1.ProxyConfig) client {
	return client{
		field: field, proxyField: field,
		authorization: c.Authorization, basicAuth: c.BasicAuth, oauth2: c.OAuth2,
		bearer: c.BearerTokenSecret, //nolint:staticcheck // Deprecated in the operator, and still in use.
		tls:    tls, proxy: proxy,
		followRedirects: c.FollowRedirects, enableHTTP2: c.EnableHTTP2,
	}
}

// httpClient returns the configuration of a client, with all values that it refers to.
func (o *object) httpClient(c client, class ScrapeClass) promconfig.HTTPClientConfig {
	h := promconfig.DefaultHTTPClientConfig
	if c.followRedirects != nil {
		h.FollowRedirects = *c.followRedirects
	}
	if c.enableHTTP2 != nil {
		h.EnableHTTP2 = *c.enableHTTP2
	}
	o.checkOneOf(c)
	if b := c.basicAuth; b != nil {
		h.BasicAuth = &promconfig.BasicAuth{
			Username: o.secret(c.field+".basicAuth.username", b.Username),
			Password: promconfig.Secret(o.secret(c.field+".basicAuth.password", b.Password)),
		}
	}
	if c.bearer != nil && c.bearer.Name != "" {
		h.Authorization = &promconfig.Authorization{
			Type:        "Bearer",
			Credentials: o.token(c.field+".bearerTokenSecret", *c.bearer),
		}
	}
	if c.oauth2 != nil {
		h.OAuth2 = o.oauth2(c.field+".oauth2", c.oauth2)
	}
	if c.authorization != nil {
		h.Authorization = o.authorization(c.field+".authorization", *c.authorization, class)
	} else if class.Authorization != nil && h.BasicAuth == nil && h.OAuth2 == nil && h.Authorization == nil {
		copied := *class.Authorization
		copied.Type = cmp.Or(copied.Type, "Bearer")
		h.Authorization = &copied
	}
	h.TLSConfig = o.tlsConfig(c.field+".tlsConfig", c.tls, class.TLSConfig)
	h.ProxyConfig = o.proxyConfig(c.proxyField, c.proxy)
	return h
}

// checkOneOf rejects more than one kind of authentication, of which Prometheus takes none.
func (o *object) checkOneOf(c client) {
	var used []string
	for name, there := range map[string]bool{
		"authorization":     c.authorization != nil,
		"basicAuth":         c.basicAuth != nil,
		"oauth2":            c.oauth2 != nil,
		"bearerTokenSecret": c.bearer != nil && c.bearer.Name != "",
	} {
		if there {
			used = append(used, name)
		}
	}
	if len(used) > 1 {
		slices.Sort(used)
		o.reject(c.field, "has %s, of which one may be there", strings.Join(used, " and "))
	}
}

func (o *object) authorization(field string, a monitoringv1.SafeAuthorization, class ScrapeClass) *promconfig.Authorization {
	out := promconfig.Authorization{Type: cmp.Or(strings.TrimSpace(a.Type), "Bearer")}
	if strings.EqualFold(out.Type, "basic") {
		o.reject(field+".type", "must not be basic; use basicAuth")
	}
	switch {
	case a.Credentials != nil && a.Credentials.Name != "":
		out.Credentials = o.token(field+".credentials", *a.Credentials)
	case class.Authorization != nil:
		out.Credentials, out.CredentialsFile = class.Authorization.Credentials, class.Authorization.CredentialsFile
	default:
		o.warn(field+".credentials", "is missing, so an authorization without credentials is sent")
	}
	return &out
}

func (o *object) oauth2(field string, a *monitoringv1.OAuth2) *promconfig.OAuth2 {
	if a.TokenURL == "" {
		o.reject(field+".tokenUrl", "must be set")
	}
	if a.ClientID == (monitoringv1.SecretOrConfigMap{}) {
		o.reject(field+".clientId", "must be set")
	}
	return &promconfig.OAuth2{
		ClientID:       o.value(field+".clientId", a.ClientID),
		ClientSecret:   promconfig.Secret(o.secret(field+".clientSecret", a.ClientSecret)),
		TokenURL:       string(a.TokenURL),
		Scopes:         a.Scopes,
		EndpointParams: a.EndpointParams,
		TLSConfig:      o.tlsConfig(field+".tlsConfig", a.TLSConfig, promconfig.TLSConfig{}),
		ProxyConfig:    o.proxyConfig(field, a.ProxyConfig),
	}
}

// denyFiles rejects what would make Ingot read its own files and send them to a target that
// the writer of the object chooses.
func (o *object) denyFiles(field string, files map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if files[name] != "" {
			o.reject(config.Join(field, name), "names a file of Ingot's own pod, which objects may not read; put the content into a Secret beside the object")
		}
	}
}

// tlsConfig returns the TLS settings of an object, or of its class where it has none.
func (o *object) tlsConfig(field string, c *monitoringv1.SafeTLSConfig, class promconfig.TLSConfig) promconfig.TLSConfig {
	if c == nil || *c == (monitoringv1.SafeTLSConfig{}) {
		return class
	}
	if err := c.Validate(); err != nil {
		o.reject(field, "%v", err)
		return class
	}
	out := promconfig.TLSConfig{
		CA:                 o.value(field+".ca", c.CA),
		Cert:               o.value(field+".cert", c.Cert),
		InsecureSkipVerify: c.InsecureSkipVerify != nil && *c.InsecureSkipVerify,
		MinVersion:         o.tlsVersion(field+".minVersion", c.MinVersion),
		MaxVersion:         o.tlsVersion(field+".maxVersion", c.MaxVersion),
	}
	if c.KeySecret != nil {
		out.Key = promconfig.Secret(o.secret(field+".keySecret", *c.KeySecret))
	}
	if c.ServerName != nil {
		out.ServerName = *c.ServerName
	}
	if err := checkCertificate(out.CA); err != nil {
		o.reject(field+".ca", "%v", err)
	}
	if out.Cert != "" && out.Key != "" && out.Cert != Assumed && out.Key != Assumed {
		if _, err := tls.X509KeyPair([]byte(out.Cert), []byte(out.Key)); err != nil {
			o.reject(field+".cert", "and keySecret are no pair of certificate and key: %v", err)
		}
	}
	if out.CA == "" {
		out.CA, out.CAFile = class.CA, class.CAFile
	}
	if out.Cert == "" && out.Key == "" {
		out.Cert, out.CertFile, out.Key, out.KeyFile = class.Cert, class.CertFile, class.Key, class.KeyFile
	}
	return out
}

// checkCertificate says what is wrong with a CA. The text of the error holds none of it.
func checkCertificate(text string) error {
	if text == "" || text == Assumed {
		return nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return errors.New("is no certificate in PEM")
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return errors.New("is PEM but no certificate")
	}
	return nil
}

func (o *object) tlsVersion(field string, v *monitoringv1.TLSVersion) promconfig.TLSVersion {
	if v == nil || *v == "" {
		return 0
	}
	version, ok := promconfig.TLSVersions[string(*v)]
	if !ok {
		o.reject(field, "must be one of TLS10, TLS11, TLS12, TLS13, is %q", *v)
	}
	return version
}

func (o *object) proxyConfig(field string, p monitoringv1.ProxyConfig) promconfig.ProxyConfig {
	var out promconfig.ProxyConfig
	if err := p.Validate(); err != nil {
		o.reject(config.Join(field, "proxyUrl"), "%v", config.WithoutURL(err))
		return out
	}
	if p.ProxyURL != nil && *p.ProxyURL != "" {
		u, err := url.Parse(*p.ProxyURL)
		if err != nil {
			o.reject(config.Join(field, "proxyUrl"), "is no URL")
		}
		out.ProxyURL = promconfig.URL{URL: u}
	}
	if p.NoProxy != nil {
		out.NoProxy = *p.NoProxy
	}
	out.ProxyFromEnvironment = p.ProxyFromEnvironment != nil && *p.ProxyFromEnvironment
	for _, name := range slices.Sorted(maps.Keys(p.ProxyConnectHeader)) {
		if out.ProxyConnectHeader == nil {
			out.ProxyConnectHeader = promconfig.ProxyHeader{}
		}
		for i, s := range p.ProxyConnectHeader[name] {
			path := config.Index(config.Key(config.Join(field, "proxyConnectHeader"), name), i)
			out.ProxyConnectHeader[name] = append(out.ProxyConnectHeader[name], o.token(path, s))
		}
	}
	return out
}

// value returns the value of a key of a Secret or a ConfigMap, "" where the object names none.
func (o *object) value(field string, s monitoringv1.SecretOrConfigMap) string {
	switch {
	case s.Secret != nil && s.ConfigMap != nil:
		o.reject(field, "names a Secret and a ConfigMap, of which one may be there")
	case s.Secret != nil:
		return o.secret(field+".secret", *s.Secret)
	case s.ConfigMap != nil:
		o.refer("ConfigMap", s.ConfigMap.Name)
		v, err := o.configMaps.ConfigMap(o.namespace, s.ConfigMap.Name, s.ConfigMap.Key)
		if err != nil {
			o.reject(field+".configMap", "%v", err)
		}
		return v
	}
	return ""
}

// secret returns the value of a key of a Secret in the namespace of the object.
func (o *object) secret(field string, s corev1.SecretKeySelector) string {
	o.refer("Secret", s.Name)
	v, err := o.secrets.Secret(o.namespace, s.Name, s.Key)
	if err != nil {
		o.reject(field, "%v", err)
	}
	return v
}

// token returns a secret that becomes part of a header.
func (o *object) token(field string, s corev1.SecretKeySelector) promconfig.Secret {
	v := o.secret(field, s)
	if strings.ContainsAny(v, "\r\n") {
		o.warn(field, "key %s of Secret %s has a line break, which no header can hold, so that every request fails; write it without", s.Key, s.Name)
	}
	return promconfig.Secret(v)
}
