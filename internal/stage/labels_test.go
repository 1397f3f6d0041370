package stage

import (
	"strings"
	"testing"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// labelled runs stages on a line and compares labels and metadata.
func labelled(t *testing.T, stages, line, labels, metadata string) {
	t.Helper()
	b := newBench(t, stages)
	e := b.one(line)
	if got := e.Labels.String(); got != labels {
		t.Errorf("%s\non %q: labels = %s, want %s", stages, line, got, labels)
	}
	if got := e.Metadata.String(); got != metadata {
		t.Errorf("%s\non %q: metadata = %s, want %s", stages, line, got, metadata)
	}
}

func TestLabelStages(t *testing.T) {
	f := func(stages, line, labels string) {
		t.Helper()
		labelled(t, stages, line, labels, "{}")
	}
	// Of an extracted value, under its own name or another.
	f("- logfmt: {mapping: {stream: , lvl: level}}\n- labels: {stream: , level: lvl}", "stream=stderr level=info",
		`{app="web", level="info", namespace="shop", stream="stderr"}`)
	// Labels are there as values from the start.
	f("- labels: {service: app, absent: }", "x", `{app="web", namespace="shop", service="web"}`)
	f("- labels: {values: {service: app}}", "x", `{app="web", namespace="shop", service="web"}`)
	// An existing label is replaced, an empty value is none, and what is no text is none either.
	f("- json: {expressions: {app: a, e: , n: }}\n- labels: {app: , e: , n: }", `{"a":"api","e":"","n":null}`, `{app="api", namespace="shop"}`)
	f("- static_labels: {custom_key: custom_val, app: x, empty: }", "x", `{app="x", custom_key="custom_val", namespace="shop"}`)
	f("- static_labels: {values: {a: b}}", "x", `{a="b", app="web", namespace="shop"}`)
	f("- label_drop: [app, other]", "x", `{namespace="shop"}`)
	f("- labeldrop:\n  - app", "x", `{namespace="shop"}`)
	f("- label_drop: {values: [app]}", "x", `{namespace="shop"}`)
	f("- label_drop: app", "x", `{namespace="shop"}`)
	f("- label_keep: [app, other]", "x", `{app="web"}`)
	f("- labelallow: [namespace]", "x", `{namespace="shop"}`)
	f("- static_labels: {z: z}\n- labelallow: [z]", "x", `{z="z"}`)
	f("- tenant: {value: team}", "x", `{__tenant_id__="team", app="web", namespace="shop"}`)
	f("- tenant: {label: namespace}", "x", `{__tenant_id__="shop", app="web", namespace="shop"}`)
	f("- tenant: {label: absent}", "x", `{app="web", namespace="shop"}`)
	f("- json: {expressions: {customer_id: }}\n- tenant: {source: customer_id}", `{"customer_id":"1"}`, `{__tenant_id__="1", app="web", namespace="shop"}`)
	f("- json: {expressions: {customer_id: }}\n- tenant: {source: customer_id}", `{}`, `{app="web", namespace="shop"}`)
}

func TestStructuredMetadataMovesValues(t *testing.T) {
	labelled(t, "- logfmt: {mapping: {tid: trace_id}}\n- structured_metadata: {trace_id: tid, namespace: , absent: }", "trace_id=abc",
		`{app="web"}`, `{namespace="shop", trace_id="abc"}`)
	labelled(t, "- structured_metadata: {values: {ns: namespace}}", "x", `{app="web"}`, `{ns="shop"}`)
	labelled(t, "- logfmt: {mapping: {k8s_a: }}\n- structured_metadata: {values: {}, regex: '^k8s_|^name'}", "k8s_a=1",
		`{app="web"}`, `{k8s_a="1", namespace="shop"}`)
	// A value that hides a label does not take it away.
	labelled(t, "- logfmt: {mapping: {app: }}\n- structured_metadata: {app: }", "app=other",
		`{app="web", namespace="shop"}`, `{app="other"}`)
	// A label that a stage has added is found, too.
	labelled(t, "- static_labels: {a: b}\n- structured_metadata: {a: }", "x", `{app="web", namespace="shop"}`, `{a="b"}`)

	b := newBench(t, "- logfmt: {mapping: {pod: }}\n- structured_metadata: {pod: }")
	e := b.line("pod=b")
	e.Metadata = model.NewLabels(model.Label{Name: "pod", Value: "a"}, model.Label{Name: "node", Value: "n"})
	b.p.Apply(e, b.now)
	if got, want := e.Metadata.String(), `{node="n", pod="b"}`; got != want {
		t.Errorf("metadata = %s, want %s", got, want)
	}
}

func TestEachLineStartsWithItsOwnLabels(t *testing.T) {
	b := newBench(t, "- logfmt: {mapping: {level: }}\n- labels: {level: }\n- structured_metadata: {app: }")
	first := b.one("level=info")
	second := b.one("nothing")
	if second.Labels.Get("level") != "" || second.Labels.Get("namespace") != "shop" {
		t.Errorf("labels of the line before stay: %v", second.Labels)
	}
	other := b.line("level=warn")
	other.Labels = model.NewLabels(model.Label{Name: "app", Value: "db"})
	b.p.Apply(other, b.now)
	if got := other.Labels.String() + other.Metadata.String(); got != `{level="warn"}{app="db"}` {
		t.Errorf("other labels give %s", got)
	}
	again := b.one("level=info")
	if again.Labels != first.Labels || again.Metadata != first.Metadata {
		t.Errorf("%v %v, want the same as before: %v %v", again.Labels, again.Metadata, first.Labels, first.Metadata)
	}
}

func TestLabelsHaveTheModelsWireForm(t *testing.T) {
	for _, size := range []int{1, 100, 127, 128, 300, 70_000} {
		v := strings.Repeat("é", size)
		got := string(model.AppendLabel(nil, "name", []byte(v)))
		if want := string(model.AppendLabel(nil, "name", v)); got != want {
			t.Errorf("a value of %d bytes differs", len(v))
		}
	}
	b := newBench(t, "- regex: {expression: '(?P<v>.*)'}\n- labels: {v: }")
	if e := b.one("\xff"); e.Labels != base {
		t.Errorf("a value that is no UTF-8 became a label: %v", e.Labels)
	}
}

func TestRenderedLabelSetsAreBounded(t *testing.T) {
	b := newBench(t, "- regex: {expression: '(?P<v>.*)'}\n- labels: {v: }")
	for i := range 5 * maxSets {
		b.one(strings.Repeat("x", i%7) + string(rune('0'+i%10)) + strings.Repeat("y", i%1031))
	}
	if n := len(b.r.labels.sets); n > maxSets {
		t.Errorf("%d rendered sets are kept, want at most %d", n, maxSets)
	}
}
