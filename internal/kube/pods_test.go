package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// run runs a part until the test ends or stop is called, and fails when it does not return
// nil in time.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run = %v, want nil", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("Run did not return within 5s of its end")
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// settle puts a pod after the first list. A watch that ends in its first second without any
// event makes the reflector doubt its place and list again.
func (w *world) settle(t *testing.T) {
	t.Helper()
	await(t, "the list", w.pods.Synced)
	w.server.Put(t, kit.KubePod("ns", "settled", "settled", node, nil, nil))
	await(t, "the first event", func() bool { _, ok := w.pods.Pod("ns", "settled", "settled"); return ok })
}

func TestPodStoreKeepsThePodsOfItsNode(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, map[string]string{"app": "x"}, map[string]string{
		"note": "n", lastAppliedAnnotation: "{}",
	}))
	w.server.Put(t, kit.KubePod("ns", "b", "u2", "node-2", nil, nil))
	w.runPods(t)
	await(t, "the list", w.pods.Synced)

	got, ok := w.pods.Pod("ns", "a", "u1")
	want := Pod{
		Namespace: "ns", Name: "a", UID: "u1",
		Labels:      map[string]string{"app": "x"},
		Annotations: map[string]string{"note": "n"},
	}
	want.Version = got.Version
	if diff := cmp.Diff(want, got); !ok || diff != "" || got.Version == 0 {
		t.Errorf("Pod(ns, a, u1): found %t, -want +got\n%s", ok, diff)
	}
	for _, id := range [][3]string{{"ns", "b", "u2"}, {"ns", "a", "u2"}, {"other", "a", "u1"}, {"ns", "other", "u1"}, {"ns", "a", ""}} {
		if p, ok := w.pods.Pod(id[0], id[1], id[2]); ok {
			t.Errorf("Pod%v = %v, want none", id, p)
		}
	}
	for _, r := range w.server.Requests() {
		if r.FieldSelector != "spec.nodeName=node-1" || !r.Partial {
			t.Errorf("request %+v: want only metadata of the node's pods", r)
		}
	}
	if err := w.pods.Err(); err != nil {
		t.Errorf("Err = %v, want nil", err)
	}
}

func TestPodStoreFollowsChanges(t *testing.T) {
	w := newWorld(t)
	w.runPods(t)
	await(t, "the list", w.pods.Synced)

	changed := w.pods.Changed()
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	<-changed
	before, ok := w.pods.Pod("ns", "a", "u1")
	if !ok {
		t.Fatal("a new pod is not found")
	}
	changed = w.pods.Changed()
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, map[string]string{"v": "2"}, nil))
	<-changed
	after, _ := w.pods.Pod("ns", "a", "u1")
	if after.Labels["v"] != "2" {
		t.Fatalf("labels after a change are %v", after.Labels)
	}
	if after.Version == before.Version {
		t.Errorf("the version after a change is %d still", after.Version)
	}
	changed = w.pods.Changed()
	w.server.Delete(t, "Pod", "ns", "a")
	<-changed
	w.server.Put(t, kit.KubePod("ns", "a", "u2", node, nil, nil))
	await(t, "the second pod", func() bool { _, ok := w.pods.Pod("ns", "a", "u2"); return ok })
	if p, ok := w.pods.Pod("ns", "a", "u1"); !ok || p.UID != "u1" {
		t.Errorf("deleted pod: %v, %t; want it kept beside the new one of its name", p, ok)
	}
	if got := w.pods.Status().Objects; got != 1 {
		t.Errorf("objects = %d, want 1", got)
	}
}

func TestStaticPodIsFoundByTheUidOfTheKubelet(t *testing.T) {
	w := newWorld(t)
	pod := func(uid string) map[string]any {
		return kit.KubePod("kube-system", "etcd", uid, node, nil, map[string]string{mirrorAnnotation: "hash"})
	}
	w.server.Put(t, pod("u1"))
	w.runPods(t)
	await(t, "the list", w.pods.Synced)
	for _, uid := range []string{"u1", "hash"} {
		if p, ok := w.pods.Pod("kube-system", "etcd", uid); !ok || p.UID != "u1" || p.MirrorUID != "hash" {
			t.Errorf("Pod by %s = %+v, %t", uid, p, ok)
		}
	}
	w.server.Delete(t, "Pod", "kube-system", "etcd")
	w.server.Put(t, pod("u2"))
	await(t, "the new mirror", func() bool { p, _ := w.pods.Pod("kube-system", "etcd", "hash"); return p.UID == "u2" })

	// The old mirror's time is over; the new one's is not.
	w.pods.mu.Lock()
	w.pods.prune(time.Now().Add(keepDeleted))
	w.pods.mu.Unlock()
	if _, ok := w.pods.Pod("kube-system", "etcd", "u1"); ok {
		t.Error("the old mirror is still found after its time")
	}
	if p, ok := w.pods.Pod("kube-system", "etcd", "hash"); !ok || p.UID != "u2" {
		t.Errorf("Pod by hash = %+v, %t, want the new mirror", p, ok)
	}
}

