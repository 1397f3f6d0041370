package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
)

// sample has one field of every kind that the configurations of the program use.
type sample struct {
	Name   string                      `yaml:"name"`
	On     bool                        `yaml:"on"`
	Count  int                         `yaml:"count"`
	Part   float64                     `yaml:"part"`
	Every  Duration                    `yaml:"every"`
	Max    Size                        `yaml:"max"`
	Labels map[string]string           `yaml:"labels"`
	Names  model.LabelSet              `yaml:"names"`
	Paths  []string                    `yaml:"paths"`
	Jobs   []job                       `yaml:"jobs"`
	Queue  queue                       `yaml:"queue"`
	Rules  []*relabel.Config           `yaml:"rules"`
	HTTP   promconfig.HTTPClientConfig `yaml:",inline"`
	Any    any                         `yaml:"any"`
	Hidden string                      `yaml:"-"`
}

type queue struct {
	MaxBytes Size `yaml:"max_bytes"`
	Shards   uint `yaml:"shards"`
}

// job has defaults of its own, as an element of a list needs.
type job struct {
	Name  string   `yaml:"job_name"`
	Every Duration `yaml:"every"`
}

func (j *job) UnmarshalYAML(unmarshal func(any) error) error {
	type plain job
	*j = job{Every: Duration(60e9)}
	return unmarshal((*plain)(j))
}

func (s sample) Validate() error {
	var ps Problems
	if s.Name == "" {
		ps.Add("name", "is missing")
	}
	if s.Queue.MaxBytes < MiB {
		ps.Add("queue.max_bytes", "must be at least 1MiB, is %s", s.Queue.MaxBytes)
	}
	for i, j := range s.Jobs {
		if j.Name == "" {
			ps.Merge(Index("jobs", i), errors.Join(errors.New("has no job_name")))
		}
	}
	return ps.Err()
}

func defaults() sample { return sample{Name: "x", Queue: queue{MaxBytes: GiB}} }

