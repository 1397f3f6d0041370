package kube

import (
	"context"
	"errors"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

var (
	errClosedEarly = errors.New("the connection was closed before the API server answered")
	errEmpty       = errors.New("the API server ended the watch at once without an event")
)

// causeBroken is how client-go marks an event that it made itself because the stream could
// not be read on.
const causeBroken = metav1.CauseType("ClientWatchDecoding")

// stream passes on the events of one watch, stripped, and takes note of each.
type stream struct {
	in     watch.Interface
	first  *watch.Event // taken from in already
	out    chan watch.Event
	stop   chan struct{}
	over   <-chan struct{} // closed when the store is to stop
	once   sync.Once
	cancel context.CancelFunc
	events int // seen so far, errors included
	w      *watcher
}

// ResultChan implements watch.Interface.
func (s *stream) ResultChan() <-chan watch.Event { return s.out }

// Stop implements watch.Interface.
func (s *stream) Stop() {
	s.once.Do(func() {
		close(s.stop)
		s.in.Stop()
		s.cancel()
	})
}

func (s *stream) run() {
	opened := time.Now()
	trusted := time.NewTimer(s.w.trust)
	defer func() {
		trusted.Stop()
		lived := time.Since(opened)
		if s.events == 0 && lived < s.w.trust && !s.stopped() {
			_ = s.w.failed(errEmpty)
		}
		s.Stop()
		s.w.pace.lasted(lived)
		close(s.out)
	}()
	if s.first != nil && !s.pass(*s.first) {
		return
	}
	for {
		select {
		case ev, ok := <-s.in.ResultChan():
			if !ok || !s.pass(ev) {
				return
			}
		case <-trusted.C:
			s.w.recovered()
		}
	}
}

// pass hands on one event; false ends the stream.
func (s *stream) pass(ev watch.Event) bool {
	if ev.Type == watch.Error {
		if s.stopped() {
			return false // What a connection says that was closed under it.
		}
		err := apierrors.FromObject(ev.Object)
		_ = s.w.failed(err)
		if otherRequest(err) {
			s.w.pace.answered(true)
		}
		if apierrors.HasStatusCause(err, causeBroken) {
			// A broken connection is no reason to list again: as an end without an error it
			// makes the reflector watch on from where it is.
			s.events++
			return false
		}
	} else {
		s.w.pace.progress()
		s.w.m.events.WithLabelValues(s.w.name).Inc()
		s.w.contact()
		s.w.recovered()
		ev.Object = s.w.keep(ev.Object)
	}
	s.events++
	select {
	case s.out <- ev:
		return true
	case <-s.stop:
		return false
	}
}

// stopped tells whether the end of the watch is our own doing.
func (s *stream) stopped() bool {
	select {
	case <-s.stop:
		return true
	case <-s.over:
		return true
	default:
		return false
	}
}
