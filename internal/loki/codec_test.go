package loki

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// request returns a push request of streams.
func request(t *testing.T, streams ...model.Stream) []byte {
	t.Helper()
	q := make(fakeQueue, 1)
	w, _ := newWriter(t, DefaultConfig(), "", q)
	if err := w.Push(t.Context(), &model.LogBatch{Streams: streams}); err != nil {
		t.Fatal(err)
	}
	if err := w.flush(t.Context(), w.own); err != nil {
		t.Fatal(err)
	}
	return (<-q).Body.AppendTo(nil)
}

func TestSplitKeepsEveryLineInOrderDownToOne(t *testing.T) {
	var streams []model.Stream
	for i := range 7 {
		var lines []string
		for j := range 1 + i*i {
			lines = append(lines, fmt.Sprintf("%d-%d-%s", i, j, strings.Repeat("x", (i*j*37)%500)))
		}
		streams = append(streams, stream(labels("s", fmt.Sprint(i%3)), labels("pod", fmt.Sprint("p", i)), lines...))
	}
	body := request(t, streams...)
	want, _ := decode(t, body)
	var got []sent
	var divide func(body []byte, items, depth int)
	divide = func(body []byte, items, depth int) {
		left, right, err := Codec{}.Split(0, body)
		if errors.Is(err, delivery.ErrWhole) {
			lines, _ := decode(t, body)
			if len(lines) != 1 || items != 1 {
				t.Errorf("a body of %d lines, said to be %d, is not divided", len(lines), items)
			}
			got = append(got, lines...)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if left.Items+right.Items != items || left.Items == 0 || right.Items == 0 || depth > 16 {
			t.Fatalf("%d lines divided into %d and %d at depth %d", items, left.Items, right.Items, depth)
		}
		divide(left.Body, left.Items, depth+1)
		divide(right.Body, right.Items, depth+1)
	}
	divide(body, len(want), 0)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%.3000s", diff)
	}
	for n := range len(body) {
		_, _, _ = Codec{}.Split(0, body[:n]) // Must not panic.
	}
	if _, _, err := (Codec{}).Split(0, []byte("no snappy at all")); err == nil || errors.Is(err, delivery.ErrWhole) {
		t.Errorf("a damaged body: %v, want what is wrong", err)
	}
}

// withoutText leaves the words for the log out of a comparison.
var withoutText = cmpopts.IgnoreFields(delivery.Refusal{}, "Text")

