package kube

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// maxNamespaces is how many namespaces a store watches one by one. More are watched as the
// whole cluster.
const maxNamespaces = 32

// Key names an object; the namespace of a kind that has none is empty.
type Key struct{ Namespace, Name string }

// Scope is what one user needs of a kind. Users choose among what a store has themselves; a
// store only leaves out what none of them needs.
type Scope struct {
	// Namespaces are those that are looked at; empty means all.
	Namespaces []string
	// Label and Field are selectors as kubectl takes them; empty means all objects.
	Label, Field string
}

// kindOf says what there is to know of the objects of one kind.
type kindOf[T any] struct {
	resource
	// from returns the key and what is kept of an object, in memory of its own.
	from func(runtime.Object) (Key, *T, error)
	// refs returns the objects of another kind that one of this kind names; may be nil.
	refs func(*T) []Key
}

// Store keeps what Ingot needs of all objects of a kind, by one watch however many users there
// are. What it returns is shared: do not change it.
type Store[T any] struct {
	kind    kindOf[T]
	connect func() (rest.Interface, error)
	log     *slog.Logger
	m       *metrics

	mu      sync.RWMutex   // guards all below
	prepare func(*watcher) // What a test changes of a watch.
	scopes  []Scope
	watches []*watcher // From the start of Run on.
	objects map[string]map[string]*T
	users   map[Key][]Key // Who names an object of another kind, as refs says.
	feeds   map[*Feed]bool
}

func newStore[T any](kind kindOf[T], connect func() (rest.Interface, error), log *slog.Logger, m *metrics) *Store[T] {
	return &Store[T]{
		kind: kind, connect: connect, log: log, m: m,
		objects: map[string]map[string]*T{},
		users:   map[Key][]Key{},
		feeds:   map[*Feed]bool{},
	}
}

// Need says what a user needs of the store, before Run.
func (s *Store[T]) Need(scope Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scopes = append(s.scopes, scope)
}

// Needed tells whether anybody needs the store.
func (s *Store[T]) Needed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.scopes) > 0
}

// Kind returns the name of the kind in metrics and logs.
func (s *Store[T]) Kind() string { return s.kind.name }

// Run keeps the store current until ctx ends and then returns nil. No failure of the API
// server ends it. The store can be read before, meanwhile and after.
func (s *Store[T]) Run(ctx context.Context) error {
	watches := s.begin()
	var wg sync.WaitGroup
	for _, w := range watches {
		wg.Go(func() { _ = w.run(ctx, sink[T]{s, w}) })
	}
	wg.Wait()
	for _, w := range watches {
		w.ended()
	}
	return nil
}

// begin makes the watches that the users need together.
func (s *Store[T]) begin() []*watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	scope := union(s.scopes)
	namespaces := scope.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	s.watches = nil
	for _, namespace := range namespaces {
		r := s.kind.resource
		r.namespace, r.label = namespace, scope.Label
		r.selector = scope.Field
		r.keep = s.carry
		r.object = &carrier{}
		w := newWatcher(r, s.connect, s.log, s.m)
		w.whole = s.Synced
		if s.prepare != nil {
			s.prepare(w)
		}
		s.watches = append(s.watches, w)
	}
	return s.watches
}

// union returns the narrowest scope that is enough for all.
func union(scopes []Scope) Scope {
	if len(scopes) == 0 {
		return Scope{}
	}
	all := scopes[0]
	all.Namespaces = slices.Clone(all.Namespaces)
	for _, s := range scopes[1:] {
		if len(s.Namespaces) == 0 || len(all.Namespaces) == 0 {
			all.Namespaces = nil
		}
		if all.Namespaces != nil {
			all.Namespaces = append(all.Namespaces, s.Namespaces...)
		}
		if s.Label != all.Label {
			all.Label = ""
		}
		if s.Field != all.Field {
			all.Field = ""
		}
	}
	slices.Sort(all.Namespaces)
	if all.Namespaces = slices.Compact(all.Namespaces); len(all.Namespaces) > maxNamespaces {
		all.Namespaces = nil
	}
	return all
}

// Get returns an object.
func (s *Store[T]) Get(k Key) (*T, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, ok := s.objects[k.Namespace][k.Name]
	return o, ok
}

