package stage

import (
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// minDistinctLabels is the least that max_distinct_labels means, as in promtail.
const minDistinctLabels = 10_000

// LimitConfig is the options of the stage limit.
type LimitConfig struct {
	// Rate is how many lines pass in a second, on average.
	Rate float64 `yaml:"rate"`
	// Burst is how many may pass at once.
	Burst int `yaml:"burst"`
	// Drop drops lines beyond the rate, with the reason ratelimit_drop_stage. Default false:
	// reading pauses.
	Drop bool `yaml:"drop,omitempty"`
	// ByLabelName limits the lines of each value of this label on its own. It needs Drop.
	// Lines without the label are not limited.
	ByLabelName string `yaml:"by_label_name,omitempty"`
	// MaxDistinctLabels is how many values of the label are told apart before the oldest are
	// forgotten. At least 10000, which is the default.
	MaxDistinctLabels int `yaml:"max_distinct_labels,omitempty"`
}

type limitStep struct {
	rate, burst float64
	drop        bool
	label       string
	distinct    int
	reason      int
	state       int
}

func (x *LimitConfig) compile(c *compiler, at string) {
	s := &limitStep{
		rate: x.Rate, burst: float64(x.Burst), drop: x.Drop, label: x.ByLabelName,
		distinct: max(x.MaxDistinctLabels, minDistinctLabels),
		reason:   c.reason("ratelimit_drop_stage", ""), state: c.prog.limits,
	}
	c.prog.limits++
	if !(x.Rate > 0) { // which NaN is not either
		c.fault(config.Key(at, "rate"), "must be positive, is %v", x.Rate)
	}
	if x.Burst <= 0 {
		c.fault(config.Key(at, "burst"), "must be positive, is %d", x.Burst)
	}
	if x.ByLabelName != "" && !x.Drop {
		c.fault(config.Key(at, "drop"), "must be true where by_label_name is set")
	}
	c.add(s)
}

// limiter is the state of a limit. All streams of a runner share it.
type limiter struct {
	all     bucket
	byLabel map[string]*bucket
	old     map[string]*bucket // the generation before, of which those in use move on
}

// bucket holds the lines that may pass at once. It is filled at the rate.
type bucket struct {
	lines float64
	at    time.Time // zero before the first line
}

func (s *limitStep) run(r *Runner, _ *Pipeline) outcome {
	l := &r.limits[s.state]
	b := &l.all
	if s.label != "" {
		v, ok := r.labels.get(s.label)
		if !ok {
			return next
		}
		b = l.of(v, s.distinct)
	}
	s.fill(b, r.now)
	if b.lines < 1 && s.drop {
		return r.drop(s.reason)
	}
	// Without drop the line passes in any case, and the reader is told how long it takes to
	// pay for it.
	b.lines--
	if b.lines < 0 {
		r.delay = max(r.delay, time.Duration(min(-b.lines/s.rate*1e9, float64(time.Hour))))
	}
	return next
}

func (s *limitStep) fill(b *bucket, now time.Time) {
	switch {
	case b.at.IsZero():
		b.lines = s.burst
	case now.After(b.at):
		b.lines = min(s.burst, b.lines+now.Sub(b.at).Seconds()*s.rate)
	default:
		return
	}
	b.at = now
}

// of returns the bucket of a value. It keeps at most twice as many as are told apart.
func (l *limiter) of(v []byte, distinct int) *bucket {
	if b, ok := l.byLabel[string(v)]; ok {
		return b
	}
	b := l.old[string(v)]
	if b == nil {
		b = &bucket{}
	}
	if l.byLabel == nil || len(l.byLabel) >= distinct {
		l.old, l.byLabel = l.byLabel, map[string]*bucket{}
	}
	l.byLabel[string(v)] = b
	return b
}

// SamplingConfig is the options of the stage sampling.
type SamplingConfig struct {
	// Rate is the share of the lines that pass, from 0 to 1.
	Rate float64 `yaml:"rate"`
	// DropCounterReason is the reason under which the others are counted. Default
	// sampling_stage.
	DropCounterReason string `yaml:"drop_counter_reason,omitempty"`
}

type samplingStep struct {
	rate   float64
	reason int
}

func (x *SamplingConfig) compile(c *compiler, at string) {
	if !(x.Rate >= 0 && x.Rate <= 1) {
		c.fault(config.Key(at, "rate"), "must be a number from 0 to 1, is %v", x.Rate)
	}
	c.add(&samplingStep{x.Rate, c.reason(x.DropCounterReason, "sampling_stage")})
}

func (s *samplingStep) run(r *Runner, _ *Pipeline) outcome {
	if r.deps.Rand.Float64() < s.rate {
		return next
	}
	return r.drop(s.reason)
}
