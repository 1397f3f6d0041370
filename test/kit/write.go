package kit

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// Message is a message of remote write.
type Message string

// The messages of remote write, by the name that the header Content-Type has for them.
const (
	Message1 Message = "prometheus.WriteRequest"
	Message2 Message = "io.prometheus.write.v2.Request"
)

// version is the value of the header X-Prometheus-Remote-Write-Version.
func (m Message) version() string {
	if m == Message2 {
		return "2.0.0"
	}
	return "0.1.0"
}

// Write is a remote write request of either version, with its symbols resolved.
type Write struct {
	Message Message
	Series  []WriteSeries
	// Families are the metadata of version 1.0, which come beside the series.
	Families []Family
	// Size is that of the message before compression.
	Size int
}

// WriteSeries is one series of a request as it came in; see [CheckSeries].
type WriteSeries struct {
	Labels     []Pair
	Samples    []Sample
	Histograms []Histogram
	Exemplars  []WriteExemplar
	// Metadata is that of version 2.0, which comes with the series.
	Metadata Metadata
}

// WriteExemplar is one exemplar as it came in; T is milliseconds since the Unix epoch.
type WriteExemplar struct {
	Labels []Pair
	V      float64
	T      int64
}

// Metadata is what is known of a metric; Type is one of counter, gauge, histogram,
// gaugehistogram, summary, info, stateset, and "" or "unknown" when it is not known.
type Metadata struct{ Type, Help, Unit string }

// Family is the metadata of one metric family, by its name.
type Family struct {
	Name string
	Metadata
}

// Histogram is one native histogram, with counts that are either whole numbers or floats.
// Start is the time it counts from, 0 when not given; both times are milliseconds.
type Histogram struct {
	T, Start int64
	Int      *histogram.Histogram
	Float    *histogram.FloatHistogram
}

// errMediaType marks what a receiver answers with 415.
var errMediaType = errors.New("unsupported media type")

// MessageOf returns which message a request has by its headers, or why a receiver has to
// answer with 415.
func MessageOf(h http.Header) (Message, error) {
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != "application/x-protobuf" {
		return "", fmt.Errorf("%w: content type %q is not application/x-protobuf", errMediaType, h.Get("Content-Type"))
	}
	if enc := h.Get("Content-Encoding"); enc != "snappy" {
		return "", fmt.Errorf("%w: content encoding %q is not snappy", errMediaType, enc)
	}
	switch proto := params["proto"]; proto {
	case "", string(Message1):
		return Message1, nil
	case string(Message2):
		return Message2, nil
	default:
		return "", fmt.Errorf("%w: message %q is not one of remote write", errMediaType, proto)
	}
}

// DecodeWrite checks the headers of a remote write request of either version, as the
// specifications demand them of a sender, and decodes its body, which may have no field that
// they do not name. The label sets are not looked at; see [CheckSeries].
func DecodeWrite(h http.Header, body []byte) (*Write, error) {
	message, err := MessageOf(h)
	if err != nil {
		return nil, err
	}
	if version := h.Get("X-Prometheus-Remote-Write-Version"); version != message.version() {
		return nil, fmt.Errorf("X-Prometheus-Remote-Write-Version %q is not %s, that of %s", version, message.version(), message)
	}
	if h.Get("User-Agent") == "" {
		return nil, errors.New("no User-Agent")
	}
	raw, err := DecodeSnappy(body)
	if err != nil {
		return nil, err
	}
	decode := decodeWrite1
	if message == Message2 {
		decode = decodeWrite2
	}
	w, err := decode(raw)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", message, err)
	}
	w.Message, w.Size = message, len(raw)
	return w, nil
}

