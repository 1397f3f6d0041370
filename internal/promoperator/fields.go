package promoperator

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// limits are the fields of a spec that every kind has under the same names.
type limits struct {
	sampleLimit           *int64
	targetLimit           *int64
	labelLimit            *int64
	labelNameLengthLimit  *int64
	labelValueLengthLimit *int64
	keepDroppedTargets    *int64
	bodySizeLimit         *monitoringv1.ByteSize
	protocols             []monitoringv1.ScrapeProtocol
	fallback              *monitoringv1.ScrapeProtocol
	extraScrapeMetrics    *bool
	histograms            monitoringv1.NativeHistogramConfig
}

// setLimits gives a job the limits and the formats of its spec. 0 is, as in Prometheus, the
// value of the block scrape.
func (o *object) setLimits(job *scrape.JobConfig, l limits) {
	o.limit(&job.SampleLimit, "spec.sampleLimit", l.sampleLimit)
	o.limit(&job.TargetLimit, "spec.targetLimit", l.targetLimit)
	o.limit(&job.LabelLimit, "spec.labelLimit", l.labelLimit)
	o.limit(&job.LabelNameLengthLimit, "spec.labelNameLengthLimit", l.labelNameLengthLimit)
	o.limit(&job.LabelValueLengthLimit, "spec.labelValueLengthLimit", l.labelValueLengthLimit)
	o.limit(&job.KeepDroppedTargets, "spec.keepDroppedTargets", l.keepDroppedTargets)
	if l.bodySizeLimit != nil && *l.bodySizeLimit != "" {
		size, ok := parseSize(string(*l.bodySizeLimit))
		if !ok {
			o.reject("spec.bodySizeLimit", "must be a size such as 10MB, is %q", *l.bodySizeLimit)
		}
		job.BodySizeLimit = size
	}
	for i, p := range l.protocols {
		o.checkProtocol(config.Index("spec.scrapeProtocols", i), p)
		job.ScrapeProtocols = append(job.ScrapeProtocols, string(p))
	}
	job.FallbackScrapeProtocol = o.class.FallbackScrapeProtocol
	if l.fallback != nil {
		o.checkProtocol("spec.fallbackScrapeProtocol", *l.fallback)
		job.FallbackScrapeProtocol = string(*l.fallback)
	}
	job.ExtraScrapeMetrics = l.extraScrapeMetrics
	o.setHistograms(job, l.histograms)
}

func (o *object) checkProtocol(field string, p monitoringv1.ScrapeProtocol) {
	switch p {
	case monitoringv1.PrometheusProto, monitoringv1.OpenMetricsText0_0_1, monitoringv1.OpenMetricsText1_0_0,
		monitoringv1.PrometheusText0_0_4, monitoringv1.PrometheusText1_0_0:
	default:
		o.reject(field, "%q is no scrape protocol", p)
	}
}

func (o *object) setHistograms(job *scrape.JobConfig, h monitoringv1.NativeHistogramConfig) {
	job.ScrapeNativeHistograms = h.ScrapeNativeHistograms
	job.AlwaysScrapeClassicHistograms = h.ScrapeClassicHistograms
	job.ConvertClassicHistogramsToNHCB = h.ConvertClassicHistogramsToNHCB
	o.limit(&job.NativeHistogramBucketLimit, "spec.nativeHistogramBucketLimit", h.NativeHistogramBucketLimit)
	if h.NativeHistogramMinBucketFactor != nil {
		job.NativeHistogramMinBucketFactor = h.NativeHistogramMinBucketFactor.AsApproximateFloat64()
		if job.NativeHistogramMinBucketFactor < 0 {
			o.reject("spec.nativeHistogramMinBucketFactor", "must not be negative, is %s", h.NativeHistogramMinBucketFactor)
		}
	}
}

func (o *object) limit(into *uint, field string, v *int64) {
	switch {
	case v == nil:
	case *v < 0:
		o.reject(field, "must not be negative, is %d", *v)
	default:
		*into = uint(*v)
	}
}

// parseSize reads a size as the objects have it: 10MB and 10MiB are the same, and fractions
// are allowed.
func parseSize(s string) (config.Size, bool) {
	const units = "KMGTPE"
	number := strings.TrimRight(s, "iB"+units)
	unit := strings.Replace(s[len(number):], "i", "", 1)
	factor := 1.0
	if len(unit) == 2 && strings.IndexByte(units, unit[0]) >= 0 {
		factor = math.Pow(1024, float64(strings.IndexByte(units, unit[0])+1))
		unit = unit[1:]
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n < 0 || unit != "B" && s != "0" || n*factor >= math.MaxInt64 {
		return 0, false
	}
	return config.Size(n * factor), true
}

// setTimes gives a job its interval and timeout, those of the kind where the object has none.
func (o *object) setTimes(job *scrape.JobConfig, interval, timeout monitoringv1.Duration, intervalField, timeoutField string) {
	job.ScrapeInterval = cmp.Or(o.duration(intervalField, string(interval)), o.kind.ScrapeInterval)
	every := cmp.Or(job.ScrapeInterval, o.global.Interval)
	if job.ScrapeTimeout = o.duration(timeoutField, string(timeout)); job.ScrapeTimeout > every {
		o.reject(timeoutField, "must be at most the interval of %s, is %s", every, job.ScrapeTimeout)
	}
	if job.ScrapeTimeout == 0 {
		job.ScrapeTimeout = min(o.kind.ScrapeTimeout, every)
	}
}

// duration reads a duration of an object, 0 when it has none.
func (o *object) duration(field, text string) config.Duration {
	if text == "" {
		return 0
	}
	d, err := model.ParseDuration(text)
	if err != nil {
		o.reject(field, "must be a duration such as 30s, 5m or 1h30m, is %q", text)
	}
	return d
}

// refresh is the refresh interval of a discovery, def where the object has none.
func (o *object) refresh(field string, text *monitoringv1.Duration, def time.Duration) config.Duration {
	if text == nil {
		return config.Duration(def)
	}
	return cmp.Or(o.duration(field, string(*text)), config.Duration(def))
}

// honor says which of labels and timestamps of the exposition are taken.
func (o *object) honor(job *scrape.JobConfig, labels bool, timestamps, staleness *bool) {
	job.HonorLabels = labels && !o.cfg.OverrideHonorLabels
	job.HonorTimestamps = !o.cfg.OverrideHonorTimestamps && (timestamps == nil || *timestamps)
	job.TrackTimestampsStaleness = staleness != nil && *staleness
}

// scheme is http or https; objects write them in any case.
func (o *object) scheme(field string, s *monitoringv1.Scheme) string {
	switch {
	case s == nil || *s == "":
		return "http"
	case s.String() != "http" && s.String() != "https":
		o.reject(field, "must be http or https, is %q", *s)
	}
	return s.String()
}

// namespaces are those that an object looks for targets in.
func (o *object) namespaces(s monitoringv1.NamespaceSelector) discovery.KubernetesNamespaces {
	switch {
	case o.cfg.IgnoreNamespaceSelectors, !s.Any && len(s.MatchNames) == 0:
		return discovery.KubernetesNamespaces{Names: []string{o.namespace}}
	case s.Any:
		return discovery.KubernetesNamespaces{}
	}
	return discovery.KubernetesNamespaces{Names: s.MatchNames}
}

// attach is what targets are told of their nodes.
func (o *object) attach(m *monitoringv1.AttachMetadata) discovery.AttachMetadata {
	if m == nil {
		return o.class.AttachMetadata
	}
	return discovery.AttachMetadata{Node: m.Node != nil && *m.Node}
}
