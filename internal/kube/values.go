package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// Value is the content of a Secret or a ConfigMap by key. It is shared: do not change it.
type Value struct{ Data map[string][]byte }

// String keeps the content out of whatever prints the value.
func (v *Value) String() string { return "<secret>" }

// GoString is String for %#v.
func (v *Value) GoString() string { return v.String() }

// Values keeps Secrets or ConfigMaps that somebody has asked for by name, each by a watch of
// that object alone, so that no other one is ever read and one that comes late is noticed.
type Values struct {
	kind    func() kindOf[Value]
	connect func() (rest.Interface, error)
	log     *slog.Logger
	m       *metrics
	prepare func(*watcher) // What a test changes of a watch.

	mu     sync.Mutex // guards all below
	wanted map[Key]*wantedValue
	feeds  map[*Feed]bool
	run    func(*wantedValue) // Nil while Run is not running.
}

// wantedValue is an object that users want.
type wantedValue struct {
	store *Store[Value]
	users int
	stop  context.CancelFunc // Nil while it is not watched.
}

func newValues(kind func() kindOf[Value], connect func() (rest.Interface, error), log *slog.Logger, m *metrics) *Values {
	return &Values{
		kind: kind, connect: connect, log: log, m: m,
		wanted: map[Key]*wantedValue{},
		feeds:  map[*Feed]bool{},
	}
}

// Run watches what is wanted, also what is from now on, until ctx ends, and then returns nil.
func (v *Values) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	v.mu.Lock()
	v.run = func(w *wantedValue) {
		one, stop := context.WithCancel(ctx)
		w.stop = stop
		wg.Go(func() { _ = w.store.Run(one) })
	}
	for _, w := range v.wanted {
		v.run(w)
	}
	v.mu.Unlock()
	<-ctx.Done()
	v.mu.Lock()
	v.run = nil
	v.mu.Unlock()
	wg.Wait()
	return nil
}

// Want has an object watched until release is called.
func (v *Values) Want(k Key) (release func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.wanted[k]
	if w == nil {
		w = &wantedValue{store: newStore(v.kind(), v.connect, v.log, v.m)}
		w.store.prepare = v.prepare
		w.store.Need(Scope{Namespaces: []string{k.Namespace}, Field: "metadata.name=" + k.Name})
		maps.Copy(w.store.feeds, v.feeds)
		v.wanted[k] = w
		if v.run != nil {
			v.run(w)
		}
	}
	w.users++
	return sync.OnceFunc(func() { v.release(k, w) })
}

func (v *Values) release(k Key, w *wantedValue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if w.users--; w.users > 0 {
		return
	}
	delete(v.wanted, k)
	if w.stop != nil {
		w.stop()
	}
}

// Get returns an object that is wanted, or why there is none: that it does not exist, that the
// API server refuses it, or has not answered yet. While the API server is away the last one
// stays.
func (v *Values) Get(k Key) (*Value, error) {
	v.mu.Lock()
	w := v.wanted[k]
	v.mu.Unlock()
	kind := v.kind().kind
	if w == nil {
		return nil, fmt.Errorf("nobody watches %s/%s of %s", k.Namespace, k.Name, kind)
	}
	if value, ok := w.store.Get(k); ok {
		return value, nil
	}
	if err := w.store.Err(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("there is no %s in the %s of namespace %s", k.Name, kind, k.Namespace)
}

// Follow is [Store.Follow] for all that is or will be wanted.
func (v *Values) Follow(wake chan struct{}) (feed *Feed, end func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	feed = &Feed{wake: wake}
	v.feeds[feed] = true
	for _, w := range v.wanted {
		w.store.attach(feed, true)
	}
	return feed, func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.feeds, feed)
		for _, w := range v.wanted {
			w.store.attach(feed, false)
		}
	}
}

// Status returns a snapshot of each watch for the status page.
func (v *Values) Status() []Status {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []Status
	for _, w := range v.wanted {
		all = append(all, w.store.Status()...)
	}
	return all
}

func secretKind() kindOf[Value] {
	return kindOf[Value]{
		resource: resource{name: "secrets", kind: "secrets", path: corePath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *Value, error) {
			o, ok := obj.(*corev1.Secret)
			if !ok {
				return Key{}, nil, wrongType("secrets", obj)
			}
			return Key{strings.Clone(o.Namespace), strings.Clone(o.Name)}, &Value{o.Data}, nil
		},
	}
}

func configMapKind() kindOf[Value] {
	return kindOf[Value]{
		resource: resource{name: "configmaps", kind: "configmaps", path: corePath, accept: objectAccept, acceptList: objectAccept},
		from: func(obj runtime.Object) (Key, *Value, error) {
			o, ok := obj.(*corev1.ConfigMap)
			if !ok {
				return Key{}, nil, wrongType("configmaps", obj)
			}
			data := maps.Clone(o.BinaryData)
			if data == nil {
				data = map[string][]byte{}
			}
			for k, text := range o.Data {
				data[k] = []byte(text)
			}
			return Key{strings.Clone(o.Namespace), strings.Clone(o.Name)}, &Value{data}, nil
		},
	}
}
