package kube

// Config is the `kubernetes:` block: how to reach the API server. It is needed only outside
// of a cluster; inside, the pod's service account is used.
type Config struct {
	// KubeconfigFile is a kubeconfig whose current context is used. Default: empty, which
	// means the service account of the pod that Ingot runs in. Set it to run Ingot on a
	// machine that is not a pod. The file itself is read at the start; credentials that it
	// names by file are read again when they change.
	KubeconfigFile string `yaml:"kubeconfig_file,omitempty"`
}

// DefaultConfig returns the configuration of a pod in a cluster.
func DefaultConfig() Config { return Config{} }
