package kube

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// listTimeout bounds one request of the fallback to plain lists.
	listTimeout = 2 * time.Minute
	// watchGrace is how long after the end that was asked for a watch may go on. The API
	// server ends a watch itself; this is for a connection whose other side is gone and that
	// has no keep-alive of its own (HTTP/2 notices within a minute).
	watchGrace = 30 * time.Second
	// trustAfter is how long a watch without events is open before it counts as working.
	trustAfter = time.Second
)

// resource is what tells the watch of one kind from that of another.
type resource struct {
	name       string // as value of the label kind and in logs
	kind       string // as in the URL
	group      string // of the API, empty for that of the core
	path       string // of the group and version in the URL
	namespace  string // to watch in, empty for all
	accept     string // media types of a watch, the preferred first
	acceptList string // the same of a plain list
	selector   string // field selector, may be empty
	label      string // label selector, may be empty
	object     runtime.Object
	// keep returns what stays of an object, before it waits in memory for the end of a list.
	// It may change the object and return it, and has the type of object above.
	keep func(runtime.Object) runtime.Object
}

// watcher keeps one store current: it runs client-go's reflector, paces every request that
// the reflector makes, and keeps account of how it goes.
type watcher struct {
	resource
	connect func() (rest.Interface, error)
	params  runtime.ParameterCodec
	log     *slog.Logger
	m       *metrics
	pace    pace

	trust time.Duration // see trustAfter
	// whole tells whether the other watches of the same store have their lists too.
	whole func() bool

	mu     sync.Mutex // guards all below
	status Status
	err    error
	no     bool // The error is that the API server refuses, for a lack that may be mended.
}

func newWatcher(r resource, connect func() (rest.Interface, error), log *slog.Logger, m *metrics) *watcher {
	m.objects.WithLabelValues(r.name)
	m.synced.WithLabelValues(r.name)
	m.events.WithLabelValues(r.name)
	m.lists.WithLabelValues(r.name)
	m.restarts.WithLabelValues(r.name)
	return &watcher{
		resource: r,
		connect:  connect,
		params:   runtime.NewParameterCodec(newScheme()),
		log:      log.With("kind", r.name),
		m:        m,
		pace:     newPace(),
		trust:    trustAfter,
		whole:    func() bool { return true },
		status:   Status{Kind: r.name, Namespace: r.namespace, Selector: r.selector, LabelSelector: r.label},
	}
}

// run fills store until ctx ends. It never returns earlier.
func (w *watcher) run(ctx context.Context, store cache.ReflectorStore) error {
	w.set(func(s *Status) { s.Running = true })
	defer w.set(func(s *Status) { s.Running = false })
	quiet := logr.FromSlogHandler(debugOnly{w.log.Handler()})
	rctx := klog.NewContext(ctx, quiet)
	// The reflector lists on a goroutine of its own, without a context, and does not wait for
	// it. Here a list has the context of run, and none goes on or begins after run.
	var (
		listing sync.RWMutex // guards over; read-locked by lists
		over    bool
	)
	defer func() {
		listing.Lock()
		over = true
		listing.Unlock()
	}()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			listing.RLock()
			defer listing.RUnlock()
			if over {
				return nil, ctx.Err()
			}
			return w.list(rctx, o)
		},
		WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return w.watch(rctx, o)
		},
	}
	r := cache.NewReflectorWithOptions(lw, w.object, store, cache.ReflectorOptions{
		Logger:          &quiet,
		Name:            w.name,
		TypeDescription: w.name,
		// The reflector sleeps its own pauses without looking at the context. The pauses are
		// made in list and watch instead.
		Backoff: &wait.Backoff{Duration: time.Millisecond, Steps: 1},
	})
	for ctx.Err() == nil {
		if err := r.ListAndWatchWithContext(rctx); err != nil {
			w.log.Debug("list and watch again", "err", err)
		}
	}
	return nil
}

// list is one page of a plain list, which the reflector falls back to where the API server
// does not offer streaming lists.
func (w *watcher) list(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	if err := w.pace.wait(ctx); err != nil {
		return nil, err
	}
	opts.FieldSelector, opts.LabelSelector = w.selector, w.label
	conn, err := w.connect()
	if err != nil {
		return nil, w.failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	obj, err := w.request(conn, w.acceptList, &opts).Do(ctx).Get()
	if err != nil {
		if otherRequest(err) {
			w.pace.answered(true)
		}
		return nil, w.failed(err)
	}
	w.pace.answered(false)
	w.contact()
	w.recovered()
	return obj, nil
}

// watch opens a watch. What passes by itself or can only be cured by the operator is tried
// again right here and for ever, which keeps the place in the history that the reflector
// has; only what calls for another kind of request is returned to it.
func (w *watcher) watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
	opts.Watch = true
	opts.FieldSelector, opts.LabelSelector = w.selector, w.label
	for {
		if err := w.pace.wait(ctx); err != nil {
			return nil, err
		}
		s, err := w.open(ctx, opts)
		switch {
		case err == nil:
			return s, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case streamingRefused(err, opts):
			w.pace.answered(false)
			return nil, err
		case w.failed(err) != nil && otherRequest(err):
			w.pace.answered(true)
			return nil, err
		}
	}
}