// TestRefusalsAreReadFromLokisWords holds the words of Loki 3.7.8.
func TestRefusalsAreReadFromLokisWords(t *testing.T) {
	body := func() []byte {
		return request(t,
			stream(labels("app", "a", "job", "x"), "", "1", "2", "3"),
			stream(labels("app", "b's {y} has", "z", "1"), "", "4", "5"),
			stream(labels("app", "a", "job", "x"), "", "6"),
			stream("", "", "7"))
	}
	const items = 7
	tests := []struct {
		name string
		code int
		text string
		want []delivery.Refusal
	}{
		{
			"too far behind", 400,
			"entry with timestamp 2026-01-02 03:04:05.6 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2026-01-02T03:04:05Z, oldest acceptable timestamp is: 2026-01-02T04:00:00Z',\n" +
				"entry with timestamp 2026-01-02 03:04:06.6 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: 2026-01-02T03:04:06Z, oldest acceptable timestamp is: 2026-01-02T04:00:00Z',\n" +
				`user 'fake', total ignored: 2 out of 3 for stream: {app="a", job="x", service_name="a"}`,
			[]delivery.Refusal{{Reason: reasonTooFarBehind, Items: 2}},
		},
		{
			"out of order", 400,
			`entry with timestamp 2026-01-02 03:04:05.6 +0000 UTC ignored, reason: 'entry out of order',` + "\n" + `user 'fake', total ignored: 12 out of 13 for stream: {app="a"}`,
			[]delivery.Refusal{{Reason: reasonOutOfOrder, Items: items}},
		},
		{
			"one line too long", 400,
			`max entry size '262144' bytes exceeded for stream '{app="a", job="x", service_name="a"}' while adding an entry with length '300000' bytes`,
			[]delivery.Refusal{{Reason: reasonLineTooLong, Items: 1}},
		},
		{
			"several kinds", 400,
			`2 errors like: entry for stream '{app="a"}' has timestamp too old: 2026-01-02T03:04:05Z, oldest acceptable timestamp is: 2026-01-03T03:04:05Z; ` +
				`1 errors like: max entry size '262144' bytes exceeded for stream '{app="has timestamp too new"}' while adding an entry with length '300000' bytes; ` +
				`1 errors like: entry for stream '{app="a"}' has timestamp too old: 2026-01-02T03:04:06Z, oldest acceptable timestamp is: 2026-01-03T03:04:05Z`,
			[]delivery.Refusal{{Reason: reasonTooOld, Items: 3}, {Reason: reasonLineTooLong, Items: 1}},
		},
		{
			"too new", 400, `3 errors like: entry for stream '{app="a"}' has timestamp too new: 2036-01-02T03:04:05Z`,
			[]delivery.Refusal{{Reason: reasonTooFarInFuture, Items: 3}},
		},
		{
			"label limit of a stream that comes twice", 400,
			`2 errors like: entry for stream '{app="a", job="x", service_name="a"}' has 16 label names; limit 15`,
			[]delivery.Refusal{{Reason: reasonTooManyLabels, Items: 4}},
		},
		{
			"long value", 400, `stream '{app="b's {y} has", service_name="b's {y} has", z="1"}' has label value too long: 'xxx'`,
			[]delivery.Refusal{{Reason: reasonValueTooLong, Items: 2}},
		},
		{
			"long name", 400, `stream '{app="a", job="x"}' has label name too long: 'xxx'`,
			[]delivery.Refusal{{Reason: reasonNameTooLong, Items: 4}},
		},
		{
			"no labels", 400, "error at least one label pair is required per stream",
			[]delivery.Refusal{{Reason: reasonMissingLabels, Items: 1}},
		},
		{
			"a stream that we do not know", 400, `stream '{other="a"}' has label name too long: 'xxx'`,
			[]delivery.Refusal{{Reason: reasonNameTooLong, Items: items}},
		},
		{
			"enforced labels", 400, `missing required labels 'team' for user 'fake' for stream '{app="a", job="x"}' (policy: '')`,
			[]delivery.Refusal{{Reason: reasonEnforcedLabels, Items: 4}},
		},
		{
			"metadata", 400, "2 errors like: stream '{app=\"a\"}' has structured metadata too large: '70000' bytes, limit: '65536' bytes. Please see `limits_config.max_structured_metadata_size` or contact your Loki administrator to increase it; " +
				"1 errors like: stream '{app=\"a\"}' has too many structured metadata labels: '200', limit: '128'.; 1 errors like: stream '{app=\"a\"}' includes structured metadata, but this feature is disallowed. Please see",
			[]delivery.Refusal{{Reason: reasonMetadataTooLarge, Items: 2}, {Reason: reasonMetadataTooMany, Items: 1}, {Reason: reasonMetadataOff, Items: 1}},
		},
		{
			"labels that cannot be parsed cost the request", 400, `couldn't parse labels: 1:5: parse error: unexpected`,
			[]delivery.Refusal{{Reason: reasonInvalidLabels, Items: items}},
		},
		{
			"blocked, which Loki says by a success", 260, "ingestion blocked for user 'fake' until '2026-01-02T03:04:05Z' with status code '260'",
			[]delivery.Refusal{{Reason: reasonBlocked, Items: items}},
		},
		{"something else", 400, "no idea", nil},
		{"another status", 422, "entry too far behind", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Codec{}.Refusals(tt.code, tt.text, true, 0, items, body)
			if diff := cmp.Diff(tt.want, got, withoutText); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
			for _, r := range got {
				if len(r.Text) > 300 || r.Text != "" && strings.Count(r.Text, " errors like: ") > 0 {
					t.Errorf("the log says %q, want what is about these lines", r.Text)
				}
				if !slices.Contains(Codec{}.Reasons(), r.Reason) {
					t.Errorf("%s is no announced reason", r.Reason)
				}
			}
		})
	}
	cut := Codec{}.Refusals(400, `2 errors like: max entry size '2' bytes exceeded for stream '{}' while adding an entry with length '3' bytes; 1 err`, false, 0, items, body)
	if diff := cmp.Diff([]delivery.Refusal{{Reason: reasonLineTooLong, Items: items}}, cut, withoutText); diff != "" {
		t.Errorf("an answer that is cut off (-want +got):\n%s", diff)
	}
}
