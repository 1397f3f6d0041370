package kube

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	objects     *prometheus.GaugeVec
	synced      *prometheus.GaugeVec
	lastContact *prometheus.GaugeVec
	events      *prometheus.CounterVec
	lists       *prometheus.CounterVec
	restarts    *prometheus.CounterVec
	failures    *prometheus.CounterVec
	forgotten   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	kind := []string{"kind"}
	return &metrics{
		objects: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingot_kube_objects",
			Help: "Number of Kubernetes objects kept in memory, without deleted ones.",
		}, kind),
		synced: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingot_kube_synced",
			Help: "Whether a whole list of the kind has arrived since the start.",
		}, kind),
		lastContact: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingot_kube_last_contact_timestamp_seconds",
			Help: "When the API server last sent an event, a bookmark or a list of the kind.",
		}, kind),
		events: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_kube_events_total",
			Help: "Number of watch events received, bookmarks included.",
		}, kind),
		lists: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_kube_lists_total",
			Help: "Number of whole lists received, streamed or not.",
		}, kind),
		restarts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_kube_watch_restarts_total",
			Help: "Number of watches opened after the first one.",
		}, kind),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingot_kube_failures_total",
			Help: "Number of requests and watches that failed, by reason.",
		}, []string{"kind", "reason"}),
		forgotten: f.NewCounter(prometheus.CounterOpts{
			Name: "ingot_kube_deleted_pods_forgotten_total",
			Help: "Number of deleted pods forgotten early because too many were deleted in a short time.",
		}),
	}
}
