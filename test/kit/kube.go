package kit

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Kube is a Kubernetes API server in memory that answers get, list and watch over TLS and
// HTTP/2 with a bearer token, as strictly as the real one where clients can notice: resource
// versions, pages, streaming lists, bookmarks, forgotten history (410), field and label
// selectors, objects reduced to their metadata. It can be taken down, made to refuse, and
// made to end or cut its watches. It does not admit, default or write over HTTP: tests
// change objects through [Kube.Put] and [Kube.Delete].
type Kube struct {
	// BookmarkEvery is the time between two bookmarks of a watch; as the real one, a minute.
	BookmarkEvery time.Duration
	// NoStreaming refuses streaming lists as a server does that has them turned off.
	NoStreaming bool

	addr string

	mu        sync.Mutex // guards all below
	srv       *httptest.Server
	ca        []byte
	token     string
	version   int64 // resource version of the last write
	forgotten int64 // writes up to this one cannot be watched any more
	history   []kubeEvent
	kinds     map[string]*kubeKind // by apiVersion and kind, and by URL path
	pages     map[string][]map[string]any
	refusals  map[string]KubeRefusal // by resource or namespace/resource
	intercept func(http.ResponseWriter, *http.Request) bool
	requests  []KubeRequest
	watches   map[*kubeWatch]bool
}

// KubeRequest is one request that the server got, for tests that count them.
type KubeRequest struct {
	Time     time.Time
	Verb     string // get, list or watch
	Resource string // pods
	// ResourceVersion and Continue are the parameters of the request; Streaming is whether a
	// watch asked for a list first; FieldSelector is as sent.
	ResourceVersion, Continue, FieldSelector string
	Streaming                                bool
	// Partial is whether only metadata was asked for.
	Partial bool
}

// KubeRefusal is an answer instead of objects.
type KubeRefusal struct {
	Code       int // 403, 429, 500 ...
	RetryAfter int // seconds, 0 for no such header
}

type kubeKind struct {
	apiVersion, kind, resource string
	objects                    map[string]map[string]any // by namespace/name
}

type kubeEvent struct {
	version   int64
	kind      *kubeKind
	old, last map[string]any // old is nil when created, last is nil when deleted
	gone      map[string]any // the object as it was deleted
}

type kubeWatch struct {
	wake chan struct{} // has room for one
	mu   sync.Mutex    // guards the orders
	end  bool          // end the stream
	cut  bool          // break the connection
	mark bool          // send a bookmark
}

func (w *kubeWatch) order(f func(*kubeWatch)) {
	w.mu.Lock()
	f(w)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// StartKube starts a server for the length of a test, with the common resources of the core
// group and without objects.
func StartKube(t testing.TB) *Kube {
	t.Helper()
	k := &Kube{
		BookmarkEvery: time.Minute,
		addr:          "127.0.0.1:0",
		token:         "kit-token",
		version:       1000,
		forgotten:     1000,
		kinds:         map[string]*kubeKind{},
		pages:         map[string][]map[string]any{},
		refusals:      map[string]KubeRefusal{},
		watches:       map[*kubeWatch]bool{},
	}
	for kind, resource := range map[string]string{
		"Pod": "pods", "Node": "nodes", "Namespace": "namespaces", "Service": "services",
		"Secret": "secrets", "ConfigMap": "configmaps", "Event": "events",
	} {
		k.AddResource("v1", kind, resource)
	}
	k.AddResource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
	k.AddResource("networking.k8s.io/v1", "Ingress", "ingresses")
	if err := k.Up(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Down)
	return k
}

// AddResource makes the server know a kind of object, as installing its definition does.
func (k *Kube) AddResource(apiVersion, kind, resource string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	kk := &kubeKind{apiVersion: apiVersion, kind: kind, resource: resource, objects: map[string]map[string]any{}}
	k.kinds[apiVersion+" "+kind] = kk
	k.kinds[apiVersion+"/"+resource] = kk
}

// RemoveResource makes the server forget a kind and its objects, as removing its definition does.
func (k *Kube) RemoveResource(apiVersion, kind, resource string) {
	k.mu.Lock()
	delete(k.kinds, apiVersion+" "+kind)
	delete(k.kinds, apiVersion+"/"+resource)
	k.mu.Unlock()
	k.CloseWatches()
}

// Up makes the server listen, at the same address as before.
func (k *Kube) Up() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.srv != nil {
		return nil
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", k.addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", k.addr, err)
	}
	k.addr = ln.Addr().String()
	srv := httptest.NewUnstartedServer(k)
	_ = srv.Listener.Close()
	srv.Listener = ln
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // Broken connections are what tests do.
	srv.StartTLS()
	k.srv = srv
	k.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	return nil
}