func TestDeletedPodsAreKeptForAWhileAndBounded(t *testing.T) {
	w := newWorld(t)
	k, now := podSink{w.pods}, time.Now()
	object := func(i int) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: fmt.Sprint("p", i), UID: types.UID(fmt.Sprint("u", i)),
		}}
	}
	const total = maxDeleted + 100
	for i := range total {
		if err := k.Add(object(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range total {
		if err := k.Delete(object(i)); err != nil {
			t.Fatal(err)
		}
	}
	has := func(i int) bool { _, ok := w.pods.Pod("ns", fmt.Sprint("p", i), fmt.Sprint("u", i)); return ok }
	if has(99) || !has(100) || !has(total-1) {
		t.Errorf("kept: 99 %t, 100 %t, last %t; want exactly the last %d", has(99), has(100), has(total-1), maxDeleted)
	}
	if got := w.metric(t, "ingot_kube_deleted_pods_forgotten_total"); got != 100 {
		t.Errorf("forgotten early = %v, want 100", got)
	}
	w.pods.mu.Lock()
	w.pods.prune(now.Add(keepDeleted - time.Minute))
	w.pods.mu.Unlock()
	if !has(total - 1) {
		t.Error("a deleted pod is gone before its time")
	}
	w.pods.mu.Lock()
	w.pods.prune(now.Add(keepDeleted + time.Minute))
	left := len(w.pods.byUID) + len(w.pods.deleted)
	w.pods.mu.Unlock()
	if left != 0 {
		t.Errorf("%d entries left after their time", left)
	}
}

func TestPodThatComesBackIsLiveAgain(t *testing.T) {
	w := newWorld(t)
	k := podSink{w.pods}
	object := func() *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
	}
	for _, step := range []func() error{
		func() error { return k.Add(object()) },
		func() error { return k.Delete(object()) },
		func() error { return k.Add(object()) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	w.pods.mu.Lock()
	w.pods.prune(time.Now().Add(2 * keepDeleted))
	live := w.pods.live
	w.pods.mu.Unlock()
	if _, ok := w.pods.Pod("ns", "p", "u"); !ok || live != 1 {
		t.Errorf("found %t, live %d; want the pod to outlive its former deletion", ok, live)
	}
}

func TestEndedWatchGoesOnWhereItWas(t *testing.T) {
	for name, end := range map[string]func(*kit.Kube){
		"ended": (*kit.Kube).CloseWatches,
		"cut":   (*kit.Kube).CutWatches,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.server.Put(t, kit.KubePod("ns", "a", "u0", node, nil, nil))
			w.runPods(t)
			w.settle(t)
			for i := range 10 {
				end(w.server)
				await(t, "no watch", func() bool {
					return w.metric(t, "ingot_kube_watch_restarts_total") >= float64(i+1) && w.server.Watches() == 1
				})
				uid := fmt.Sprint("u", i+1)
				w.server.Put(t, kit.KubePod("ns", uid, uid, node, nil, nil))
				await(t, "pod "+uid, func() bool { _, ok := w.pods.Pod("ns", uid, uid); return ok })
			}
			if got := lists(w.server.Requests()); got != 1 {
				t.Errorf("whole lists = %d after 10 ends, want 1", got)
			}
		})
	}
}

func TestForgottenHistoryIsListedAgain(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubePod("ns", "gone", "u1", node, nil, nil))
	w.runPods(t)
	w.settle(t)

	w.server.Refuse("pods", kit.KubeRefusal{Code: http.StatusServiceUnavailable})
	w.server.CloseWatches()
	await(t, "an error", func() bool { return w.pods.Err() != nil })
	w.server.Delete(t, "Pod", "ns", "gone")
	w.server.Put(t, kit.KubePod("ns", "new", "u2", node, nil, nil))
	w.server.Forget()
	w.server.Grant("pods")

	await(t, "the new pod", func() bool { _, ok := w.pods.Pod("ns", "new", "u2"); return ok })
	if s := w.pods.Status(); s.Objects != 2 || s.Lists != 2 || s.Error != "" {
		t.Errorf("status = %+v, want 2 objects after 2 lists", s)
	}
	if _, ok := w.pods.Pod("ns", "gone", "u1"); !ok {
		t.Error("a pod deleted meanwhile is not kept for its unread lines")
	}
	if got := w.metric(t, "ingot_kube_failures_total", "reason", "expired"); got == 0 {
		t.Error("the 410 is not counted")
	}
}

