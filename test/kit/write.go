package kit

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// DecodeWrite checks the headers of a remote write 1.0 request, as the specification demands
// them of a sender, and decodes its body. The labels of the series are not looked at; see
// [CheckSeries].
func DecodeWrite(h http.Header, body []byte) (*prompb.WriteRequest, error) {
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/x-protobuf" {
		return nil, fmt.Errorf("content type %q is not application/x-protobuf", h.Get("Content-Type"))
	}
	if proto := params["proto"]; proto != "" && proto != "prometheus.WriteRequest" {
		return nil, fmt.Errorf("message %q is not prometheus.WriteRequest", proto)
	}
	if enc := h.Get("Content-Encoding"); enc != "snappy" {
		return nil, fmt.Errorf("content encoding %q is not snappy", enc)
	}
	if version := h.Get("X-Prometheus-Remote-Write-Version"); version != "0.1.0" {
		return nil, fmt.Errorf("X-Prometheus-Remote-Write-Version %q is not 0.1.0", version)
	}
	if h.Get("User-Agent") == "" {
		return nil, errors.New("no User-Agent")
	}
	raw, err := DecodeSnappy(body)
	if err != nil {
		return nil, err
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("decode prometheus.WriteRequest: %w", err)
	}
	return &req, nil
}

// SeriesLimits are what Mimir refuses a series for.
type SeriesLimits struct {
	MaxLabels      int // labels a series, the name included
	MaxNameLength  int // bytes of a label name
	MaxValueLength int // bytes of a label value
}

// DefaultSeriesLimits are Mimir's defaults.
func DefaultSeriesLimits() SeriesLimits {
	return SeriesLimits{MaxLabels: 30, MaxNameLength: 1024, MaxValueLength: 2048}
}

// nameLabel is the label that holds the name of a metric.
const nameLabel = "__name__"

// CheckSeries returns the label set of one series, or why Mimir and the specification of
// remote write 1.0 refuse it: no metric name, a bad or empty name or value, names that are not
// in byte order, the same name twice, invalid UTF-8, too many or too long labels.
func CheckSeries(ts *prompb.TimeSeries, limits SeriesLimits) (labels.Labels, error) {
	fail := func(id, format string, args ...any) (labels.Labels, error) {
		return labels.EmptyLabels(), fmt.Errorf("%s (err-mimir-%s), series: %q", fmt.Sprintf(format, args...), id, fmt.Sprint(ts.Labels))
	}
	if len(ts.Labels) > limits.MaxLabels {
		return fail("max-label-names-per-series", "the series has %d labels, the limit is %d", len(ts.Labels), limits.MaxLabels)
	}
	name, last := "", ""
	b := labels.NewScratchBuilder(len(ts.Labels))
	for i, l := range ts.Labels {
		switch {
		case l.Name == "":
			return fail("label-invalid", "label %d has an empty name", i)
		case !utf8.ValidString(l.Name):
			return fail("label-invalid", "the label name %q is not valid UTF-8", l.Name)
		case l.Value == "":
			return fail("label-invalid", "the label %q has an empty value", l.Name)
		case !utf8.ValidString(l.Value):
			return fail("label-value-invalid", "the value of label %q is not valid UTF-8", l.Name)
		case l.Name != nameLabel && !validLabelName(l.Name):
			return fail("label-invalid", "the label name %q has characters other than letters, digits and _", l.Name)
		case i > 0 && l.Name == last:
			return fail("duplicate-label-names", "the label %q occurs twice", l.Name)
		case i > 0 && l.Name < last:
			return fail("labels-not-sorted", "the label %q comes after %q", l.Name, last)
		case len(l.Name) > limits.MaxNameLength:
			return fail("label-name-too-long", "the label name %.100q is over %d bytes", l.Name, limits.MaxNameLength)
		case len(l.Value) > limits.MaxValueLength:
			return fail("label-value-too-long", "the value of label %q is over %d bytes", l.Name, limits.MaxValueLength)
		}
		if l.Name == nameLabel {
			name = l.Value
		}
		last = l.Name
		b.Add(l.Name, l.Value)
	}
	if name == "" {
		return fail("missing-metric-name", "the series has no metric name")
	}
	if !validMetricName(name) {
		return fail("metric-name-invalid", "the metric name %q is not valid", name)
	}
	return b.Labels(), nil
}

// validLabelName tells whether s fits [a-zA-Z_][a-zA-Z0-9_]*.
func validLabelName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && !isLetter(c) && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return s != ""
}

// validMetricName tells whether s fits [a-zA-Z_:][a-zA-Z0-9_:]*.
func validMetricName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && c != ':' && !isLetter(c) && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return s != ""
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
