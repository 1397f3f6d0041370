package scrape

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/expfmt"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// target is one thing to scrape, after relabelling. It does not change.
type target struct {
	// id is every label that is left after relabelling. Two targets with equal ids are one.
	id model.Labels
	// public is the labels that go onto samples, sorted; publicKey is their wire form.
	public    []labels.Label
	publicKey model.Labels
	// common is publicKey and the external labels that it lacks.
	common model.Labels
	// plain says that the public labels are valid and within the limits for series.
	plain bool
	// key is a hash of publicKey that stays the same when the program is started again.
	key uint64

	url      string
	interval time.Duration
	timeout  time.Duration
	parsing  expfmt.Options
}

// The labels by which relabelling chooses how histograms of a target are read, as in
// Prometheus. Their values are true and false; before it they have those of the job.
const (
	nativeLabel  = "__scrape_native_histograms__"
	classicLabel = "__always_scrape_classic_histograms__"
	convertLabel = "__convert_classic_histograms_to_nhcb__"
)

// errDropped says that relabelling dropped a target.
var errDropped = errors.New("dropped by relabel_configs")

// newTarget makes a target of what discovery found: it adds the labels of the job, relabels,
// checks, and removes what is for relabelling only, all as Prometheus does. lb is scratch
// space and afterwards holds the labels before relabelling when err is not nil.
func newTarget(lb *labels.Builder, cfg *JobConfig, discovered labels.Labels) (*target, error) {
	populate(lb, cfg, discovered)
	if !relabel.ProcessBuilder(lb, cfg.RelabelConfigs...) {
		return nil, errDropped
	}
	address := lb.Get(prommodel.AddressLabel)
	switch {
	case address == "":
		return nil, errors.New("has no __address__")
	case strings.Contains(address, "/"):
		return nil, fmt.Errorf("__address__ %q is no host:port; scheme and path belong into __scheme__ and __metrics_path__", config.RedactURL(address))
	}
	interval, err := positiveDuration(lb, prommodel.ScrapeIntervalLabel)
	if err != nil {
		return nil, err
	}
	timeout, err := positiveDuration(lb, prommodel.ScrapeTimeoutLabel)
	if err != nil {
		return nil, err
	}
	if timeout > interval {
		return nil, fmt.Errorf("__scrape_timeout__ %s is above __scrape_interval__ %s", timeout, interval)
	}
	parsing, err := parsingOptions(lb, cfg)
	if err != nil {
		return nil, err
	}
	lb.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, prommodel.MetaLabelPrefix) {
			lb.Del(l.Name)
		}
	})
	if lb.Get(prommodel.InstanceLabel) == "" {
		lb.Set(prommodel.InstanceLabel, address)
	}
	t := &target{interval: interval, timeout: timeout, parsing: parsing}
	if err := t.setLabels(lb.Labels(), cfg.Params); err != nil {
		return nil, err
	}
	t.plain = !slices.ContainsFunc(t.public, func(l labels.Label) bool { return !isPlain(l.Name, l.Value, cfg) })
	return t, nil
}

// populate gives lb the discovered labels and those of the job that discovery left open.
func populate(lb *labels.Builder, cfg *JobConfig, discovered labels.Labels) {
	lb.Reset(discovered)
	set := func(name, value string) {
		if lb.Get(name) == "" {
			lb.Set(name, value)
		}
	}
	set(prommodel.JobLabel, cfg.JobName)
	set(prommodel.ScrapeIntervalLabel, cfg.ScrapeInterval.String())
	set(prommodel.ScrapeTimeoutLabel, cfg.ScrapeTimeout.String())
	set(prommodel.MetricsPathLabel, cfg.MetricsPath)
	set(prommodel.SchemeLabel, cfg.Scheme)
	set(nativeLabel, strconv.FormatBool(*cfg.ScrapeNativeHistograms))
	set(classicLabel, strconv.FormatBool(*cfg.AlwaysScrapeClassicHistograms))
	set(convertLabel, strconv.FormatBool(*cfg.ConvertClassicHistogramsToNHCB))
	for name, values := range cfg.Params {
		if len(values) > 0 {
			set(prommodel.ParamLabelPrefix+name, values[0])
		}
	}
}

