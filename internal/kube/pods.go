package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

const (
	// mirrorAnnotation is set by the kubelet on the API server's copy of a static pod. Its
	// value is the uid that the kubelet uses itself, among others in the path of log files.
	mirrorAnnotation = "kubernetes.io/config.mirror"
	// lastAppliedAnnotation is a whole second copy of the object that kubectl leaves behind.
	lastAppliedAnnotation = "kubectl.kubernetes.io/last-applied-configuration"

	// keepDeleted is how long a deleted pod is still found, for lines that are still unread.
	keepDeleted = 10 * time.Minute
	// maxDeleted bounds the deleted pods in memory; a node runs some hundred pods at a time.
	maxDeleted = 2048
)

// podAccept and podListAccept ask for the metadata of objects alone, so that specs and states
// of pods never cross the network.
const (
	podAccept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1," +
		"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	podListAccept = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
		"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
)

// Pod is what Ingot knows of a pod. The maps are shared between copies: do not change them.
type Pod struct {
	Namespace, Name string
	// UID is the uid of the object. MirrorUID is set on the object that stands for a static
	// pod; it is the uid that the kubelet has for the pod, as in the path of its log files.
	UID, MirrorUID string
	Labels         map[string]string
	// Annotations are those of the pod without kubectl's last-applied-configuration.
	Annotations map[string]string
	// Version is another one whenever something of the pod has changed, and never 0.
	Version uint64
	// Owner is the controller of the pod, if it has one.
	Owner Owner
}

// Owner is what made a pod and would make it again, such as a ReplicaSet.
type Owner struct{ Kind, Name string }

// PodStore keeps the pods of one node.
type PodStore struct {
	w       *watcher
	changes changes
	// keep chooses the labels and annotations that are kept, by their keys; nil for all.
	keepLabel, keepAnnotation func(key string) bool

	mu      sync.RWMutex       // guards all below
	byUID   map[string]*podRef // under the uid and, where there is one, the mirror uid
	version uint64
	live    int
	deleted []*podRef // in the order of deletion
}

type podRef struct {
	pod Pod
	// deletedAt is zero while the pod exists.
	deletedAt time.Time
}

func newPodStore(nodeName string, connect func() (rest.Interface, error), log *slog.Logger, m *metrics) *PodStore {
	s := &PodStore{changes: newChanges(), byUID: map[string]*podRef{}}
	s.w = newWatcher(resource{
		name:       "pods",
		kind:       "pods",
		path:       corePath,
		accept:     podAccept,
		acceptList: podListAccept,
		selector:   "spec.nodeName=" + nodeName,
		object:     &metav1.PartialObjectMetadata{},
		keep:       s.strip,
	}, connect, log, m)
	return s
}

// KeepOnly has the store keep only labels and annotations with these keys, which nil stands for
// all of: some annotations are larger than all else that is known of a pod. It is called
// before Run.
func (s *PodStore) KeepOnly(label, annotation func(key string) bool) {
	s.keepLabel, s.keepAnnotation = label, annotation
}

// Run keeps the store current until ctx ends and then returns nil. No failure of the API
// server ends it. The store can be read before, meanwhile and after.
func (s *PodStore) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.forgetOld(ctx) })
	return s.w.run(ctx, podSink{s})
}

// Pod returns the pod of that namespace and name whose uid or mirror uid is uid. A pod that
// was deleted is found for ten minutes more. A pod of the same name with another uid is
// another pod.
func (s *PodStore) Pod(namespace, name, uid string) (Pod, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.byUID[uid]
	if r == nil || r.pod.Namespace != namespace || r.pod.Name != name {
		return Pod{}, false
	}
	return r.pod, true
}

// Synced tells whether a whole list has arrived since the start: from then on a pod that is
// not found is not known to the API server either, a moment of delay aside.
func (s *PodStore) Synced() bool { return s.w.synced() }

// Changed returns a channel that is closed at the next change of the store; many changes
// close it once. Take it before reading the store, so that no change falls between.
func (s *PodStore) Changed() <-chan struct{} { return s.changes.next() }

// Err returns why the store may be out of date, nil when it is current.
func (s *PodStore) Err() error { return s.w.current() }

// Status returns a snapshot for the status page.
func (s *PodStore) Status() Status { return s.w.snapshot() }

// forgetOld drops deleted pods when their time is over.
func (s *PodStore) forgetOld(ctx context.Context) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.mu.Lock()
			s.prune(time.Now())
			s.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (s *PodStore) put(p Pod) {
	s.version++
	p.Version = s.version
	r := &podRef{pod: p}
	if old := s.byUID[p.UID]; old == nil || !old.deletedAt.IsZero() {
		s.live++
	}
	s.byUID[p.UID] = r
	if p.MirrorUID != "" {
		s.byUID[p.MirrorUID] = r
	}
}

// remove marks the pod as deleted.
func (s *PodStore) remove(uid string, now time.Time) {
	r := s.byUID[uid]
	if r == nil || !r.deletedAt.IsZero() {
		return
	}
	r.deletedAt = now
	s.live--
	s.deleted = append(s.deleted, r)
	s.prune(now)
}

