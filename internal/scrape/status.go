package scrape

import (
	"cmp"
	"slices"
	"strings"
	"time"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// Status is a snapshot of every job, for the status page.
type Status struct {
	Jobs []JobStatus `json:"jobs"`
}

// JobStatus is a snapshot of one job.
type JobStatus struct {
	Job string `json:"job"`
	// Error is why the targets of the job are not scraped at all, such as target_limit.
	Error   string         `json:"error,omitempty"`
	Targets []TargetStatus `json:"targets"`
	// Dropped counts the targets that relabelling dropped; DroppedTargets are the first of
	// them, as many as keep_dropped_targets says.
	Dropped        int                 `json:"dropped"`
	DroppedTargets []map[string]string `json:"dropped_targets,omitempty"`
	// Invalid counts the targets that cannot be scraped, such as those without an address.
	Invalid        int             `json:"invalid"`
	InvalidTargets []InvalidTarget `json:"invalid_targets,omitempty"`
	// Discovery says which of the job's sources are out of date and why.
	Discovery []string `json:"discovery_errors,omitempty"`
}

// InvalidTarget is a discovered target that cannot be scraped.
type InvalidTarget struct {
	Labels map[string]string `json:"labels"`
	Error  string            `json:"error"`
}

// Health says how the last scrape of a target went.
type Health string

// The states of a target.
const (
	HealthUnknown Health = "unknown"
	HealthUp      Health = "up"
	HealthDown    Health = "down"
)

// TargetStatus is a snapshot of one target.
type TargetStatus struct {
	Job string `json:"job"`
	// URL is without what looks like a secret in its query.
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels"`
	Health Health            `json:"health"`
	// Interval and Timeout are in seconds.
	Interval float64 `json:"interval_seconds"`
	Timeout  float64 `json:"timeout_seconds"`
	// LastScrape is zero before the first one; Duration is in seconds.
	LastScrape time.Time `json:"last_scrape"`
	Duration   float64   `json:"last_duration_seconds"`
	// Samples is what the last scrape yielded before relabelling; Series is how many
	// series the target has; Bytes is the size of the last response after decompression.
	Samples int `json:"samples"`
	Series  int `json:"series"`
	Bytes   int `json:"bytes"`
	// Reason is the class of the last failure, the label reason of the metrics, and Error
	// says it in words. Both are empty for a target that is up.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
	// PushError is why the last batch was refused by the sink.
	PushError string `json:"push_error,omitempty"`
}

// status returns a snapshot of the job.
func (p *pool) status() JobStatus {
	st := JobStatus{Job: p.cfg.JobName, Targets: []TargetStatus{}, Discovery: p.failing()}
	p.mu.Lock()
	defer p.mu.Unlock()
	st.Dropped, st.Invalid = p.dropped, p.invalid
	st.DroppedTargets, st.InvalidTargets = p.examples()
	if p.forced != nil {
		st.Error = p.forced.Error()
	}
	for _, l := range p.loops {
		st.Targets = append(st.Targets, l.status())
	}
	slices.SortFunc(st.Targets, func(a, b TargetStatus) int { return cmp.Compare(a.URL, b.URL) })
	return st
}

func (l *loop) status() TargetStatus {
	s := l.snapshot()
	t := TargetStatus{
		Job:        l.pool.cfg.JobName,
		URL:        config.RedactURL(l.target.url),
		Labels:     labels.New(l.target.public...).Map(),
		Health:     s.health,
		Interval:   l.target.interval.Seconds(),
		Timeout:    l.target.timeout.Seconds(),
		LastScrape: s.last,
		Duration:   s.duration.Seconds(),
		Samples:    s.samples,
		Series:     s.series,
		Bytes:      s.bytes,
	}
	if s.err != nil {
		t.Reason, t.Error = reasonOf(s.err), s.err.Error()
	}
	if s.pushErr != nil {
		t.PushError = s.pushErr.Error()
	}
	return t
}

// shown returns labels before relabelling as the status page may show them: the URL of a
// discovery and the parameters of a job can hold what the configuration hides.
func shown(discovered labels.Labels) map[string]string {
	all := discovered.Map()
	for name, value := range all {
		if param, ok := strings.CutPrefix(name, prommodel.ParamLabelPrefix); ok {
			all[name] = config.RedactValue(param, value)
		} else {
			all[name] = config.RedactURL(value)
		}
	}
	return all
}

// counts are the numbers of a job that are shown as gauges.
type counts struct {
	up, down, unknown, dropped, invalid, series, memory, failing int
}

func (c counts) plus(o counts) counts {
	return counts{c.up + o.up, c.down + o.down, c.unknown + o.unknown, c.dropped + o.dropped, c.invalid + o.invalid, c.series + o.series, c.memory + o.memory, c.failing + o.failing}
}

func (p *pool) counts() counts {
	n := counts{failing: len(p.failing())}
	p.mu.Lock()
	defer p.mu.Unlock()
	n.dropped, n.invalid = p.dropped, p.invalid
	for _, l := range p.loops {
		s := l.snapshot()
		n.series += s.series
		n.memory += s.memory
		switch s.health {
		case HealthUp:
			n.up++
		case HealthDown:
			n.down++
		default:
			n.unknown++
		}
	}
	return n
}