func positiveDuration(lb *labels.Builder, name string) (time.Duration, error) {
	d, err := prommodel.ParseDuration(lb.Get(name))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if d == 0 {
		return 0, fmt.Errorf("%s must be positive, is 0", name)
	}
	return time.Duration(d), nil
}

// parsingOptions returns how the expositions of a target with these labels are parsed. Where
// relabelling has removed a label, the job decides.
func parsingOptions(lb *labels.Builder, cfg *JobConfig) (o expfmt.Options, err error) {
	read := func(name string, job bool) bool {
		text := lb.Get(name)
		if text == "" {
			return job
		}
		v, bad := strconv.ParseBool(text)
		if bad != nil && err == nil {
			err = fmt.Errorf("%s must be true or false, is %q", name, text)
		}
		return v
	}
	o = expfmt.Options{
		Created:        *cfg.StartTimestamps,
		IgnoreNative:   !read(nativeLabel, *cfg.ScrapeNativeHistograms),
		KeepClassic:    read(classicLabel, *cfg.AlwaysScrapeClassicHistograms),
		ConvertClassic: read(convertLabel, *cfg.ConvertClassicHistogramsToNHCB),
	}
	return o, err
}

func (t *target) setLabels(all labels.Labels, params url.Values) error {
	var id, public []byte
	n := 0
	u := url.URL{}
	query := make(url.Values, len(params))
	for k, v := range params {
		query[k] = append([]string(nil), v...)
	}
	err := all.Validate(func(l labels.Label) error {
		if !prommodel.LabelValue(l.Value).IsValid() {
			return fmt.Errorf("the value of label %q is no valid UTF-8", l.Name)
		}
		id = model.AppendLabel(id, l.Name, l.Value)
		if !strings.HasPrefix(l.Name, prommodel.ReservedLabelPrefix) {
			public = model.AppendLabel(public, l.Name, l.Value)
			n++
		}
		switch l.Name {
		case prommodel.SchemeLabel:
			u.Scheme = l.Value
		case prommodel.AddressLabel:
			u.Host = l.Value
		case prommodel.MetricsPathLabel:
			u.Path = l.Value
		}
		if name, ok := strings.CutPrefix(l.Name, prommodel.ParamLabelPrefix); ok {
			if len(query[name]) > 0 {
				query[name][0] = l.Value
			} else {
				query[name] = []string{l.Value}
			}
		}
		return nil
	})
	u.RawQuery = query.Encode()
	t.id, t.publicKey, t.url = model.Labels(id), model.Labels(public), u.String()
	// The strings are parts of publicKey: those of all would keep the memory in which all that
	// was discovered of the target had its place.
	t.public = make([]labels.Label, 0, n)
	for name, value, _, rest, ok := t.publicKey.Next(); ok; name, value, _, rest, ok = rest.Next() {
		t.public = append(t.public, labels.Label{Name: name, Value: value})
	}
	h := fnv.New64a()
	h.Write(public)
	t.key = h.Sum64()
	return err
}

// addExternal gives samples of the target external labels.
func (t *target) addExternal(external model.Labels) {
	t.common = t.publicKey
	if external != "" {
		t.common = model.Labels(t.publicKey.AppendWith(nil, external))
	}
}

// phase returns when within each interval the target is scraped. It depends on nothing but
// the target, so that a restart, and another replica, keeps it.
func (t *target) phase() time.Duration {
	h := fnv.New64a()
	h.Write([]byte(t.id))
	h.Write([]byte(t.url))
	phase := time.Duration(h.Sum64() % uint64(t.interval))
	if t.interval < time.Second {
		return phase
	}
	return phase.Truncate(min(grid, t.interval/20))
}

// wait returns the time from now to the next phase of the target.
func (t *target) wait(now time.Time) time.Duration {
	since := time.Duration(now.UnixNano() % int64(t.interval))
	d := t.phase() - since
	if d < 0 {
		d += t.interval
	}
	return d
}
