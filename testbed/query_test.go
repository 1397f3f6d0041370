package testbed

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestPromQLAnswersAreRead(t *testing.T) {
	const vector = `{"status":"success","data":{"resultType":"vector","result":[
		{"metric":{"__name__":"up","job":"a"},"value":[1700000000.123,"1"]}]}}`
	want := []Series{{
		Labels:  map[string]string{"__name__": "up", "job": "a"},
		Samples: []Sample{{time.UnixMilli(1700000000123), 1}},
	}}
	if got, err := parsePromQL([]byte(vector)); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("parsePromQL(vector) = %v, %v, want %v", got, err, want)
	}
	const matrix = `{"data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"],[3,"+Inf"]]}]}}`
	got, err := parsePromQL([]byte(matrix))
	if err != nil || len(got) != 1 || len(got[0].Samples) != 2 || got[0].Samples[0].Value != 2 {
		t.Errorf("parsePromQL(matrix) = %v, %v, want one series of two samples", got, err)
	}
	if _, err := parsePromQL([]byte(`{"data":{"resultType":"scalar","result":[1,"2"]}}`)); err == nil {
		t.Error("parsePromQL(scalar) succeeded, want an error")
	}
}

func TestLogQLAnswersAreSortedByTime(t *testing.T) {
	const body = `{"data":{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[
		{"stream":{"s":"b"},"values":[["1700000000000000002","two",{"structuredMetadata":{"pod":"p"}}],["1700000000000000003","three",{}]]},
		{"stream":{"s":"a"},"values":[["1700000000000000001","one"]]}]}}`
	lines, err := parseLogQL([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, l := range lines {
		texts = append(texts, l.Text)
	}
	if want := []string{"one", "two", "three"}; !reflect.DeepEqual(texts, want) {
		t.Errorf("lines = %q, want %q", texts, want)
	}
	if l := lines[1]; l.Labels["s"] != "b" || l.Metadata["pod"] != "p" || l.Time.UnixNano() != 1700000000000000002 {
		t.Errorf("line = %+v, want label s=b, metadata pod=p and its time", l)
	}
}

func TestWorkloadLineComesBackWhole(t *testing.T) {
	for _, size := range []int{0, 100, 40_000} {
		want := WorkloadLine{Run: "r", Seq: 17, Stream: "stderr"}
		text := string(want.AppendLine(nil, size))
		if len(text) < size {
			t.Errorf("line of size %d has %d bytes", size, len(text))
		}
		if got, err := ParseLine(text); err != nil || got != want {
			t.Errorf("ParseLine(%.50q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestWorkloadLineThatIsDamagedIsRefused(t *testing.T) {
	text := string(WorkloadLine{Run: "r", Seq: 17, Stream: "stdout"}.AppendLine(nil, 200))
	for name, damaged := range map[string]string{
		"cut at the end":   text[:len(text)-1],
		"cut at the start": text[1:],
		"hole":             text[:50] + text[60:],
		"other number":     strings.Replace(text, "seq=17", "seq=18", 1),
		"two lines":        text + text,
		"empty":            "",
	} {
		if l, err := ParseLine(damaged); err == nil {
			t.Errorf("%s: ParseLine = %v, want an error", name, l)
		}
	}
}