// decodeWrite1 decodes version 1.0. It has no start timestamps, and nothing of it is empty.
func decodeWrite1(raw []byte) (*Write, error) {
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		return nil, err
	}
	if len(req.XXX_unrecognized) > 0 {
		return nil, errors.New("the request has fields that are not of this message")
	}
	w := &Write{}
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		s, err := series1(ts)
		if err != nil {
			return nil, fmt.Errorf("series %v: %w", ts.Labels, err)
		}
		w.Series = append(w.Series, s)
	}
	for i := range req.Metadata {
		m := &req.Metadata[i]
		if m.MetricFamilyName == "" {
			return nil, errors.New("metadata without the name of a family")
		}
		w.Families = append(w.Families, Family{m.MetricFamilyName, Metadata{metadataType(m.Type.String()), m.Help, m.Unit}})
	}
	return w, nil
}

func series1(ts *prompb.TimeSeries) (s WriteSeries, err error) {
	if len(ts.XXX_unrecognized) > 0 {
		return s, errors.New("fields that are not of this message")
	}
	s.Labels = pairs1(ts.Labels)
	for _, in := range ts.Samples {
		if len(in.XXX_unrecognized) > 0 {
			return s, errors.New("a sample with fields that are not of this message, which has no start timestamps")
		}
		s.Samples = append(s.Samples, Sample{T: in.Timestamp, V: in.Value})
	}
	for i := range ts.Histograms {
		in := &ts.Histograms[i]
		h := Histogram{T: in.Timestamp}
		if in.IsFloatHistogram() {
			h.Float = in.ToFloatHistogram()
		} else {
			h.Int = in.ToIntHistogram()
		}
		s.Histograms = append(s.Histograms, h)
	}
	for _, e := range ts.Exemplars {
		s.Exemplars = append(s.Exemplars, WriteExemplar{pairs1(e.Labels), e.Value, e.Timestamp})
	}
	return s, nil
}

func pairs1(in []prompb.Label) []Pair {
	pairs := make([]Pair, len(in))
	for i, l := range in {
		pairs[i] = Pair{l.Name, l.Value}
	}
	return pairs
}

// SeriesLimits are what Mimir refuses a series for.
type SeriesLimits struct {
	MaxLabels      int // labels a series, the name included
	MaxNameLength  int // bytes of a label name
	MaxValueLength int // bytes of a label value
	// UTF8Names takes every name that is valid UTF-8, as Prometheus 3 does; without it names
	// fit Prometheus' old characters.
	UTF8Names bool
}

// DefaultSeriesLimits are Mimir's defaults.
func DefaultSeriesLimits() SeriesLimits {
	return SeriesLimits{MaxLabels: 30, MaxNameLength: 1024, MaxValueLength: 2048}
}

// nameLabel is the label that holds the name of a metric.
const nameLabel = "__name__"

// CheckSeries returns the label set of one series, or why Mimir and the specifications of
// remote write refuse it: no metric name, a bad or empty name or value, names that are not in
// byte order, the same name twice, invalid UTF-8, too many or too long labels.
func CheckSeries(pairs []Pair, limits SeriesLimits) (labels.Labels, error) {
	fail := func(id, format string, args ...any) (labels.Labels, error) {
		return labels.EmptyLabels(), fmt.Errorf("%s (err-mimir-%s), series: %q", fmt.Sprintf(format, args...), id, fmt.Sprint(pairs))
	}
	if len(pairs) > limits.MaxLabels {
		return fail("max-label-names-per-series", "the series has %d labels, the limit is %d", len(pairs), limits.MaxLabels)
	}
	name, last := "", ""
	b := labels.NewScratchBuilder(len(pairs))
	for i, l := range pairs {
		switch {
		case l.Name == "":
			return fail("label-invalid", "label %d has an empty name", i)
		case !utf8.ValidString(l.Name):
			return fail("label-invalid", "the label name %q is not valid UTF-8", l.Name)
		case l.Value == "":
			return fail("label-invalid", "the label %q has an empty value", l.Name)
		case !utf8.ValidString(l.Value):
			return fail("label-value-invalid", "the value of label %q is not valid UTF-8", l.Name)
		case l.Name != nameLabel && !limits.UTF8Names && !validLabelName(l.Name):
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
	if !limits.UTF8Names && !validMetricName(name) {
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
