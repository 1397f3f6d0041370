package kube

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/tools/clientcmd/api/latest"
)

// readKubeconfig returns how the current context of a kubeconfig reaches its API server.
// The files that it names are not opened here. Only client-go's decoder of the format is
// used: its loader comes with the command-line flags of kubectl.
func readKubeconfig(path string) (*rest.Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // The error names the file; the caller adds the key.
	}
	file := api.NewConfig()
	if err = runtime.DecodeInto(latest.Codec, data, file); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	context := file.Contexts[file.CurrentContext]
	if context == nil {
		return nil, fmt.Errorf("%s: current-context %q is not among its contexts", path, file.CurrentContext)
	}
	cluster := file.Clusters[context.Cluster]
	if cluster == nil {
		return nil, fmt.Errorf("%s: cluster %q of context %q is not among its clusters", path, context.Cluster, file.CurrentContext)
	}
	user := file.AuthInfos[context.AuthInfo]
	if user == nil {
		if context.AuthInfo != "" {
			return nil, fmt.Errorf("%s: user %q of context %q is not among its users", path, context.AuthInfo, file.CurrentContext)
		}
		user = &api.AuthInfo{}
	}
	config, err := restConfig(cluster, user, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("%s: context %q: %w", path, file.CurrentContext, err)
	}
	return config, nil
}

// restConfig joins a cluster and a user; names of files are relative to dir.
func restConfig(cluster *api.Cluster, user *api.AuthInfo, dir string) (*rest.Config, error) {
	in := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(dir, name)
	}
	if u, err := url.Parse(cluster.Server); err != nil || u.Host == "" {
		return nil, fmt.Errorf("server must be a URL such as https://10.0.0.1:6443, is %q", cluster.Server)
	}
	if user.AuthProvider != nil {
		return nil, fmt.Errorf("auth-provider %q is not supported; use a token, a client certificate or exec", user.AuthProvider.Name)
	}
	c := &rest.Config{
		Host: cluster.Server,
		TLSClientConfig: rest.TLSClientConfig{
			Insecure:   cluster.InsecureSkipTLSVerify,
			ServerName: cluster.TLSServerName,
			CAFile:     in(cluster.CertificateAuthority),
			CAData:     cluster.CertificateAuthorityData,
			CertFile:   in(user.ClientCertificate),
			CertData:   user.ClientCertificateData,
			KeyFile:    in(user.ClientKey),
			KeyData:    user.ClientKeyData,
		},
		DisableCompression: cluster.DisableCompression,
		BearerToken:        user.Token,
		BearerTokenFile:    in(user.TokenFile),
		Username:           user.Username,
		Password:           user.Password,
		Impersonate: rest.ImpersonationConfig{
			UserName: user.Impersonate,
			UID:      user.ImpersonateUID,
			Groups:   user.ImpersonateGroups,
			Extra:    user.ImpersonateUserExtra,
		},
	}
	if cluster.ProxyURL != "" {
		u, err := url.Parse(cluster.ProxyURL)
		if err != nil {
			return nil, errors.New("proxy-url must be a URL such as http://10.0.0.1:3128")
		}
		c.Proxy = http.ProxyURL(u)
	}
	if user.Exec != nil {
		c.ExecProvider = user.Exec.DeepCopy()
		c.ExecProvider.StdinUnavailable = true
		c.ExecProvider.Config = cluster.Extensions["client.authentication.k8s.io/exec"]
	}
	return c, nil
}