// Down cuts all connections; until [Kube.Up] new ones are refused. Objects stay.
func (k *Kube) Down() {
	k.mu.Lock()
	srv := k.srv
	k.srv = nil
	k.mu.Unlock()
	if srv == nil {
		return
	}
	_ = srv.Listener.Close()
	k.CutWatches()
	srv.CloseClientConnections()
	srv.Close()
}

// URL is where the server listens.
func (k *Kube) URL() string { return "https://" + k.addr }

// CA returns the certificate that the server's own is checked against, in PEM.
func (k *Kube) CA() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ca
}

// Token returns the bearer token that the server accepts.
func (k *Kube) Token() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.token
}

// SetToken makes the server accept another token and no longer the old one.
func (k *Kube) SetToken(token string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.token = token
}

// ServiceAccount writes ca.crt and token into a new folder, as the kubelet does for a pod,
// and returns it.
func (k *Kube) ServiceAccount(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca.crt": k.CA(), "token": []byte(k.Token())} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Kubeconfig writes a kubeconfig for the server, with the token in a file of its own, and
// returns its path.
func (k *Kube) Kubeconfig(t testing.TB) string {
	t.Helper()
	return k.KubeconfigVia(t, k.URL())
}

// KubeconfigVia is [Kube.Kubeconfig] with another URL, such as that of a proxy on 127.0.0.1.
func (k *Kube) KubeconfigVia(t testing.TB, url string) string {
	t.Helper()
	dir := k.ServiceAccount(t)
	path := filepath.Join(dir, "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: kit
contexts: [{name: kit, context: {cluster: kit, user: kit}}]
clusters: [{name: kit, cluster: {server: %s, certificate-authority: ca.crt}}]
users: [{name: kit, user: {tokenFile: token}}]
`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Put creates or changes an object: anything whose JSON has apiVersion, kind and
// metadata.name. It sets the resource version and, where there is none, a uid.
func (k *Kube) Put(t testing.TB, object any) {
	t.Helper()
	obj := kubeNormalize(t, object)
	k.mu.Lock()
	defer k.mu.Unlock()
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	kk := k.kinds[apiVersion+" "+kind]
	meta := kubeMetaOf(obj)
	if kk == nil || kubeText(meta, "name") == "" {
		t.Fatalf("put an object: needs metadata.name and a known apiVersion and kind, has %q %q", apiVersion, kind)
	}
	k.version++
	meta["resourceVersion"] = strconv.FormatInt(k.version, 10)
	if kubeText(meta, "uid") == "" {
		meta["uid"] = fmt.Sprintf("uid-%d", k.version)
	}
	old := kk.objects[kubeKeyOf(obj)]
	kk.objects[kubeKeyOf(obj)] = obj
	k.record(kubeEvent{version: k.version, kind: kk, old: old, last: obj})
}

// Delete deletes an object. The namespace of objects without one is empty.
func (k *Kube) Delete(t testing.TB, kind, namespace, name string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, kk := range k.kinds {
		old := kk.objects[namespace+"/"+name]
		if kk.kind != kind || old == nil {
			continue
		}
		delete(kk.objects, namespace+"/"+name)
		k.version++
		gone := kubeNormalize(t, old)
		kubeMetaOf(gone)["resourceVersion"] = strconv.FormatInt(k.version, 10)
		k.record(kubeEvent{version: k.version, kind: kk, old: old, gone: gone})
		return
	}
	t.Fatalf("delete %s %s/%s: there is none", kind, namespace, name)
}

// record is called with k.mu held.
func (k *Kube) record(ev kubeEvent) {
	k.history = append(k.history, ev)
	for w := range k.watches {
		w.order(func(*kubeWatch) {})
	}
}

// Forget makes the server forget its history, as compaction does: watches and pages from
// before now answer 410. Open watches that have everything go on.
func (k *Kube) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++ // Something that nobody watches has been written meanwhile.
	k.forgotten = k.version
	k.history = nil
	clear(k.pages)
}

// CloseWatches ends all open watches as the server does when their time is over.
func (k *Kube) CloseWatches() { k.orderAll(func(w *kubeWatch) { w.end = true }) }

// CutWatches breaks all open watches without an end.
func (k *Kube) CutWatches() { k.orderAll(func(w *kubeWatch) { w.cut = true }) }

// Bookmark sends a bookmark to all open watches now.
func (k *Kube) Bookmark() { k.orderAll(func(w *kubeWatch) { w.mark = true }) }

func (k *Kube) orderAll(f func(*kubeWatch)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for w := range k.watches {
		w.order(f)
	}
}

// Refuse answers every new request for a resource with an error until [Kube.Grant]. Open
// watches go on, as they do when a permission is taken away.
func (k *Kube) Refuse(resource string, r KubeRefusal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refusals[resource] = r
}

// RefuseIn is [Kube.Refuse] for requests about one namespace.
func (k *Kube) RefuseIn(namespace, resource string, r KubeRefusal) {
	k.Refuse(namespace+"/"+resource, r)
}

// GrantIn ends what RefuseIn has begun.
func (k *Kube) GrantIn(namespace, resource string) { k.Grant(namespace + "/" + resource) }

// Grant ends a refusal.
func (k *Kube) Grant(resource string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.refusals, resource)
}

// Intercept lets f see each request first; where f returns true it has answered it. A nil f
// ends that.
func (k *Kube) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.intercept = f
}

// Requests returns what was asked for so far, in order.
func (k *Kube) Requests() []KubeRequest {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.requests)
}

// Watches returns the number of open watches.
func (k *Kube) Watches() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.watches)
}

// KubePod returns a running pod for [Kube.Put].
func KubePod(namespace, name, uid, node string, labels, annotations map[string]string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"namespace": namespace, "name": name, "uid": uid, "labels": labels, "annotations": annotations,
		},
		"spec":   map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "main", "image": "kit"}}},
		"status": map[string]any{"phase": "Running"},
	}
}

// KubeNode returns a ready node for [Kube.Put] whose kubelet is at the given address and port.
func KubeNode(name, internalIP string, port int, labels map[string]string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Node",
		"metadata": map[string]any{"name": name, "labels": labels},
		"spec":     map[string]any{},
		"status": map[string]any{
			"addresses": []any{
				map[string]any{"type": "InternalIP", "address": internalIP},
				map[string]any{"type": "Hostname", "address": name},
			},
			"conditions":      []any{map[string]any{"type": "Ready", "status": "True"}},
			"daemonEndpoints": map[string]any{"kubeletEndpoint": map[string]any{"Port": port}},
		},
	}
}

// kubeNormalize returns the JSON of an object as values of its own.
func kubeNormalize(t testing.TB, object any) map[string]any {
	t.Helper()
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	var obj map[string]any
	if err := json.Unmarshal(data, &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func kubeMetaOf(obj map[string]any) map[string]any {
	meta, ok := obj["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		obj["metadata"] = meta
	}
	return meta
}

func kubeKeyOf(obj map[string]any) string {
	return kubeText(kubeMetaOf(obj), "namespace") + "/" + kubeText(kubeMetaOf(obj), "name")
}

func kubeText(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}
