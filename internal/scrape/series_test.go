package scrape

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// The short way must make of every series what the long way through Prometheus' packages
// does. A rule that never matches forces the long one.
func TestPlainLabelsAreThoseOfTheLongWay(t *testing.T) {
	names := []string{"a", "b", "Z", "_", "job", "instance", "zone", "exported_job", "é.x", "0", "", "bad\xff", "long_name_of_label", "region"}
	values := []string{"", "1", "x", "ä", "\xff", "longer than that", "0.5"}
	external := model.NewLabels(model.Label{Name: "zone", Value: "z"}, model.Label{Name: "b", Value: "external"}, model.Label{Name: "Aa", Value: "c"})
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(from []string) string { return from[rng.IntN(len(from))] }
	short, plain := 0, 0
	var s *single
	for i := range 50_000 {
		if i%500 == 0 {
			s = newSingleFor(t, pick, external)
		}
		exposed := []model.Label{{Name: "__name__", Value: pick([]string{"m", "m", "m", "m:x", "m.x", ""})}}
		for range rng.IntN(4) {
			exposed = append(exposed, model.Label{Name: pick(names), Value: pick(values)})
		}
		maker := newLabelMaker()
		if _, ok := maker.plain(exposed, s.target, s.pool.cfg); ok {
			plain++
		}
		short++
		got, gotErr := maker.series(exposed, s.target, s.pool)
		given := s.pool.cfg
		cfg := *given
		cfg.MetricRelabelConfigs = []*relabel.Config{{Action: relabel.LabelDrop, Regex: relabel.MustNewRegexp("never"), NameValidationScheme: cfg.MetricNameValidationScheme}}
		s.pool.cfg = &cfg
		want, wantErr := maker.series(exposed, s.target, s.pool)
		s.pool.cfg = given
		if got != want || (gotErr == nil) != (wantErr == nil) || gotErr != nil && gotErr.Error() != wantErr.Error() {
			t.Fatalf("labels of %q, %+v under %v: %s %v, want %s %v", exposed, s.target.public, cfg.MetricNameValidationScheme, got, gotErr, want, wantErr)
		}
	}
	if plain < short/10 {
		t.Errorf("%d of %d took the short way, want more", plain, short)
	}
}

// newSingleFor returns a loop with some target labels and options.
func newSingleFor(t *testing.T, pick func([]string) string, external model.Labels) *single {
	t.Helper()
	job := pick([]string{"honor_labels: true", "honor_labels: false", "metric_name_validation_scheme: legacy", "label_limit: 5", "label_name_length_limit: 10", "label_value_length_limit: 9"})
	s := newSingle(t, DefaultConfig(), "{job_name: j, "+job+"}", "a:1")
	s.pool.shared.external = external
	discovered := labels.FromStrings("__address__", "a:1", pick([]string{"a", "b", "zone"}), pick([]string{"t", strings.Repeat("t", 12)}))
	tgt, err := newTarget(labels.NewBuilder(labels.EmptyLabels()), s.pool.cfg, discovered)
	if err != nil {
		t.Fatal(err)
	}
	tgt.addExternal(external)
	s.target = tgt
	return s
}
