package discovery

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-telemetry/ingot/internal/config"
)

func TestKubernetesAndDNSBlocksAreCheckedAsByPrometheus(t *testing.T) {
	type block struct {
		K KubernetesConfig `yaml:"k"`
		D DNSConfig        `yaml:"d"`
	}
	f := func(yaml, want string) {
		t.Helper()
		b := block{K: KubernetesConfig{Role: "pod"}, D: DNSConfig{Names: []string{"a"}, Type: "SRV", RefreshInterval: 1}}
		var ps config.Problems
		ps.Merge("", config.Load([]byte(yaml), &b))
		ps.Merge("k", b.K.Validate())
		ps.Merge("d", b.D.Validate())
		got := ""
		if err := ps.Err(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", yaml, diff)
		}
	}
	f(`k: {role: endpointslice, namespaces: {own_namespace: true, names: [a]}, attach_metadata: {node: true}, selectors: [{role: pod, label: "a in (b,c),!d"}, {role: service, field: "metadata.name=x"}]}`, "")
	f(`k: {role: pods}`, `k.role: must be one of pod, service, endpoints, endpointslice, ingress, node, is "pods"`)
	f(`k: {role: service, selectors: [{role: pod}]}`, `k.selectors[0].role: must be one of service under role service, is "pod"`)
	f(`k: {role: pod, selectors: [{role: pod}, {role: pod}]}`, `k.selectors[1].role: pod is there twice`)
	f(`k: {role: pod, selectors: [{role: pod, field: "a"}]}`, `k.selectors[0].field: must be a field selector such as spec.nodeName=a,status.phase!=Failed: invalid selector: 'a'; can't understand 'a'`)
	f(`d: {names: [a.b], type: A, port: 80}`, "")
	f(`d: {names: [a.b], type: a}`, "d.port: must be set for records of type A, which have none")
	f(`d: {names: [], type: TXT}`, "d.names: must list at least one name, and none that is empty\nd.type: must be one of SRV, A, AAAA, MX, NS, is \"TXT\"")
}
