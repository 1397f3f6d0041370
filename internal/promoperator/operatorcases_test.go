package promoperator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	monitoringv1alpha1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1alpha1"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
	"github.com/ingot-telemetry/ingot/internal/scrape"
)

// recorded opens the folder with what the operator's own generator did: INGOT_OPERATOR_CASES,
// or testdata/operator-cases. The tests are an extra for who has it.
func recorded(t *testing.T, folder string) []string {
	t.Helper()
	root := cmp.Or(os.Getenv("INGOT_OPERATOR_CASES"), filepath.Join("testdata", "operator-cases"))
	files, err := filepath.Glob(filepath.Join(root, folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("skipped: no recorded cases in %s; set INGOT_OPERATOR_CASES to the folder with configs and verdicts", root)
	}
	return files
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// recordedCase is one call of the generator.
type recordedCase struct {
	Error                  string
	Output                 string
	EndpointSliceSupported bool
	Objects                []json.RawMessage
	Prometheus             struct{ Spec monitoringv1.PrometheusSpec }
	ServiceMonitors        map[string]*monitoringv1.ServiceMonitor
	PodMonitors            map[string]*monitoringv1.PodMonitor
	Probes                 map[string]*monitoringv1.Probe
	ScrapeConfigs          map[string]*monitoringv1alpha1.ScrapeConfig
}

func TestJobsAreThoseOfTheOperator(t *testing.T) {
	compared, skipped := 0, map[string]int{}
	total := targetCount{}
	for _, file := range recorded(t, "configs") {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		var c recordedCase
		readJSON(t, file, &c)
		if reason := c.outOfScope(); reason != "" {
			skipped[reason]++
			continue
		}
		if reason, ok := different()[name]; ok {
			skipped[reason]++
			continue
		}
		compared++
		t.Run(name, func(t *testing.T) { total.add(c.compare(t)) })
	}
	t.Logf("%d cases compared; targets %+v", compared, total)
	for _, reason := range slices.Sorted(maps.Keys(skipped)) {
		t.Logf("%d cases skipped: %s", skipped[reason], reason)
	}
	if total.kept < 1000 || total.dropped < 1000 {
		t.Errorf("the synthetic targets prove little: %+v", total)
	}
}

// outOfScope says what puts a whole class of cases beside the point.
func (c *recordedCase) outOfScope() string {
	switch {
	case len(c.ServiceMonitors)+len(c.PodMonitors)+len(c.Probes)+len(c.ScrapeConfigs) == 0:
		return "no object of the four kinds"
	case slices.ContainsFunc(slices.Collect(maps.Values(c.ScrapeConfigs)), func(m *monitoringv1alpha1.ScrapeConfig) bool { return len(otherDiscovery(&m.Spec)) > 0 }):
		return "a kind of discovery that Ingot does not have"
	case c.Error != "":
		return "the generator failed"
	}
	return ""
}

// translator returns one with the settings of the case.
func (c *recordedCase) translator(t *testing.T) *Translator {
	t.Helper()
	spec := c.Prometheus.Spec
	global := scrape.DefaultConfig()
	for text, into := range map[monitoringv1.Duration]*config.Duration{spec.ScrapeInterval: &global.Interval, spec.ScrapeTimeout: &global.Timeout} {
		if d, err := model.ParseDuration(string(text)); text != "" && err == nil {
			*into = d
		}
	}
	cfg := DefaultConfig()
	cfg.ScrapeConfigs.FileDiscovery = true
	cfg.ServiceMonitors.Role = discovery.RoleEndpoints
	if r := spec.ServiceDiscoveryRole; r != nil && *r == monitoringv1.EndpointSliceRole && c.EndpointSliceSupported {
		cfg.ServiceMonitors.Role = discovery.RoleEndpointSlice
	}
	for _, m := range c.ServiceMonitors {
		if !c.EndpointSliceSupported {
			m.Spec.ServiceDiscoveryRole = nil // The cluster of the case has none.
		}
	}
	cfg.PodTargetLabels = spec.PodTargetLabels
	cfg.EnforcedNamespaceLabel = spec.EnforcedNamespaceLabel
	cfg.IgnoreNamespaceSelectors = spec.IgnoreNamespaceSelectors
	cfg.OverrideHonorLabels = spec.OverrideHonorLabels
	cfg.OverrideHonorTimestamps = spec.OverrideHonorTimestamps
	cfg.ScrapeClasses = classesOf(t, spec.ScrapeClasses)
	in := c.values(t)
	return New(cfg, global, in.Secrets, in.ConfigMaps)
}

// values are the Secrets and ConfigMaps of the case.
func (c *recordedCase) values(t *testing.T) Input {
	t.Helper()
	in := Input{Secrets: SecretValues{}, ConfigMaps: ConfigMapValues{}}
	for _, o := range c.Objects {
		in.store(t, o)
	}
	// Certificates of the cases are words, which the operator's generator takes as they are.
	for ref := range in.Secrets {
		if ref.Name == "tls" {
			in.Secrets[ref] = realPEM(ref.Key)
		}
	}
	return in
}

// realPEM is what stands for one of the words.
func realPEM(word string) string {
	return map[string]string{"ca": testCA, "ca2": testOtherCA, "cert": testCert, "private-key": testKey}[word]
}

// store takes a Secret or a ConfigMap of a case, which has no kind there.
func (in *Input) store(t *testing.T, raw json.RawMessage) {
	t.Helper()
	var o struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
		Data     map[string]string
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	for key, v := range o.Data {
		ref := ValueRef{o.Metadata.Namespace, o.Metadata.Name, key}
		var decoded []byte
		if json.Unmarshal([]byte(`"`+v+`"`), &decoded) == nil {
			in.Secrets[ref] = string(decoded)
		}
		in.ConfigMaps[ref] = v
	}
}

// classesOf turns scrape classes of the operator into ours.
func classesOf(t *testing.T, classes []monitoringv1.ScrapeClass) []ScrapeClass {
	t.Helper()
	var out []ScrapeClass
	for _, c := range classes {
		o := New(DefaultConfig(), scrape.DefaultConfig(), SecretValues{}, ConfigMapValues{}).object(Kind{}, "", "a", "a", nil)
		s := ScrapeClass{
			Name: c.Name, Default: c.Default != nil && *c.Default,
			RelabelConfigs:       o.rules("relabelings", c.Relabelings, model.UTF8Validation),
			MetricRelabelConfigs: o.rules("metricRelabelings", c.MetricRelabelings, model.UTF8Validation),
		}
		if c.FallbackScrapeProtocol != nil {
			s.FallbackScrapeProtocol = string(*c.FallbackScrapeProtocol)
		}
		if tls := c.TLSConfig; tls != nil {
			s.TLSConfig = o.tlsConfig("tlsConfig", &tls.SafeTLSConfig, promconfig.TLSConfig{})
			s.TLSConfig.CAFile, s.TLSConfig.CertFile, s.TLSConfig.KeyFile = tls.CAFile, tls.CertFile, tls.KeyFile
		}
		if a := c.Authorization; a != nil {
			s.Authorization = &promconfig.Authorization{Type: cmp.Or(a.Type, "Bearer"), CredentialsFile: a.CredentialsFile}
		}
		if m := c.AttachMetadata; m != nil {
			s.AttachMetadata.Node = m.Node != nil && *m.Node
		}
		if err := o.problems.Err(); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// jobs translates all objects of the case.
func (c *recordedCase) jobs(t *testing.T) map[string]scrape.JobConfig {
	t.Helper()
	tr, jobs := c.translator(t), map[string]scrape.JobConfig{}
	add := func(got Translation, err error) {
		if err != nil {
			t.Errorf("rejected: %v", err)
		}
		for _, j := range got.Jobs {
			jobs[j.JobName] = j
		}
	}
	for _, m := range c.ServiceMonitors {
		add(tr.ServiceMonitor(m))
	}
	for _, m := range c.PodMonitors {
		add(tr.PodMonitor(m))
	}
	for _, m := range c.Probes {
		add(tr.Probe(m))
	}
	for _, m := range c.ScrapeConfigs {
		add(tr.ScrapeConfig(m))
	}
	return jobs
}

// operatorJob is a job of the operator's output. Its type has no method of JobConfig, so that
// the discovery that files may not have is read too.
type operatorJob plainJob

type plainJob scrape.JobConfig

func (j *operatorJob) UnmarshalYAML(unmarshal func(any) error) error {
	*j = operatorJob(scrape.DefaultJobConfig())
	return unmarshal((*plainJob)(j))
}

// want reads the jobs of the output, without what belongs to the operator's server.
func (c *recordedCase) want(t *testing.T) map[string]scrape.JobConfig {
	t.Helper()
	var out struct {
		ScrapeConfigs []map[string]any `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(c.Output), &out); err != nil {
		t.Fatal(err)
	}
	jobs := map[string]scrape.JobConfig{}
	for _, raw := range out.ScrapeConfigs {
		withoutServer(raw)
		text, err := yaml.Marshal(map[string]any{"jobs": []any{raw}})
		if err != nil {
			t.Fatal(err)
		}
		var one struct {
			Jobs []operatorJob `yaml:"jobs"`
		}
		if err := config.Load(text, &one); err != nil {
			t.Fatalf("the operator's job: %v\n%s", err, text)
		}
		job := scrape.JobConfig(one.Jobs[0])
		for _, h := range append([]*promconfig.HTTPClientConfig{&job.HTTPClientConfig}, clientsOf(job.HTTPSDConfigs)...) {
			if err := h.Validate(); err != nil {
				t.Fatal(err)
			}
			c.inline(t, &h.TLSConfig)
			if h.OAuth2 != nil {
				c.inline(t, &h.OAuth2.TLSConfig)
			}
		}
		jobs[job.JobName] = job
	}
	return jobs
}

func clientsOf(list []discovery.HTTPConfig) []*promconfig.HTTPClientConfig {
	var out []*promconfig.HTTPClientConfig
	for i := range list {
		out = append(out, &list[i].HTTPClientConfig)
	}
	return out
}

// withoutServer removes what the operator adds for its own servers: sharding, topology, and
// the node of a DaemonSet.
func withoutServer(job map[string]any) {
	if rules, ok := job["relabel_configs"].([]any); ok {
		job["relabel_configs"] = slices.DeleteFunc(rules, func(r any) bool { return isServerRule(fmt.Sprint(r)) })
	}
	blocks, _ := job["kubernetes_sd_configs"].([]any)
	for _, b := range blocks {
		m, _ := b.(map[string]any)
		selectors, _ := m["selectors"].([]any)
		m["selectors"] = slices.DeleteFunc(selectors, func(s any) bool { return strings.Contains(fmt.Sprint(s), "$(NODE_NAME)") })
	}
}

func isServerRule(text string) bool {
	return strings.Contains(text, "__tmp_hash") || strings.Contains(text, "__tmp_topology") || strings.Contains(text, "topology_kubernetes_io_zone")
}

// inline puts the values of the case in the place of the files that the operator mounts.
func (c *recordedCase) inline(t *testing.T, tls *promconfig.TLSConfig) {
	t.Helper()
	in := c.values(t)
	const dir = "/etc/prometheus/certs/"
	value := func(file *string) (v string) {
		rest, ok := strings.CutPrefix(*file, dir)
		if !ok {
			return ""
		}
		for ref, secret := range in.Secrets {
			if rest == fmt.Sprintf("0_%s_%s_%s", ref.Namespace, ref.Name, ref.Key) {
				v = secret
			}
		}
		for ref, text := range in.ConfigMaps {
			if rest == fmt.Sprintf("1_%s_%s_%s", ref.Namespace, ref.Name, ref.Key) {
				v = text
			}
		}
		if v != "" {
			*file = ""
		}
		return v
	}
	for _, v := range []*string{&tls.CA, &tls.Cert, (*string)(&tls.Key)} {
		*v = cmp.Or(realPEM(*v), *v) // Where the case has them inline.
	}
	tls.CA += value(&tls.CAFile)
	tls.Cert += value(&tls.CertFile)
	tls.Key += promconfig.Secret(value(&tls.KeyFile))
}

// compare compares all jobs: as values, and their relabelling by what it does to targets.
func (c *recordedCase) compare(t *testing.T) targetCount {
	t.Helper()
	got, want := c.jobs(t), c.want(t)
	if diff := gocmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("jobs -operator +ours\n%s", diff)
	}
	var total targetCount
	for name, w := range want {
		g := got[name]
		total.add(compareRules(t, name, w.RelabelConfigs, g.RelabelConfigs, w.JobName))
		total.add(compareRules(t, name, w.MetricRelabelConfigs, g.MetricRelabelConfigs, w.JobName))
		w.RelabelConfigs, g.RelabelConfigs = nil, nil
		w.MetricRelabelConfigs, g.MetricRelabelConfigs = nil, nil
		if diff := gocmp.Diff(w, g, equalJobs()...); diff != "" {
			t.Errorf("%s -operator +ours\n%s", name, diff)
		}
	}
	return total
}

func equalJobs() []gocmp.Option {
	return []gocmp.Option{
		cmpopts.EquateEmpty(),
		cmpopts.IgnoreUnexported(promconfig.ProxyConfig{}),
		cmpopts.IgnoreFields(discovery.KubernetesConfig{}, "Only"), // Ingot's own; rules say the same.
		gocmp.Transformer("text", func(u promconfig.URL) string {
			if u.URL == nil {
				return ""
			}
			return u.String()
		}),
	}
}

// targetCount is what became of synthetic targets.
type targetCount struct{ kept, dropped int }

func (c *targetCount) add(o targetCount) { c.kept += o.kept; c.dropped += o.dropped }

// compareRules runs both lists over targets that have, lack and vary the labels in them.
func compareRules(t *testing.T, job string, want, got []*relabel.Config, jobName string) (n targetCount) {
	t.Helper()
	clean := func(rules []*relabel.Config) []*relabel.Config {
		var out []*relabel.Config
		for _, r := range rules {
			if !isServerRule(fmt.Sprint(r.SourceLabels, r.TargetLabel)) {
				c := *r
				c.NameValidationScheme = model.UTF8Validation
				out = append(out, &c)
			}
		}
		return out
	}
	want, got = clean(want), clean(got)
	if len(want) == 0 && len(got) == 0 {
		return n
	}
	random := rand.New(rand.NewPCG(1, uint64(len(want))))
	for range 400 {
		target := syntheticTarget(random, slices.Concat(want, got), jobName)
		run := func(rules []*relabel.Config) string {
			lb := labels.NewBuilder(labels.FromMap(target))
			if !relabel.ProcessBuilder(lb, rules...) {
				return "dropped"
			}
			return lb.Labels().String()
		}
		w, g := run(want), run(got)
		if w != g {
			t.Errorf("%s: target %v\noperator %s\nours     %s", job, target, w, g)
			return n
		}
		if w == "dropped" {
			n.dropped++
		} else {
			n.kept++
		}
	}
	return n
}

// syntheticTarget makes a target that passes the rules as far as that is easy to say, and
// changes, empties or removes a few of its labels.
func syntheticTarget(random *rand.Rand, rules []*relabel.Config, job string) map[string]string {
	pool := []string{"", "true", "false", "other", "8080", "http", "https", "Pod", "Node", "Running", "Failed", "Succeeded", "a.b/c", "x;y"}
	target := map[string]string{"job": job, "__address__": "10.0.0.1:8080", "__metrics_path__": "/metrics", "__scheme__": "http"}
	for _, r := range rules {
		words := strings.FieldsFunc(r.Regex.String(), func(r rune) bool { return strings.ContainsRune("()|;^$?*+[]", r) })
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], `\`, "")
		}
		pool = append(pool, words...)
		for i, s := range r.SourceLabels {
			name := string(s)
			if _, ok := target[name]; ok {
				continue
			}
			target[name] = fmt.Sprintf("value%d", random.IntN(3))
			if r.Action == relabel.Keep && len(words) > 0 {
				target[name] = words[min(i, len(words)-1)]
				if i == 0 && len(words) > 2 { // (a|b);true
					target[name] = words[random.IntN(len(words)-1)]
				}
				if i == len(r.SourceLabels)-1 {
					target[name] = words[len(words)-1]
				}
			}
		}
		if r.TargetLabel != "" && random.IntN(4) == 0 {
			target[r.TargetLabel] = "already"
		}
	}
	names := slices.Sorted(maps.Keys(target))
	for range random.IntN(4) {
		name := names[random.IntN(len(names))]
		if random.IntN(3) == 0 {
			delete(target, name)
		} else {
			target[name] = pool[random.IntN(len(pool))]
		}
	}
	return target
}