// prune drops the deleted pods that are too old or too many.
func (s *PodStore) prune(now time.Time) {
	n := 0
	for ; n < len(s.deleted); n++ {
		old := now.Sub(s.deleted[n].deletedAt) >= keepDeleted
		if !old && len(s.deleted)-n <= maxDeleted {
			break
		}
		if !old {
			s.w.m.forgotten.Inc()
		}
		r := s.deleted[n]
		for _, uid := range []string{r.pod.UID, r.pod.MirrorUID} {
			if s.byUID[uid] == r { // A newer pod may have taken over the mirror uid.
				delete(s.byUID, uid)
			}
		}
		s.deleted[n] = nil
	}
	s.deleted = s.deleted[n:]
}

// podSink is the side of the store that the reflector sees.
type podSink struct{ s *PodStore }

// Add implements cache.ReflectorStore.
func (k podSink) Add(obj any) error { return k.Update(obj) }

// Update implements cache.ReflectorStore.
func (k podSink) Update(obj any) error {
	p, err := k.s.podOf(obj)
	if err != nil {
		return err
	}
	k.s.mu.Lock()
	if old := k.s.byUID[p.UID]; old != nil && old.deletedAt.IsZero() && samePod(old.pod, p) {
		k.s.mu.Unlock()
		return nil
	}
	k.s.put(p)
	live := k.s.live
	k.s.mu.Unlock()
	k.s.w.count(live)
	k.s.changes.fire()
	return nil
}

// Delete implements cache.ReflectorStore.
func (k podSink) Delete(obj any) error {
	p, err := k.s.podOf(obj)
	if err != nil {
		return err
	}
	k.s.mu.Lock()
	k.s.remove(p.UID, time.Now())
	live := k.s.live
	k.s.mu.Unlock()
	k.s.w.count(live)
	k.s.changes.fire()
	return nil
}

// Replace implements cache.ReflectorStore. Pods that the list does not have any more are
// kept for a while as deleted ones.
func (k podSink) Replace(objs []any, _ string) error {
	listed := make(map[string]Pod, len(objs))
	for _, obj := range objs {
		p, err := k.s.podOf(obj)
		if err != nil {
			return err
		}
		listed[p.UID] = p
	}
	now := time.Now()
	k.s.mu.Lock()
	for uid, r := range k.s.byUID {
		if _, ok := listed[uid]; !ok && uid == r.pod.UID {
			k.s.remove(uid, now)
		}
	}
	for _, p := range listed {
		k.s.put(p)
	}
	live := k.s.live
	k.s.mu.Unlock()
	k.s.w.listed(live)
	k.s.changes.fire()
	return nil
}

// Resync implements cache.ReflectorStore. There is nothing to do again.
func (podSink) Resync() error { return nil }

func samePod(a, b Pod) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.MirrorUID == b.MirrorUID && a.Owner == b.Owner &&
		maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations)
}

func (s *PodStore) podOf(obj any) (Pod, error) {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return Pod{}, fmt.Errorf("read a pod: the API server sent a %T", obj)
	}
	return Pod{
		Namespace:   intern(o.Namespace),
		Name:        strings.Clone(o.Name), // What is decoded may share the memory of the whole answer.
		UID:         strings.Clone(string(o.UID)),
		MirrorUID:   strings.Clone(o.Annotations[mirrorAnnotation]),
		Labels:      kept(o.Labels, s.keepLabel),
		Annotations: kept(o.Annotations, s.keepAnnotation),
		Owner:       ownerOf(o),
	}, nil
}

// kept returns the entries that are kept, in memory that pods with the same ones share; nil if
// there are none.
func kept(from map[string]string, keep func(string) bool) map[string]string {
	var to map[string]string
	for k, v := range from {
		if k == lastAppliedAnnotation || keep != nil && !keep(k) {
			continue
		}
		if to == nil {
			to = make(map[string]string)
		}
		to[intern(k)] = intern(v)
	}
	return to
}

func intern(s string) string { return unique.Make(s).Value() }

func ownerOf(o *metav1.PartialObjectMetadata) Owner {
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return Owner{intern(ref.Kind), intern(ref.Name)}
	}
	return Owner{}
}

// strip removes what will not be kept, before the object waits for the end of a list.
func (s *PodStore) strip(obj runtime.Object) runtime.Object {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj
	}
	o.ManagedFields, o.Finalizers = nil, nil
	all := o.Annotations
	o.Labels, o.Annotations = kept(o.Labels, s.keepLabel), kept(all, s.keepAnnotation)
	// The reflector finds the end of a streaming list by the second one.
	for _, key := range [...]string{mirrorAnnotation, metav1.InitialEventsAnnotationKey} {
		if v := all[key]; v != "" {
			if o.Annotations == nil {
				o.Annotations = make(map[string]string)
			}
			o.Annotations[key] = v
		}
	}
	return o
}