// Keys returns the names of the objects in a namespace, and with all of those in every
// namespace, in no order. The caller owns the slice.
func (s *Store[T]) Keys(namespace string, all bool) []Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var keys []Key
	for ns, objects := range s.objects {
		if all || ns == namespace {
			for name := range objects {
				keys = append(keys, Key{ns, name})
			}
		}
	}
	return keys
}

// All returns all objects ordered by namespace and name. The caller owns the slice.
func (s *Store[T]) All() []*T {
	keys := s.Keys("", true)
	slices.SortFunc(keys, func(a, b Key) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	all := make([]*T, 0, len(keys))
	for _, k := range keys {
		if o, ok := s.Get(k); ok {
			all = append(all, o)
		}
	}
	return all
}

// Users returns the keys of the objects of this kind that name the object of another kind k,
// such as the endpoint slices that have a pod.
func (s *Store[T]) Users(k Key) []Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.users[k])
}

// Synced tells whether whole lists of all that is watched have arrived since the start.
func (s *Store[T]) Synced() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, w := range s.watches {
		if !w.synced() {
			return false
		}
	}
	return len(s.watches) > 0
}

// Refused tells whether the API server refuses the store what it asks for, for want of a
// permission or of the kind.
func (s *Store[T]) Refused() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.watches, (*watcher).refused)
}

// Err returns why the store may be out of date, nil when it is current.
func (s *Store[T]) Err() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.watches) == 0 {
		return fmt.Errorf("watch %s: %w", s.kind.kind, errNotListed)
	}
	for _, w := range s.watches {
		if err := w.current(); err != nil {
			return err
		}
	}
	return nil
}

// Status returns a snapshot of each watch for the status page.
func (s *Store[T]) Status() []Status {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []Status
	for _, w := range s.watches {
		all = append(all, w.snapshot())
	}
	return all
}

// attach has a feed gather changes of the store, or no longer.
func (s *Store[T]) attach(f *Feed, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feeds[f] = true; !on {
		delete(s.feeds, f)
	}
}

// Follow returns a feed that gathers the names of objects that change from now on, and what
// ends it. It is to be taken before the store is read. After each change wake, which several
// feeds may share, holds a token.
func (s *Store[T]) Follow(wake chan struct{}) (feed *Feed, end func()) {
	feed = &Feed{wake: wake}
	s.attach(feed, true)
	return feed, func() { s.attach(feed, false) }
}

// Feed is what one reader has not looked at yet since it has changed: names only, so that an
// object that changes often is one entry.
type Feed struct {
	wake chan struct{} // Has room for one.

	mu   sync.Mutex // guards keys
	keys map[Key]bool
}

// Take returns the names that have gathered since the last call.
func (f *Feed) Take() map[Key]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	keys := f.keys
	f.keys = nil
	return keys
}

func (f *Feed) add(keys ...Key) {
	f.mu.Lock()
	if f.keys == nil {
		f.keys = map[Key]bool{}
	}
	for _, k := range keys {
		f.keys[k] = true
	}
	f.mu.Unlock()
	f.rouse()
}

func (f *Feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// carrier takes what is kept of an object through client-go's reflector, which looks at
// names, versions and annotations alone. Of a watch event nothing else stays in memory.
type carrier struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	key  Key
	kept any
}

// DeepCopyObject implements runtime.Object.
func (c *carrier) DeepCopyObject() runtime.Object {
	d := *c
	return &d
}

// carry reduces an object to what is kept of it.
func (s *Store[T]) carry(obj runtime.Object) runtime.Object {
	meta, ok := obj.(metav1.Object)
	if !ok {
		return obj // An error of the API server.
	}
	c := &carrier{ObjectMeta: metav1.ObjectMeta{
		Namespace: meta.GetNamespace(), Name: meta.GetName(), ResourceVersion: meta.GetResourceVersion(),
	}}
	if end := meta.GetAnnotations()[metav1.InitialEventsAnnotationKey]; end != "" {
		c.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: end}
	}
	if key, kept, err := s.kind.from(obj); err == nil {
		c.key, c.kept = key, kept
		c.Namespace, c.Name = key.Namespace, key.Name
	}
	return c
}

