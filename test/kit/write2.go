package kit

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// decodeWrite2 decodes version 2.0 and refuses what its specification forbids a sender: a
// table of symbols that does not begin with the empty one, has one twice, or has one that
// nothing refers to; references to nowhere; series without a sample or with both kinds.
func decodeWrite2(raw []byte) (*Write, error) {
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		return nil, err
	}
	if len(req.XXX_unrecognized) > 0 {
		return nil, errors.New("the request has fields that are not of this message")
	}
	if len(req.Timeseries) == 0 {
		return nil, errors.New("the request has no series")
	}
	table, err := newSymbols(req.Symbols)
	if err != nil {
		return nil, err
	}
	w := &Write{}
	for i := range req.Timeseries {
		s, err := series2(&req.Timeseries[i], table)
		if err != nil {
			return nil, fmt.Errorf("series %d, %v: %w", i, s.Labels, err)
		}
		w.Series = append(w.Series, s)
	}
	for i, used := range table.used {
		if !used && i > 0 {
			return nil, fmt.Errorf("nothing refers to symbol %d, %q", i, table.all[i])
		}
	}
	return w, nil
}

// symbols is the table of a request with what was referred to.
type symbols struct {
	all  []string
	used []bool
}

func newSymbols(all []string) (*symbols, error) {
	if len(all) == 0 || all[0] != "" {
		return nil, errors.New("the symbols do not begin with the empty one")
	}
	seen := make(map[string]bool, len(all))
	for i, s := range all {
		if seen[s] {
			return nil, fmt.Errorf("symbol %d, %q, occurs twice", i, s)
		}
		if !utf8.ValidString(s) {
			return nil, fmt.Errorf("symbol %d, %q, is not valid UTF-8", i, s)
		}
		seen[s] = true
	}
	return &symbols{all: all, used: make([]bool, len(all))}, nil
}

func (t *symbols) get(ref uint32) (string, error) {
	if int64(ref) >= int64(len(t.all)) {
		return "", fmt.Errorf("reference %d, there are %d symbols", ref, len(t.all))
	}
	t.used[ref] = true
	return t.all[ref], nil
}

func (t *symbols) pairs(refs []uint32) ([]Pair, error) {
	if len(refs)%2 != 0 {
		return nil, fmt.Errorf("%d references are no pairs of name and value", len(refs))
	}
	var pairs []Pair
	for i := 0; i < len(refs); i += 2 {
		name, err := t.get(refs[i])
		if err != nil {
			return pairs, err
		}
		value, err := t.get(refs[i+1])
		if err != nil {
			return pairs, err
		}
		pairs = append(pairs, Pair{name, value})
	}
	return pairs, nil
}

func series2(ts *writev2.TimeSeries, table *symbols) (s WriteSeries, err error) {
	if s.Labels, err = table.pairs(ts.LabelsRefs); err != nil {
		return s, err
	}
	switch {
	case len(ts.XXX_unrecognized)+len(ts.Metadata.XXX_unrecognized) > 0:
		return s, errors.New("fields that are not of this message")
	case len(ts.Samples) == 0 && len(ts.Histograms) == 0:
		return s, errors.New("neither samples nor histograms")
	case len(ts.Samples) > 0 && len(ts.Histograms) > 0:
		return s, errors.New("both samples and histograms")
	}
	for _, in := range ts.Samples {
		if len(in.XXX_unrecognized) > 0 {
			return s, errors.New("a sample with fields that are not of this message")
		}
		if in.StartTimestamp > in.Timestamp {
			return s, fmt.Errorf("a sample at %d starts later, at %d", in.Timestamp, in.StartTimestamp)
		}
		s.Samples = append(s.Samples, Sample{T: in.Timestamp, V: in.Value, Start: in.StartTimestamp})
	}
	for i := range ts.Histograms {
		h, bad := histogram2(&ts.Histograms[i])
		if bad != nil {
			return s, bad
		}
		s.Histograms = append(s.Histograms, h)
	}
	for _, e := range ts.Exemplars {
		pairs, bad := table.pairs(e.LabelsRefs)
		if bad != nil {
			return s, fmt.Errorf("exemplar: %w", bad)
		}
		s.Exemplars = append(s.Exemplars, WriteExemplar{pairs, e.Value, e.Timestamp})
	}
	if s.Metadata.Help, err = table.get(ts.Metadata.HelpRef); err != nil {
		return s, fmt.Errorf("help: %w", err)
	}
	if s.Metadata.Unit, err = table.get(ts.Metadata.UnitRef); err != nil {
		return s, fmt.Errorf("unit: %w", err)
	}
	s.Metadata.Type = metadataType(ts.Metadata.Type.String())
	return s, nil
}

func histogram2(in *writev2.Histogram) (Histogram, error) {
	h := Histogram{T: in.Timestamp, Start: in.StartTimestamp}
	switch {
	case len(in.XXX_unrecognized) > 0:
		return h, errors.New("a histogram with fields that are not of this message")
	case in.StartTimestamp > in.Timestamp:
		return h, fmt.Errorf("a histogram at %d starts later, at %d", in.Timestamp, in.StartTimestamp)
	case in.IsFloatHistogram():
		h.Float = in.ToFloatHistogram()
	default:
		h.Int = in.ToIntHistogram()
	}
	return h, nil
}

// metadataType returns the type as it stands in an exposition; both versions name it by the
// same constants, one of them with a prefix.
func metadataType(constant string) string {
	name := strings.ToLower(strings.TrimPrefix(constant, "METRIC_TYPE_"))
	if name == "unspecified" || name == "unknown" {
		return ""
	}
	return name
}
