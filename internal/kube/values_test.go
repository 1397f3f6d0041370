package kube

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/ingot-telemetry/ingot/test/kit"
)

func secret(namespace, name, value string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"namespace": namespace, "name": name},
		"data": map[string]any{"password": base64.StdEncoding.EncodeToString([]byte(value))},
	}
}

// K26: a Secret that is named and missing is found when it comes, changes with it and is gone
// with it. No other one is read.
func TestK26LateSecretIsPickedUp(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, secret("a", "other", "x"))
	k := Key{"a", "s"}
	early := w.secrets.Want(k)
	run(t, w.secrets.Run)
	wake := make(chan struct{}, 1)
	feed, end := w.secrets.Follow(wake)
	defer end()
	get := func() string {
		v, err := w.secrets.Get(k)
		if err != nil {
			return err.Error()
		}
		return string(v.Data["password"])
	}
	await(t, "that it is missing", func() bool { return get() == "there is no s in the secrets of namespace a" })
	w.server.Put(t, secret("a", "s", "one"))
	await(t, "the late one", func() bool { return get() == "one" })
	<-wake
	if got := feed.Take(); !got[k] {
		t.Errorf("changed are %v, want the secret", got)
	}
	late := w.secrets.Want(k)
	early()
	early()
	w.server.Put(t, secret("a", "s", "two"))
	await(t, "the change", func() bool { return get() == "two" })
	w.server.Delete(t, "Secret", "a", "s")
	await(t, "the end", func() bool { return strings.Contains(get(), "there is no s") })
	for _, r := range w.server.Requests() {
		if r.FieldSelector != "metadata.name=s" {
			t.Errorf("request %+v: want that of one object", r)
		}
	}
	late()
	await(t, "the end of the watch", func() bool { return w.server.Watches() == 0 })
	if got := get(); got != "nobody watches a/s of secrets" {
		t.Errorf("Get after the release: %s", got)
	}
}

// K8: a Secret that must not be read says so with the rule, and concerns no other one.
func TestK8RefusedSecretNamesTheRule(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, secret("a", "s", "one"))
	w.server.Put(t, secret("b", "s", "two"))
	w.server.RefuseIn("a", "secrets", kit.KubeRefusal{Code: 403})
	run(t, w.secrets.Run)
	defer w.secrets.Want(Key{"a", "s"})()
	defer w.secrets.Want(Key{"b", "s"})()
	await(t, "the rule", func() bool {
		_, err := w.secrets.Get(Key{"a", "s"})
		return strings.Contains(fmt.Sprint(err), "in that namespace the rule {apiGroups: [\"\"], resources: [secrets], verbs: [list, watch]}")
	})
	await(t, "the other one", func() bool { _, err := w.secrets.Get(Key{"b", "s"}); return err == nil })
	w.server.GrantIn("a", "secrets")
	await(t, "the first one", func() bool { _, err := w.secrets.Get(Key{"a", "s"}); return err == nil })
}

func TestConfigMapsHaveTextAndBytes(t *testing.T) {
	w := newWorld(t)
	w.server.Put(t, map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"namespace": "a", "name": "c"},
		"data": map[string]any{"ca": "text"}, "binaryData": map[string]any{"raw": "AAE="},
	})
	defer w.configMaps.Want(Key{"a", "c"})()
	run(t, w.configMaps.Run)
	await(t, "the map", func() bool {
		v, err := w.configMaps.Get(Key{"a", "c"})
		return err == nil && string(v.Data["ca"]) == "text" && string(v.Data["raw"]) == "\x00\x01"
	})
	v, _ := w.configMaps.Get(Key{"a", "c"})
	if text := fmt.Sprintf("%v %+v %#v %s", v, v, v, v); strings.Contains(text, "116") || strings.Contains(text, "text") {
		t.Errorf("printed as %s", text)
	}
}