// put replaces an object, or removes it when o is nil. It returns false when that changes
// nothing. The caller holds mu.
func (s *Store[T]) put(k Key, o *T) bool {
	old := s.objects[k.Namespace][k.Name]
	if old == nil && o == nil || old != nil && o != nil && reflect.DeepEqual(old, o) {
		return false
	}
	if s.kind.refs != nil {
		s.index(k, old, o)
	}
	if o == nil {
		delete(s.objects[k.Namespace], k.Name)
		if len(s.objects[k.Namespace]) == 0 {
			delete(s.objects, k.Namespace)
		}
		return true
	}
	if s.objects[k.Namespace] == nil {
		s.objects[k.Namespace] = map[string]*T{}
	}
	s.objects[k.Namespace][k.Name] = o
	return true
}

// index notes whom an object names in place of whom it named before. The caller holds mu.
func (s *Store[T]) index(k Key, old, now *T) {
	if old != nil {
		for _, ref := range s.kind.refs(old) {
			rest := slices.DeleteFunc(s.users[ref], func(u Key) bool { return u == k })
			if s.users[ref] = rest; len(rest) == 0 {
				delete(s.users, ref)
			}
		}
	}
	if now != nil {
		for _, ref := range s.kind.refs(now) {
			if !slices.Contains(s.users[ref], k) {
				s.users[ref] = append(s.users[ref], k)
			}
		}
	}
}

// tell adds changed objects to all feeds. The caller holds mu.
func (s *Store[T]) tell(keys ...Key) {
	for f := range s.feeds {
		f.add(keys...)
	}
}

// sink is the side of the store that the reflector of one watch sees.
type sink[T any] struct {
	s *Store[T]
	w *watcher
}

// Add implements cache.ReflectorStore.
func (k sink[T]) Add(obj any) error { return k.Update(obj) }

// Update implements cache.ReflectorStore.
func (k sink[T]) Update(obj any) error {
	key, o, err := k.s.keptOf(obj)
	if err != nil {
		return err
	}
	k.s.change(k.w, key, o)
	return nil
}

// Delete implements cache.ReflectorStore.
func (k sink[T]) Delete(obj any) error {
	key, _, err := k.s.keptOf(obj)
	if err != nil {
		return err
	}
	k.s.change(k.w, key, nil)
	return nil
}

// Resync implements cache.ReflectorStore. There is nothing to do again.
func (sink[T]) Resync() error { return nil }

// Replace implements cache.ReflectorStore. An object that cannot be read is left out.
func (k sink[T]) Replace(objs []any, _ string) error {
	s := k.s
	listed := make(map[Key]bool, len(objs))
	var changed []Key
	s.mu.Lock()
	for _, obj := range objs {
		key, o, err := s.keptOf(obj)
		if err != nil {
			k.w.m.failures.WithLabelValues(k.w.name, "unreadable").Inc()
			continue
		}
		if listed[key] = true; s.put(key, o) {
			changed = append(changed, key)
		}
	}
	for ns, objects := range s.objects {
		if k.w.namespace != "" && ns != k.w.namespace {
			continue
		}
		for name := range objects {
			if key := (Key{ns, name}); !listed[key] {
				s.put(key, nil)
				changed = append(changed, key)
			}
		}
	}
	s.mu.Unlock()
	first := !k.w.synced()
	k.w.listed(len(listed))
	if first || len(changed) > 0 { // Readers may wait for the first list, though it be empty.
		s.mu.RLock()
		defer s.mu.RUnlock()
		s.tell(changed...)
	}
	return nil
}

// change takes one event of a watch.
func (s *Store[T]) change(w *watcher, key Key, o *T) {
	s.mu.Lock()
	_, had := s.objects[key.Namespace][key.Name]
	changed := s.put(key, o)
	if changed {
		s.tell(key)
	}
	s.mu.Unlock()
	switch {
	case had && o == nil:
		w.countMore(-1)
	case !had && o != nil:
		w.countMore(1)
	}
}

// keptOf returns what is kept of an object of the API server.
func (s *Store[T]) keptOf(obj any) (Key, *T, error) {
	if o, ok := obj.(runtime.Object); ok {
		if _, carried := obj.(*carrier); !carried {
			obj = s.carry(o)
		}
	}
	c, ok := obj.(*carrier)
	if !ok {
		return Key{}, nil, fmt.Errorf("read one of %s: the API server sent a %T", s.kind.kind, obj)
	}
	kept, ok := c.kept.(*T)
	if !ok {
		return Key{}, nil, fmt.Errorf("read one of %s: %s/%s has another type", s.kind.kind, c.Namespace, c.Name)
	}
	return c.key, kept, nil
}