func TestServerWithAnOlderStateIsListedAgain(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	}
	w.runPods(t)
	await(t, "the list", w.pods.Synced)

	// An API server restored from a backup: same address, smaller resource versions.
	old := kit.StartKube(t)
	old.Put(t, kit.KubePod("ns", "b", "u2", node, nil, nil))
	w.server.Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		old.ServeHTTP(rw, r)
		return true
	})
	w.server.CloseWatches()
	await(t, "a second watch", func() bool { return old.Watches() == 1 })
	old.CloseWatches() // So soon that the place in the history is in doubt.
	await(t, "the pod of the backup", func() bool { _, ok := w.pods.Pod("ns", "b", "u2"); return ok })
}

func TestMissingPermissionNamesTheRuleAndHealsWhenGranted(t *testing.T) {
	w := newWorld(t)
	w.server.Refuse("pods", kit.KubeRefusal{Code: http.StatusForbidden})
	w.runPods(t)
	await(t, "an error", func() bool { return w.pods.Err() != nil && !errors.Is(w.pods.Err(), errNotListed) })
	want := `watch pods: pods is forbidden: User "system:serviceaccount:ingot:ingot" cannot watch resource "pods" ` +
		`in API group "" at the cluster scope; grant the service account the rule ` +
		`{apiGroups: [""], resources: [pods], verbs: [list, watch]}`
	if got := w.pods.Err().Error(); got != want {
		t.Errorf("Err = %s\nwant  %s", got, want)
	}
	if s := w.Status(); len(s) != 1 || s[0].Error != want || s[0].ErrorSince.IsZero() || s[0].Synced {
		t.Errorf("Status = %+v", s)
	}
	await(t, "several tries", func() bool {
		return w.metric(t, "ingot_kube_failures_total", "kind", "pods", "reason", "forbidden") >= 3
	})
	if got := w.log.count("level=WARN"); got != 1 {
		t.Errorf("warnings = %d, want 1", got)
	}
	w.server.Grant("pods")
	await(t, "the list", w.pods.Synced)
	if err := w.pods.Err(); err != nil {
		t.Errorf("Err after the grant = %v", err)
	}
	if got := w.log.count("recovered"); got != 1 {
		t.Errorf("log lines about the recovery = %d, want 1", got)
	}
}

func TestServerAwayAtStartIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	w.server.Down()
	w.runPods(t)
	await(t, "an error", func() bool {
		return w.pods.Err() != nil && strings.Contains(w.pods.Err().Error(), "connection refused")
	})
	if err := w.server.Up(); err != nil {
		t.Fatal(err)
	}
	await(t, "the list", w.pods.Synced)
}

func TestServerAwayMeanwhileCostsNoListAndNoState(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	w.runPods(t)
	w.settle(t)
	w.server.Down()
	await(t, "an error", func() bool { return w.pods.Err() != nil })
	if _, ok := w.pods.Pod("ns", "a", "u1"); !ok || !w.pods.Synced() {
		t.Error("the store lost its state with the server")
	}
	w.server.Put(t, kit.KubePod("ns", "b", "u2", node, nil, nil))
	if err := w.server.Up(); err != nil {
		t.Fatal(err)
	}
	await(t, "the new pod", func() bool { _, ok := w.pods.Pod("ns", "b", "u2"); return ok })
	await(t, "no error", func() bool { return w.pods.Err() == nil })
	if got := lists(w.server.Requests()); got != 1 {
		t.Errorf("whole lists = %d, want 1: the history was still there", got)
	}
}

func TestThrottlingIsObeyed(t *testing.T) {
	w := newWorld(t)
	w.server.Refuse("pods", kit.KubeRefusal{Code: http.StatusTooManyRequests, RetryAfter: 1})
	w.runPods(t)
	await(t, "a request", func() bool { return len(w.server.Requests()) == 1 })
	w.server.Grant("pods")
	await(t, "the list", w.pods.Synced)
	rs := w.server.Requests()
	if pause := rs[1].Time.Sub(rs[0].Time); pause < 900*time.Millisecond {
		t.Errorf("tried again after %s, want the second that the server asked for", pause)
	}
	if got := w.metric(t, "ingot_kube_failures_total", "reason", "throttled"); got != 1 {
		t.Errorf("throttled = %v, want 1", got)
	}
}

