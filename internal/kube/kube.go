// Package kube keeps small copies of Kubernetes objects in memory and is the only door to
// client-go.
//
// Each kind of object has one store, and each store one watch, or one for each namespace that
// its users look at: a streaming list fills it, the events of the same watch keep it current,
// and objects are reduced to the few fields that Ingot uses before they are kept. Readers ask
// the store and wait on a coalesced change signal: that of [PodStore] carries nothing, that of
// [Store] the names of what has changed. Secrets and ConfigMaps are watched one by one, by name
// ([Values]); objects of the Prometheus Operator are kept as JSON ([Custom]).
//
// Nothing here ends the program. While the API server is away or a permission is missing a
// store keeps what it has, tries for ever with growing pauses, and says so through Err,
// Status and its metrics.
//
// The package deliberately does not know scrape targets or log files, never writes to the
// cluster, and starts no watch by itself: the program runs the stores that something uses.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"
)

// ErrNotInCluster is what [New] returns when there is neither a kubeconfig file nor the
// environment that a pod has.
var ErrNotInCluster = errors.New("find the Kubernetes API server: this is not a pod of a cluster; " +
	"set kubernetes.kubeconfig_file to run outside of one")

// serviceAccountDir is where the kubelet mounts the credentials of a pod.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// Client is the way to one API server and owner of the stores that are filled from it.
type Client struct {
	config *rest.Config
	scheme *runtime.Scheme
	pods   *PodStore

	podDetails     *Store[PodDetail]
	nodes          *Store[Node]
	services       *Store[Service]
	endpointSlices *Store[EndpointSlice]
	ingresses      *Store[Ingress]
	namespaces     *Store[Meta]

	secrets, configMaps *Values
	custom              map[string]*Store[Custom] // By kind.

	mu   sync.Mutex // guards conn
	conn rest.Interface
}

// New finds out where the API server is: from the kubeconfig file, else from the
// environment of a pod, else it returns [ErrNotInCluster]. It reads the kubeconfig file and
// nothing else; certificates and tokens are first read, and connections opened, when a store
// runs. The pod store watches the pods of the node named nodeName.
func New(cfg Config, nodeName string, log *slog.Logger, reg prometheus.Registerer) (*Client, error) {
	if nodeName == "" {
		return nil, errors.New("watch the pods of this node: its name is not known; set --node-name or NODE_NAME")
	}
	config, err := clientConfig(cfg, serviceAccountDir)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, scheme: newScheme()}
	m := newMetrics(reg)
	c.pods = newPodStore(nodeName, c.connect, log, m)
	c.podDetails = newStore(podDetailKind(), c.connect, log, m)
	c.nodes = newStore(nodeKind(), c.connect, log, m)
	c.services = newStore(serviceKind(), c.connect, log, m)
	c.endpointSlices = newStore(endpointSliceKind(), c.connect, log, m)
	c.ingresses = newStore(ingressKind(), c.connect, log, m)
	c.namespaces = newStore(namespaceKind(), c.connect, log, m)
	c.custom = map[string]*Store[Custom]{}
	for _, k := range customKinds() {
		c.custom[k.Kind] = newStore(k.store(), c.connect, log, m)
	}
	c.secrets = newValues(secretKind, c.connect, log, m)
	c.configMaps = newValues(configMapKind, c.connect, log, m)
	return c, nil
}

// Pods returns the store of this node's pods. It is empty until its Run is running.
func (c *Client) Pods() *PodStore { return c.pods }