func TestLoadDecodesOntoDefaults(t *testing.T) {
	got := defaults()
	err := Load([]byte(`
count: 3
every: 1h30m
max: 10MB
labels: {a: 1, "b/c": two}
paths:
  - /var/log/*.log
jobs:
  - job_name: a
  - {job_name: b, every: 5s}
queue: {shards: 4}
rules:
  - {source_labels: [a], regex: "x.*", target_label: b}
basic_auth: {username: u, password: p}
any: {k: [1, {z: true}]}
names: {job: x}
on:
part: 0.5
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "x" || got.Queue.MaxBytes != GiB || got.Queue.Shards != 4 {
		t.Errorf("defaults are lost: %+v", got)
	}
	if want := []job{{"a", Duration(60e9)}, {"b", Duration(5e9)}}; !cmp.Equal(want, got.Jobs) {
		t.Error(cmp.Diff(want, got.Jobs))
	}
	if r := got.Rules[0]; r.Action != relabel.Replace || r.Separator != ";" || r.Regex.String() != "x.*" {
		t.Errorf("rule = %+v", r)
	}
	if got.HTTP.BasicAuth == nil || got.HTTP.BasicAuth.Password != "p" {
		t.Errorf("basic_auth = %+v", got.HTTP.BasicAuth)
	}
	if want := map[string]string{"a": "1", "b/c": "two"}; !cmp.Equal(want, got.Labels) {
		t.Error(cmp.Diff(want, got.Labels))
	}
	if got.Max != 10*MiB || got.Every != Duration(5400e9) || got.Count != 3 || got.Part != 0.5 {
		t.Errorf("got %+v", got)
	}
	if want := any(map[string]any{"k": []any{1, map[string]any{"z": true}}}); !cmp.Equal(want, got.Any) {
		t.Error(cmp.Diff(want, got.Any))
	}
}

func TestLoadReportsEveryProblemWithPathLineAndCure(t *testing.T) {
	f := func(yaml, want string) {
		t.Helper()
		s := defaults()
		err := Load([]byte(yaml), &s)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(strings.TrimSpace(want), got); diff != "" {
			t.Errorf("Load(%q): -want +got\n%s", yaml, diff)
		}
	}
	f("name: a\nnaem: b\n", `naem: unknown key, did you mean "name"? (line 2)`)
	f("maxBytes: 3\n", `maxBytes: unknown key here, it belongs below "queue" (line 1)`)
	f("queue: {maxBytes: 4KiB}", `queue.maxBytes: unknown key, did you mean "max_bytes"? (line 1)`)
	f("queue:\n  zzzzzzzz: 3\n", `queue.zzzzzzzz: unknown key; known here: max_bytes, shards (line 2)`)
	f("max_bytes: 3\n", `max_bytes: unknown key here, it belongs below "queue" (line 1)`)
	f("queue:\n  max_bytes: 4KiB\n", `queue.max_bytes: must be at least 1MiB, is 4KiB (line 2)`)
	f("name: a\nname: b\n", `name: is set twice, first on line 1; keep one (line 2)`)
	f("every: 60\n", `every: must be a duration such as 30s, 5m or 1h30m, is "60"; did you mean 60s? (line 1)`)
	f("every: -5s\n", `every: must be a duration such as 30s, 5m or 1h30m, is "-5s" (line 1)`)
	f("every: [1]\n", `every: must be a duration such as 30s, 5m or 1h30m, is a list (line 1)`)
	f("max: lots\n", `max: must be a size such as 512MiB, 4GiB or 1048576, is "lots" (line 1)`)
	f("max: [1]\n", `max: must be a size such as 512MiB, 4GiB or 1048576, is a list (line 1)`)
	f("count: many\n", `count: must be a whole number, is "many" (line 1)`)
	f("queue: {shards: -1}\n", `queue.shards: must be a whole number, not negative, is "-1" (line 1)`)
	f("on: perhaps\n", `on: must be true or false, is "perhaps" (line 1)`)
	f("part: x\n", `part: must be a number, is "x" (line 1)`)
	f("paths: /var/log\n", `paths: must be a list, is text; put the value in [ ] (line 1)`)
	f("paths: [a, [b]]\n", `paths[1]: must be text, is a list (line 1)`)
	f("paths: [a, ~]\n", `paths[1]: is empty; give it a value or remove the dash (line 1)`)
	f("jobs:\n  - job_nme: a\n", `jobs[0].job_nme: unknown key, did you mean "job_name"? (line 2)`)
	f("jobs:\n  - every: 5s\n", `jobs[0]: has no job_name (line 2)`)
	f("jobs: {a: b}\n", `jobs: must be a list, is a mapping (line 1)`)
	f("queue: 3\n", `queue: must be a mapping of keys, is a number (line 1)`)
	f("labels: [a]\n", `labels: must be a mapping of keys, is a list (line 1)`)
	f("labels: {a: {b: c}}\n", `labels.a: must be text, is a mapping (line 1)`)
	f("names: {'': c}\n", `names[""]: "" is not a valid label name (line 1)`)
	f("rules: [{action: kep}]\n", `rules[0].action: must be one of replace, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep, lowercase, uppercase, is "kep" (line 1)`)
	f("rules: [{regx: a}]\n", `rules[0].regx: unknown key, did you mean "regex"? (line 1)`)
	f("rules:\n- {regex: 'a('}\n", "rules[0].regex: error parsing regexp: missing closing ): `^(?s:a()$` (line 2)")
	f("tls_config: {min_version: TLS9}\n", `tls_config.min_version: must be one of TLS10, TLS11, TLS12, TLS13, is "TLS9" (line 1)`)
	f("tls_config:\n  ca: a\n  ca_file: b\n", `tls_config: at most one of ca, ca_file & ca_ref must be configured (line 1)`)
	f("ca_file: b\n", `ca_file: unknown key here, it belongs below "tls_config" (line 1)`)
	f("url: b\n", `url: unknown key (line 1)`)
	f("other_bytes: b\n", `other_bytes: unknown key (line 1)`)
	f("queue: {least_bytes: b}\n", `queue.least_bytes: unknown key; similar here: max_bytes (line 1)`)
	f("queue: {min_bytes: b}\n", `queue.min_bytes: unknown key; similar here: max_bytes (line 1)`)
	f("queue: {mxa_bytes: b}\n", `queue.mxa_bytes: unknown key, did you mean "max_bytes"? (line 1)`)
	f("proxy_url: 'http://u:hun ter2@h'\n", `proxy_url: must be a URL such as http://host:8080/path; special characters in it need percent-encoding (line 1)`)
	f("basic_auth: {password_secret: {name: a, key: b}}\n", `basic_auth.password_secret: reading credentials from Kubernetes Secrets is not supported yet; mount the Secret and use password_file (line 1)`)
	f("basic_auth: {password:hunter2}\n", `basic_auth.password: a space is missing after "password:" (line 1)`)
	f("basic_auth: {password hunter2}\n", `basic_auth.password: has a key that is no plain word (line 1)`)
	f("basic_auth: {password: {value: hunter2}}\n", `basic_auth.password: must be text, is a mapping (line 1)`)
	f("? [a]\n: b\n", `has a key that is a list; keys must be plain words (line 1)`)
	f("any: {a: 1, a: 2}\n", `any: has a key twice, an alias of itself, or a value that does not fit its tag (line 1)`)
	f("name: !!binary aGk=\n", `name: must be text, is tagged !!binary (line 1)`)
	f("[a, b]\n", `must be a mapping of keys, is a list (line 1)`)
	f("", `the file is empty; it must hold a mapping of keys such as cluster and destinations`)
	f("# nothing\n", `the file is empty; it must hold a mapping of keys such as cluster and destinations`)
	f("---\n...\n", `the file is empty; it must hold a mapping of keys such as cluster and destinations`)
	f("name: a\n---\nname: b\n", `a second document starts here; put everything in one and remove the "---" (line 2)`)
	f("name: a\nqueue:\n\tmax_bytes: 3\n", `is not YAML: the line is indented with a tab; use spaces (line 3)`)
	f("name: a: b\n", `is not YAML: mapping values are not allowed in this context; check the indentation, and put text that contains ": " in quotes (line 1)`)
	f("paths: [a\nname: b\n", `is not YAML: did not find expected ',' or ']'; check the indentation and the brackets around here (line 1)`)
	f("name: *nobody\n", `alias *nobody has no anchor &nobody above it; text that starts with * needs quotes (line 1)`)
	f("count: 1\npaths: [*.log]\n", `is not YAML: did not find expected alphabetic or numeric character; text that starts with * or & needs quotes (line 2)`)

	// All at once, in the order of the file, and without what only follows.
	f("nam: b\nname: ''\nqueue:\n  max_bytes: 1\n  shards: x\njobs:\n  - job_name: a\n    evry: 5s\n  - evry: 1s\ncuont: 2\n", `
nam: unknown key, did you mean "name"? (line 1)
queue.max_bytes: must be at least 1MiB, is 1B (line 4)
queue.shards: must be a whole number, not negative, is "x" (line 5)
jobs[0].evry: unknown key, did you mean "every"? (line 8)
jobs[1].evry: unknown key, did you mean "every"? (line 9)
cuont: unknown key, did you mean "count"? (line 10)
`)
}

func TestAnchorsAndMergeKeysAreFollowed(t *testing.T) {
	got := defaults()
	err := Load([]byte(`
queue: &q {max_bytes: 2MiB, shards: 1}
jobs:
  - &j {job_name: a, every: 5s}
  - {<<: *j, job_name: b}
  - <<: [*j]
  - *j
labels: &l {a: x}
paths: [&p one, *p]
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	want := []job{{"a", Duration(5e9)}, {"b", Duration(5e9)}, {"a", Duration(5e9)}, {"a", Duration(5e9)}}
	if diff := cmp.Diff(want, got.Jobs); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"one", "one"}, got.Paths); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestHostileAliasesAreRefused(t *testing.T) {
	type tree struct {
		Kids []tree         `yaml:"kids"`
		Map  map[string]any `yaml:"map"`
		More *tree          `yaml:"more"`
	}
	f := func(yaml, want string) {
		t.Helper()
		var v tree
		err := Load([]byte(yaml), &v)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%.60q) = %v, want %q", yaml, err, want)
		}
	}
	f("more: &a {more: *a}\n", "contains the alias itself")
	f("kids: &a [{kids: *a}]\n", "contains the alias itself")
	f("more: &a {<<: *a}\n", "contains the alias itself")
	f("map: &a {x: *a}\n", "alias of itself")
	f("more: {<<: 3}\n", "<< must be followed by an alias")

	var bomb strings.Builder
	bomb.WriteString("kids:\n- &a0 {kids: []}\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "- &a%d {kids: [*a%d, *a%d]}\n", i, i-1, i-1)
	}
	f(bomb.String(), "more than 200000 values")
}

func TestProblemsKeepTheirPathsWhenMerged(t *testing.T) {
	var inner, outer Problems
	inner.Add("max_bytes", "is %d", 3)
	inner.Add("", "is bad")
	outer.Merge("queue", inner.Err())
	outer.Merge("jobs[1]", errors.Join(errors.New("one"), Problem{Path: "[2]", Text: "two"}, inner))
	outer.Merge("nothing", nil)
	outer.Merge("wrapped", fmt.Errorf("read it: %w", errors.New("gone")))
	want := "queue.max_bytes: is 3\nqueue: is bad\njobs[1]: one\njobs[1][2]: two\njobs[1].max_bytes: is 3\njobs[1]: is bad\nwrapped: read it: gone"
	if got := outer.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := (Problems{}).Err(); err != nil {
		t.Errorf("no problems are the error %v", err)
	}
	if got := Key("http_headers", "X-A B"); got != `http_headers["X-A B"]` {
		t.Errorf("Key = %s", got)
	}
}

func TestSizesAreReadAndWritten(t *testing.T) {
	f := func(text string, want Size, written string) {
		t.Helper()
		got, err := ParseSize(text)
		if err != nil || got != want || got.String() != written {
			t.Errorf("ParseSize(%q) = %d %q, %v, want %d %q", text, got, got, err, want, written)
		}
	}
	f("4GiB", 4*GiB, "4GiB")
	f("512 MiB", 512*MiB, "512MiB")
	f("10MB", 10*MiB, "10MiB") // As in Prometheus.
	f("1048576", MiB, "1MiB")
	f("1500", 1500, "1500B")
	f("2000kb", 2000*KiB, "2000KiB")
	f("0", 0, "0B")
	f("8191TiB", 8191*TiB, "8191TiB")
	for _, bad := range []string{"", "x", "-1", "1.5GiB", "GiB", "4 potatoes", "8388608TiB", "99999999999999999999"} {
		if got, err := ParseSize(bad); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", bad, got)
		}
	}
}

func TestMarshalHidesEverySecret(t *testing.T) {
	s := defaults()
	err := Load([]byte(`
basic_auth: {username: u, password: SECRET1}
oauth2: {client_id: c, client_secret: SECRET2, token_url: "http://u:SECRET3@idp/token", endpoint_params: {password: SECRET4}}
proxy_url: http://u:SECRET5@proxy:80
proxy_connect_header: {A: [SECRET6]}
http_headers: {X-A: {secrets: [SECRET7]}, X-Api-Key: {values: [SECRET8]}}
labels: {api_token: SECRET9, path: "https://SECRET10@h/x?access_token=SECRET11&b=c"}
tls_config: {key: SECRET12, cert: c}
any: {password: {deep: [SECRET13]}}
paths: ["http://u:SECRET/14@h/"]
bearer_token: SECRET15
`), &s)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "SECRET") {
		t.Errorf("a secret is printed:\n%s", out)
	}
	for _, want := range []string{"username: u", "password: <secret>", "http://u:<secret>@proxy:80", "b=c", "http://u:<secret>@idp/token", "max_bytes: 1GiB"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestSuggestFindsTheWordThatWasMeant(t *testing.T) {
	known := []string{"url", "tenant", "external_labels", "basic_auth", "timeout"}
	f := func(word, want string) {
		t.Helper()
		if got := Suggest(word, known); got != want {
			t.Errorf("Suggest(%q) = %q, want %q", word, got, want)
		}
	}
	f("urll", "url")
	f("ulr", "url")
	f("externalLabels", "external_labels")
	f("external-labels", "external_labels")
	f("basicAuth", "basic_auth")
	f("tenat", "tenant")
	f("x", "")
	f("", "")
	f("completely_different", "")
}

func FuzzLoadNeverPanics(f *testing.F) {
	for _, s := range []string{
		"name: a\njobs: [{job_name: x, every: 5s}]\n", "a: &a [*a]", "<<: {<<: *b}", "queue: &q {<<: *q}", "!!int x: y",
		"any: {? {a: b} : c}", "rules: [{regex: '('}]", "tls_config: {ca: x}", "proxy_url: 'http://%zz'", "\t", "\xff\xfe", "- - -",
		"http_headers: {Host: {values: [a]}}", "name: |\n  x\n---\n", "max: !!float 1", "every: .inf", "names: {a: b}", "? ", "labels: {a: *x}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := defaults()
		err := Load(data, &s)
		if ps, ok := errors.AsType[Problems](err); err != nil && !ok {
			t.Errorf("Load(%q) = %v, which is no list of problems", data, err)
		} else if i := slices.IndexFunc(ps, func(p Problem) bool { return p.Text == "" }); i >= 0 {
			t.Errorf("a problem of %q says nothing: %+v", data, ps[i])
		}
		if err == nil {
			if _, err := Marshal(s); err != nil {
				t.Errorf("Marshal: %v", err)
			}
		}
	})
}