func TestServerWithoutStreamingListsIsListedByPages(t *testing.T) {
	w := newWorld(t)
	w.server.NoStreaming = true
	const pods = 1100 // A page has 500.
	for i := range pods {
		w.server.Put(t, kit.KubePod("ns", fmt.Sprint("p", i), fmt.Sprint("u", i), node, nil, nil))
	}
	w.runPods(t)
	await(t, "the list", w.pods.Synced)
	if got := w.pods.Status().Objects; got != pods {
		t.Errorf("objects = %d, want %d", got, pods)
	}
	w.server.Put(t, kit.KubePod("ns", "new", "new", node, nil, nil))
	await(t, "the new pod", func() bool { _, ok := w.pods.Pod("ns", "new", "new"); return ok })
	if err := w.pods.Err(); err != nil {
		t.Errorf("Err = %v, want nil: plain lists are as good", err)
	}

	// What was forgotten between two pages is listed again from the first.
	w.server.Forget()
	w.server.CutWatches()
	w.server.Put(t, kit.KubePod("ns", "newer", "newer", node, nil, nil))
	await(t, "the newest pod", func() bool { _, ok := w.pods.Pod("ns", "newer", "newer"); return ok })
}

func TestQuietWatchShowsSignsOfLife(t *testing.T) {
	w := newWorld(t)
	w.runPods(t)
	await(t, "the list", w.pods.Synced)
	before := w.pods.Status().LastContact
	await(t, "a later contact", func() bool {
		w.server.Bookmark()
		return w.pods.Status().LastContact.After(before)
	})
}

func TestFrozenConnectionIsNoticed(t *testing.T) {
	t.Setenv("HTTP2_READ_IDLE_TIMEOUT_SECONDS", "1")
	t.Setenv("HTTP2_PING_TIMEOUT_SECONDS", "1")
	w := newWorld(t)
	proxy := kit.StartProxy(t, strings.TrimPrefix(w.server.URL(), "https://"))
	w.config = w.server.KubeconfigVia(t, "https://"+proxy.Addr())
	w.connect(t)
	w.runPods(t)
	await(t, "the list", w.pods.Synced)
	proxy.BlackHole(true)
	await(t, "the end of the frozen watch", func() bool { return w.pods.Err() != nil })
	proxy.BlackHole(false)
	proxy.Cut()
	w.server.Put(t, kit.KubePod("ns", "a", "u1", node, nil, nil))
	await(t, "the pod", func() bool { _, ok := w.pods.Pod("ns", "a", "u1"); return ok })
}

func TestRunReturnsSoonWhateverTheServerDoes(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"watching":  func(*world) {},
		"away":      func(w *world) { w.server.Down() },
		"forbidden": func(w *world) { w.server.Refuse("pods", kit.KubeRefusal{Code: http.StatusForbidden}) },
		"throttled": func(w *world) {
			w.server.Refuse("pods", kit.KubeRefusal{Code: http.StatusTooManyRequests, RetryAfter: 3600})
		},
		"hanging": func(w *world) {
			w.server.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				<-r.Context().Done()
				return true
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, p := range []*pace{&w.pods.w.pace} {
				p.base, p.max = time.Hour, time.Hour
			}
			prepare(w)
			stop := w.runPods(t)
			if name == "watching" {
				await(t, "the list", w.pods.Synced)
			} else {
				time.Sleep(50 * time.Millisecond) // Not needed for the outcome, only to be inside.
			}
			begin := time.Now()
			stop()
			if d := time.Since(begin); d > 2*time.Second {
				t.Errorf("Run took %s to end", d)
			}
			if w.pods.Status().Running {
				t.Error("Status says that it is running")
			}
			if got := w.log.count("level=WARN"); name == "watching" && got != 0 {
				t.Errorf("warnings = %d, want none about our own end", got)
			}
		})
	}
}

func TestPodsAreStrippedBeforeAListIsComplete(t *testing.T) {
	o := realisticPod(1)
	(&PodStore{}).strip(o)
	if o.ManagedFields != nil || o.Annotations[lastAppliedAnnotation] != "" || len(o.Annotations) != 4 || len(o.Labels) != 7 {
		t.Errorf("stripped pod = %+v", o)
	}
}