// Namespace returns the namespace that Ingot runs in, that of its pod. Outside of a cluster
// there is none.
func (c *Client) Namespace() (string, error) {
	data, err := os.ReadFile(filepath.Join(serviceAccountDir, "namespace"))
	if err != nil {
		return "", fmt.Errorf("find the namespace that Ingot runs in: %w; name namespaces instead of own_namespace", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// PodDetails returns the store of the pods of the cluster. It, like the following ones, is empty
// until its Run is running.
func (c *Client) PodDetails() *Store[PodDetail] { return c.podDetails }

// Nodes returns the store of the cluster's nodes.
func (c *Client) Nodes() *Store[Node] { return c.nodes }

// Services returns the store of services.
func (c *Client) Services() *Store[Service] { return c.services }

// EndpointSlices returns the store of endpoint slices. Its Users are those of pods.
func (c *Client) EndpointSlices() *Store[EndpointSlice] { return c.endpointSlices }

// Ingresses returns the store of ingresses.
func (c *Client) Ingresses() *Store[Ingress] { return c.ingresses }

// Namespaces returns the store of what is known of namespaces.
func (c *Client) Namespaces() *Store[Meta] { return c.namespaces }

// Custom returns the store of a kind of the Prometheus Operator: ServiceMonitor, PodMonitor,
// Probe or ScrapeConfig; nil for another one.
func (c *Client) Custom(kind string) *Store[Custom] { return c.custom[kind] }

// Secrets returns the Secrets that are wanted by name.
func (c *Client) Secrets() *Values { return c.secrets }

// ConfigMaps returns the ConfigMaps that are wanted by name.
func (c *Client) ConfigMaps() *Values { return c.configMaps }

// Shared is what there is to do with a [Store] whatever its objects are.
type Shared interface {
	Kind() string
	Needed() bool
	Run(ctx context.Context) error
	Synced() bool
	Refused() bool
	Err() error
	Status() []Status
}

// Needed returns the stores that have been told of users, for the program to run.
func (c *Client) Needed() []Shared {
	return slices.DeleteFunc(c.shared(), func(s Shared) bool { return !s.Needed() })
}

func (c *Client) shared() []Shared {
	all := []Shared{c.podDetails, c.nodes, c.services, c.endpointSlices, c.ingresses, c.namespaces}
	for _, k := range customKinds() {
		all = append(all, c.custom[k.Kind])
	}
	return all
}

// Status returns a snapshot of the stores that are running.
func (c *Client) Status() []Status {
	all := []Status{c.pods.Status()}
	for _, s := range c.shared() {
		all = append(all, s.Status()...)
	}
	all = append(append(all, c.secrets.Status()...), c.configMaps.Status()...)
	return slices.DeleteFunc(all, func(s Status) bool { return !s.Running })
}

// connect returns the connection that all stores share. It is made on first use, so that a
// token that is not mounted yet is one store's passing trouble. Tokens and certificate
// authorities are read again by client-go when their files change.
func (c *Client) connect() (rest.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	rt, err := rest.TransportFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("build the client of %s: %w", c.config.Host, err)
	}
	// An API server does not redirect, and the token is meant for it alone.
	client := &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	conn, err := rest.RESTClientForConfigAndClient(c.config, client)
	if err != nil {
		return nil, fmt.Errorf("build the client of %s: %w", c.config.Host, err)
	}
	c.conn = conn
	return conn, nil
}

// LogThrough sends what client-go says outside of any watch (a token that cannot be read
// again, a certificate authority that changed) to log instead of to standard error. It sets
// state of the whole process and is called once, by the program's start.
func LogThrough(log *slog.Logger) { klog.SetSlogLogger(log) }

func clientConfig(cfg Config, accountDir string) (*rest.Config, error) {
	config, err := location(cfg, accountDir)
	if err != nil {
		return nil, err
	}
	scheme := newScheme()
	gv := corev1.SchemeGroupVersion
	config.APIPath = "/api"
	config.GroupVersion = &gv
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.UserAgent = "ingot"
	// A watch is one request in minutes. The limit only bounds what a defect could do to the
	// API server: 5 requests a second, all stores together.
	config.QPS, config.Burst = 5, 10
	if config.BearerTokenFile != "" {
		// client-go's own way to read a token file again does so once a minute, refused or
		// not. This one also does after a refusal.
		tokens := transport.NewCachedFileTokenSource(config.BearerTokenFile)
		config.BearerToken, config.BearerTokenFile = "", ""
		config.Wrap(transport.ResettableTokenSourceWrapTransport(tokens))
	}
	return config, nil
}

func location(cfg Config, accountDir string) (*rest.Config, error) {
	if cfg.KubeconfigFile != "" {
		config, err := readKubeconfig(cfg.KubeconfigFile)
		if err != nil {
			return nil, fmt.Errorf("use kubernetes.kubeconfig_file: %w", err)
		}
		return config, nil
	}
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, ErrNotInCluster
	}
	return &rest.Config{
		Host:            "https://" + net.JoinHostPort(host, port),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(accountDir, "ca.crt")},
		BearerTokenFile: filepath.Join(accountDir, "token"),
	}, nil
}

// newScheme knows exactly the types that the stores decode. The typed clients of client-go
// know all of Kubernetes, at some megabytes of memory.
func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Node{}, &corev1.NodeList{},
		&corev1.Pod{}, &corev1.PodList{}, &corev1.Service{}, &corev1.ServiceList{},
		&corev1.Secret{}, &corev1.SecretList{}, &corev1.ConfigMap{}, &corev1.ConfigMapList{})
	s.AddKnownTypes(discoveryv1.SchemeGroupVersion, &discoveryv1.EndpointSlice{}, &discoveryv1.EndpointSliceList{})
	s.AddKnownTypes(networkingv1.SchemeGroupVersion, &networkingv1.Ingress{}, &networkingv1.IngressList{})
	for _, v := range []schema.GroupVersion{corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(s, v)
	}
	addCustomTo(s)
	// It returns an error only to fit a table of such functions, and has none to return.
	if err := metav1.AddMetaToScheme(s); err != nil {
		panic(err)
	}
	return s
}