func (w *watcher) open(ctx context.Context, opts metav1.ListOptions) (*stream, error) {
	conn, err := w.connect()
	if err != nil {
		return nil, err
	}
	limit := watchGrace
	if opts.TimeoutSeconds != nil {
		limit += time.Duration(*opts.TimeoutSeconds) * time.Second
	}
	over := ctx.Done()
	ctx, cancel := context.WithTimeout(ctx, limit)
	in, err := w.request(conn, w.accept, &opts).Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{in: in, out: make(chan watch.Event), stop: make(chan struct{}), over: over, cancel: cancel, w: w}
	// A connection that breaks before the answer comes back as a watch that is over.
	select {
	case ev, ok := <-in.ResultChan():
		if !ok {
			in.Stop()
			cancel()
			return nil, errClosedEarly
		}
		s.first = &ev
	default:
	}
	w.opened()
	go s.run()
	return s, nil
}

// request asks for no retries inside client-go, which would hide an API server that is
// throttling from the store's status for minutes.
func (w *watcher) request(conn rest.Interface, accept string, opts *metav1.ListOptions) *rest.Request {
	return conn.Get().AbsPath(w.path).NamespaceIfScoped(w.namespace, w.namespace != "").Resource(w.kind).SetHeader("Accept", accept).VersionedParams(opts, w.params).MaxRetries(0)
}

// streamingRefused tells whether the API server is one that does not offer streaming lists.
func streamingRefused(err error, opts metav1.ListOptions) bool {
	return opts.SendInitialEvents != nil && (apierrors.IsInvalid(err) || apierrors.IsBadRequest(err))
}

// otherRequest tells whether the same request can never succeed: the place in the history
// is gone or not there yet, or the request is not understood.
func otherRequest(err error) bool {
	if apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		return true
	}
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonGone, metav1.StatusReasonExpired, metav1.StatusReasonInvalid,
		metav1.StatusReasonBadRequest, metav1.StatusReasonMethodNotAllowed, metav1.StatusReasonNotAcceptable:
		return true
	}
	return false
}

// failed takes note of an error and returns it. The log has the first of a row.
func (w *watcher) failed(err error) error {
	w.m.failures.WithLabelValues(w.name, reason(err)).Inc()
	if s, ok := apierrors.SuggestsClientDelay(err); ok {
		w.pace.notBefore(time.Duration(s) * time.Second)
	}
	if reason(err) == "expired" {
		return err // Normal after a pause; the list that follows makes the store current.
	}
	explained := w.explain(err)
	w.mu.Lock()
	first := w.err == nil
	w.err = explained
	w.no = apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
	if first {
		w.status.ErrorSince = time.Now()
	}
	w.mu.Unlock()
	if first {
		w.log.Warn("watch of the API server failed, trying on", "err", explained)
	}
	return err
}

// opened takes note of a watch that the API server has accepted. That alone does not end an
// error: a proxy with a login page accepts everything.
func (w *watcher) opened() {
	w.mu.Lock()
	again := !w.status.LastContact.IsZero()
	if again {
		w.status.Restarts++
	}
	w.mu.Unlock()
	if again {
		w.m.restarts.WithLabelValues(w.name).Inc()
	}
	w.contact()
}

// recovered ends an error.
func (w *watcher) recovered() {
	w.mu.Lock()
	failing, since := w.err != nil, w.status.ErrorSince
	w.err, w.status.ErrorSince = nil, time.Time{}
	w.mu.Unlock()
	if failing {
		w.log.Info("watch of the API server recovered", "duration", time.Since(since).Round(time.Millisecond))
	}
}

// contact takes note of a sign of life.
func (w *watcher) contact() {
	now := time.Now()
	w.set(func(s *Status) { s.LastContact = now })
	w.m.lastContact.WithLabelValues(w.name).Set(float64(now.UnixMilli()) / 1e3)
}

// listed takes note of a whole list that reached the store.
func (w *watcher) listed(objects int) {
	w.count(objects) // First, since a store that is synced has been counted.
	w.set(func(s *Status) {
		s.Synced = true
		s.Lists++
	})
	if w.whole() {
		w.m.synced.WithLabelValues(w.name).Set(1)
	}
	w.m.lists.WithLabelValues(w.name).Inc()
}

// count takes note of how many objects the watch has filled the store with.
func (w *watcher) count(objects int) {
	w.set(func(s *Status) {
		w.m.objects.WithLabelValues(w.name).Add(float64(objects - s.Objects))
		s.Objects = objects
	})
}

// ended takes the objects of a watch that will not go on out of the metrics.
func (w *watcher) ended() {
	w.set(func(s *Status) { w.m.objects.WithLabelValues(w.name).Sub(float64(s.Objects)) })
}

// countMore is count for so many more than before.
func (w *watcher) countMore(n int) {
	w.set(func(s *Status) { s.Objects += n })
	w.m.objects.WithLabelValues(w.name).Add(float64(n))
}

func (w *watcher) set(f func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.status)
}

func (w *watcher) synced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.Synced
}

// current returns nil when the store is up to date as far as anyone can know.
func (w *watcher) current() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.status.Synced {
		return w.explain(errNotListed)
	}
	return w.err
}

// refused tells whether the API server refuses the watch for want of a permission or kind.
func (w *watcher) refused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err != nil && w.no
}

func (w *watcher) snapshot() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	if w.err != nil {
		s.Error = w.err.Error()
	}
	return s
}

// debugOnly shows what client-go reports as plain messages, warnings and errors at debug
// level, since the watcher itself reports each change of its state once, and nothing of
// client-go's own debugging.
type debugOnly struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h debugOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo && h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (h debugOnly) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return h.Handler.Handle(ctx, r) //nolint:wrapcheck // A handler passes on what the next one says.
}

// WithAttrs implements slog.Handler.
func (h debugOnly) WithAttrs(as []slog.Attr) slog.Handler { return debugOnly{h.Handler.WithAttrs(as)} }

// WithGroup implements slog.Handler.
func (h debugOnly) WithGroup(name string) slog.Handler { return debugOnly{h.Handler.WithGroup(name)} }