// TestStrippedPodIsSmall holds what one pod costs, as a node agent keeps up to some hundred
// of them and as many deleted ones.
func TestStrippedPodIsSmall(t *testing.T) {
	const (
		pods   = 2000
		budget = 1200 // bytes a pod with all that it has
		little = 800  // with what the labels of logs need
	)
	if each := bytesOfPods(t, pods, nil); each > budget {
		t.Errorf("a pod takes %d bytes, want at most %d", each, budget)
	}
	if each := bytesOfPods(t, pods, func(key string) bool { return key == "app.kubernetes.io/name" }); each > little {
		t.Errorf("a pod takes %d bytes where little of it is kept, want at most %d", each, little)
	}
}

// bytesOfPods returns what a pod takes in the store, with labels and annotations of the keys
// that are kept.
func bytesOfPods(t *testing.T, pods int, keep func(string) bool) int {
	t.Helper()
	w := newWorld(t)
	w.pods.KeepOnly(keep, keep)
	k := podSink{w.pods}
	before := liveHeap()
	for i := range pods {
		if err := k.Add(realisticPod(i)); err != nil {
			t.Fatal(err)
		}
	}
	each := (liveHeap() - before) / pods
	t.Logf("%d bytes a pod", each)
	runtime.KeepAlive(w)
	return each
}

// TestOnlyChosenLabelsAndTheOwnerAreKept has a store that keeps little find a static pod still,
// and the controller among the owners.
func TestOnlyChosenLabelsAndTheOwnerAreKept(t *testing.T) {
	w := newWorld(t)
	w.pods.KeepOnly(func(k string) bool { return k == "app" }, func(k string) bool { return k == "note" })
	o := kit.KubePod("ns", "a", "u1", node, map[string]string{"app": "x", "hash": "1"}, map[string]string{"note": "n", "big": "b", mirrorAnnotation: "m"})
	o["metadata"].(map[string]any)["ownerReferences"] = []any{
		map[string]any{"apiVersion": "v1", "kind": "Other", "name": "not it", "uid": "o1"},
		map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "o2", "controller": true},
	}
	w.server.Put(t, o)
	w.runPods(t)
	await(t, "the list", w.pods.Synced)
	got, ok := w.pods.Pod("ns", "a", "m")
	want := Pod{
		Namespace: "ns", Name: "a", UID: "u1", MirrorUID: "m", Version: got.Version, Owner: Owner{"ReplicaSet", "web-1"},
		Labels: map[string]string{"app": "x"}, Annotations: map[string]string{"note": "n"},
	}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("found %t, -want +got\n%s", ok, diff)
	}
}

func liveHeap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// realisticPod returns the metadata that a pod of a Deployment with a service mesh has, each
// string on its own as after decoding.
func realisticPod(i int) *metav1.PartialObjectMetadata {
	own := strings.Clone
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: own("payment-services"),
		Name:      fmt.Sprintf("checkout-api-7d9f6c5b8d-%05d", i),
		UID:       types.UID(fmt.Sprintf("0b1c2d3e-4f50-4161-8273-%012d", i)),
		Labels:    map[string]string{},
		Annotations: map[string]string{
			own(lastAppliedAnnotation): strings.Repeat("x", 3000),
		},
		ManagedFields: []metav1.ManagedFieldsEntry{{FieldsV1: metav1.NewFieldsV1(`{"f:metadata":"` + strings.Repeat("x", 4000) + `"}`)}},
	}}
	for k, v := range map[string]string{
		"app.kubernetes.io/name": "checkout-api", "app.kubernetes.io/instance": "checkout-api-prod",
		"app.kubernetes.io/version": "2.14.3", "app.kubernetes.io/component": "api",
		"app.kubernetes.io/part-of": "shop", "pod-template-hash": "7d9f6c5b8d", "team": "payments",
	} {
		o.Labels[own(k)] = own(v)
	}
	for k, v := range map[string]string{
		"checksum/config":                           "b1946ac92492d2347c6235b4d2611184e9a0b6d0c1a2f3e4d5c6b7a8990a1b2c",
		"kubectl.kubernetes.io/restartedAt":         "2026-05-04T09:12:44Z",
		"k8s.grafana.com/logs.job":                  "shop/checkout",
		"resource.opentelemetry.io/service.version": "2.14.3",
	} {
		o.Annotations[own(k)] = own(v)
	}
	return o
}
