package httpclient

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	promconfig "github.com/prometheus/common/config"
)

// tuning is what differs between clients beyond their configuration.
type tuning struct {
	buffers     int           // Bytes of each connection's read buffer and of its write buffer.
	ahead       *readAhead    // Reads long answers in large pieces; nil reads them as they are asked for.
	direct      bool          // Simple requests go around net/http's transport. Needs ahead.
	idle        time.Duration // When an unused connection is closed.
	idlePerHost int
	headerBytes int64 // How long the header of an answer may be.
}

// newRoundTripper does what promconfig.NewRoundTripperFromConfig does, with a transport of
// our own below: the buffers of that one cannot be chosen, and the tracing it puts around each
// connection costs 10 KB. Authentication, TLS and the reading of files again are its parts.
func newRoundTripper(cfg promconfig.HTTPClientConfig, t tuning) (http.RoundTripper, error) {
	around := func(tlsConfig *tls.Config) (http.RoundTripper, error) {
		next := t.transport(cfg, tlsConfig)
		if !t.direct || next.Proxy != nil {
			return authenticated(cfg, next), nil
		}
		return authenticated(cfg, newDirect(next, t)), nil
	}
	ctx := context.Background() // It matters to secret managers only, of which there are none.
	tlsConfig, err := promconfig.NewTLSConfigWithContext(ctx, &cfg.TLSConfig)
	if err != nil {
		return nil, err
	}
	c := cfg.TLSConfig
	if c.CAFile == "" && c.CertFile == "" && c.KeyFile == "" {
		return around(tlsConfig)
	}
	return promconfig.NewTLSRoundTripperWithContext(ctx, tlsConfig, promconfig.TLSRoundTripperSettings{
		CA:   secret(promconfig.Secret(c.CA), c.CAFile),
		Cert: secret(promconfig.Secret(c.Cert), c.CertFile),
		Key:  secret(c.Key, c.KeyFile),
	}, around)
}

// transport returns the transport of a client. It sets no timeout on requests, whose contexts
// have one.
func (t tuning) transport(cfg promconfig.HTTPClientConfig, tlsConfig *tls.Config) *http.Transport {
	dialer := &net.Dialer{}
	rt := &http.Transport{
		Proxy:                  cfg.Proxy(),
		ProxyConnectHeader:     cfg.GetProxyConnectHeader(),
		MaxIdleConnsPerHost:    t.idlePerHost,
		TLSClientConfig:        tlsConfig,
		DisableCompression:     true,
		IdleConnTimeout:        t.idle,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		ReadBufferSize:         t.buffers,
		WriteBufferSize:        t.buffers,
		MaxResponseHeaderBytes: t.headerBytes,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err == nil && t.ahead != nil {
				conn = newAheadConn(conn, t.ahead)
			}
			return conn, err
		},
	}
	if cfg.EnableHTTP2 {
		rt.Protocols = &http.Protocols{}
		rt.Protocols.SetHTTP1(true)
		rt.Protocols.SetHTTP2(true)
		rt.HTTP2 = &http.HTTP2Config{SendPingTimeout: time.Minute}
	}
	return rt
}

// authenticated puts what cfg adds to each request around a transport.
func authenticated(cfg promconfig.HTTPClientConfig, rt http.RoundTripper) http.RoundTripper {
	if a := cfg.Authorization; a != nil {
		rt = promconfig.NewAuthorizationCredentialsRoundTripper(a.Type, secret(a.Credentials, a.CredentialsFile), rt)
	}
	if b := cfg.BasicAuth; b != nil {
		rt = promconfig.NewBasicAuthRoundTripper(secret(promconfig.Secret(b.Username), b.UsernameFile), secret(b.Password, b.PasswordFile), rt)
	}
	if o := cfg.OAuth2; o != nil {
		credential := secret(o.ClientSecret, o.ClientSecretFile)
		if o.GrantType == jwtBearer {
			credential = secret(o.ClientCertificateKey, o.ClientCertificateKeyFile)
		}
		rt = promconfig.NewOAuth2RoundTripper(credential, o, rt)
	}
	if cfg.HTTPHeaders != nil {
		rt = promconfig.NewHeadersRoundTripper(cfg.HTTPHeaders, rt)
	}
	return rt
}

// jwtBearer is the OAuth 2.0 grant type of RFC 7523, for which Prometheus signs with a key.
const jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// secret returns how to read a secret that is given in the configuration or as a file, nil
// for none. It must not return a typed nil.
func secret(text promconfig.Secret, file string) promconfig.SecretReader {
	switch {
	case text != "":
		return promconfig.NewInlineSecret(string(text))
	case file != "":
		return promconfig.NewFileSecret(file)
	default:
		return nil
	}
}
