package kube

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

func monitor(name string, spec any, more map[string]any) map[string]any {
	meta := map[string]any{"namespace": "shop", "name": name, "uid": "u", "managedFields": []any{map[string]any{"manager": "kubectl"}}}
	maps.Copy(meta, more)
	return map[string]any{"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": meta, "spec": spec, "status": map[string]any{"seen": name}}
}

func (w *world) monitors(t *testing.T) *Store[Custom] {
	t.Helper()
	s := w.Custom("ServiceMonitor")
	if s == nil || w.Custom("Unknown") != nil {
		t.Fatal("Custom: want a store for ServiceMonitor and none for Unknown")
	}
	return s
}

// K10: the definition of a kind comes after the start.
func TestK10DefinitionThatComesLater(t *testing.T) {
	w := newWorld(t)
	s := w.monitors(t)
	run(t, s.Run)
	await(t, "the lack", func() bool {
		return strings.Contains(fmt.Sprint(s.Err()), "does not know monitoring.coreos.com/v1 servicemonitors yet") && s.Refused()
	})
	w.server.AddResource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
	w.server.Put(t, monitor("a", map[string]any{"endpoints": []any{}}, nil))
	await(t, "the object", func() bool { _, ok := s.Get(Key{"shop", "a"}); return ok && s.Err() == nil })
}

// K13: what is in an object that nobody can make sense of holds up no other one.
func TestK13NonsenseInAnObjectIsItsOwn(t *testing.T) {
	for _, streaming := range []bool{true, false} {
		t.Run(fmt.Sprintf("streaming %t", streaming), func(t *testing.T) {
			w := newWorld(t)
			w.server.NoStreaming = !streaming
			w.server.AddResource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
			w.server.Put(t, monitor("bad", "no object at all", nil))
			w.server.Put(t, monitor("good", map[string]any{"endpoints": []any{map[string]any{"port": "http", "unknown": 1}}}, map[string]any{
				"annotations": map[string]any{"note": "n", lastAppliedAnnotation: "{}"},
			}))
			s := w.monitors(t)
			run(t, s.Run)
			await(t, "the list", s.Synced)
			text := func(name string) string {
				o, ok := s.Get(Key{"shop", name})
				if !ok {
					return ""
				}
				return string(o.JSON)
			}
			for name, want := range map[string]string{
				"bad":  `{"apiVersion":"monitoring.coreos.com/v1","kind":"ServiceMonitor","metadata":{"name":"bad","namespace":"shop","uid":"u"},"spec":"no object at all"}`,
				"good": `{"apiVersion":"monitoring.coreos.com/v1","kind":"ServiceMonitor","metadata":{"annotations":{"note":"n"},"name":"good","namespace":"shop","uid":"u"},"spec":{"endpoints":[{"port":"http","unknown":1}]}}`,
			} {
				if got := text(name); got != want {
					t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
				}
			}
			w.server.Put(t, monitor("bad", map[string]any{"endpoints": 7}, nil))
			await(t, "the change", func() bool { return strings.Contains(text("bad"), `"endpoints":7`) })
		})
	}
}

// What the operator writes into the status of an object is no change of it.
func TestStatusOfACustomObjectIsNoChange(t *testing.T) {
	w := newWorld(t)
	w.server.AddResource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
	w.server.Put(t, monitor("a", map[string]any{}, nil))
	s := w.monitors(t)
	run(t, s.Run)
	await(t, "the list", s.Synced)
	feed, end := s.Follow(make(chan struct{}, 1))
	defer end()
	o := monitor("a", map[string]any{}, nil)
	o["status"] = map[string]any{"conditions": 3}
	w.server.Put(t, o)
	w.server.Put(t, monitor("b", map[string]any{}, nil))
	await(t, "the next object", func() bool { _, ok := s.Get(Key{"shop", "b"}); return ok })
	if got := feed.Take(); len(got) != 1 || !got[Key{"shop", "b"}] {
		t.Errorf("changed are %v, want the new object alone", got)
	}
}

// K11: a definition is removed while its objects are in use. They stay until the server says
// that they are gone, and the lack is shown.
func TestK11RemovedDefinitionIsShown(t *testing.T) {
	w := newWorld(t)
	w.server.AddResource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
	w.server.Put(t, monitor("a", map[string]any{}, nil))
	s := w.monitors(t)
	run(t, s.Run)
	await(t, "the list", s.Synced)
	w.server.RemoveResource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
	await(t, "the lack", func() bool { return s.Refused() })
	if _, ok := s.Get(Key{"shop", "a"}); !ok {
		t.Error("the object is gone without a word of the server about it")
	}
	w.server.AddResource("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
	await(t, "that it is gone", func() bool { _, ok := s.Get(Key{"shop", "a"}); return !ok })
}
