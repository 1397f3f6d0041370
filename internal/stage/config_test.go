package stage

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// faults loads stages and compares all problems, one a line.
func faults(t *testing.T, stages, want string) {
	t.Helper()
	_, err := load(stages)
	got := ""
	if err != nil {
		got = err.Error()
	}
	if want = strings.TrimSpace(want); got != want {
		t.Errorf("%s\n--- got\n%s\n--- want\n%s", stages, got, want)
	}
}

func TestMistakesAreReportedWithTheirPlace(t *testing.T) {
	f := func(stages, want string) {
		t.Helper()
		faults(t, stages, want)
	}
	f("- regexp: {expression: x}", `pipeline_stages[0].regexp: unknown stage, did you mean "regex"? (line 2)`)
	f("- labelkeep: [a]", `pipeline_stages[0].labelkeep: unknown stage, did you mean "label_keep"? (line 2)`)
	f("- geoip: {db: x}", `pipeline_stages[0].geoip: the stage is not supported; remove it (line 2)`)
	f("- windowsevent: {}", `pipeline_stages[0].windowsevent: the stage is for Windows event logs, which Ingot does not read; remove it (line 2)`)
	f("- cri", `pipeline_stages[0]: must be a mapping with the name of a stage as its key, such as cri: {}, is text (line 2)`)
	f("- cri: {}\n  docker: {}", `pipeline_stages[0]: has more than one stage; put a dash before docker, so that their order is clear (line 2)`)
	f("- {}", `pipeline_stages[0]: names no stage; known are `+strings.Join(stageNames(), ", ")+` (line 2)`)
	f("- json: {expressions: {a: }, sourse: x}", `pipeline_stages[0].json.sourse: unknown key, did you mean "source"? (line 2)`)
	f("- json: {expressions: {a: 'b['}}", `pipeline_stages[0].json.expressions.a: must be a JMESPath expression: SyntaxError: Expected tStar, received: tEOF; keys that are no plain words need double quotes (line 2)`)
	f("- json: {}", `pipeline_stages[0].json.expressions: must map at least one name to a JMESPath expression (line 2)`)
	f("- json: {expressions: {a: }, source: ''}", `pipeline_stages[0].json.source: must be the name of an extracted value; leave it out to use the line (line 2)`)
	f("- logfmt:", `pipeline_stages[0].logfmt.mapping: must map at least one name to a key (line 2)`)
	f("- regex: {}", `pipeline_stages[0].regex.expression: must be a regular expression (RE2 syntax) (line 2)`)
	f("- regex: {expression: '(?P<a>'}", "pipeline_stages[0].regex.expression: must be a regular expression (RE2 syntax): error parsing regexp: missing closing ): `(?P<a>` (line 2)")
	f("- regex: {expression: '(a)'}", `pipeline_stages[0].regex.expression: must have at least one named group, (?P<name>...) (line 2)`)
	f("- labels: {1a: x}", `pipeline_stages[0].labels.1a: must be a label name: letters, digits and _, not starting with a digit, is "1a" (line 2)`)
	f("- labels:", `pipeline_stages[0].labels: must name at least one label (line 2)`)
	f("- static_labels: {}", `pipeline_stages[0].static_labels: must name at least one label (line 2)`)
	f("- labeldrop: []", `pipeline_stages[0].labeldrop: must name at least one label (line 2)`)
	f("- label_keep:", `pipeline_stages[0].label_keep: must name at least one label (line 2)`)
	f("- structured_metadata: {}", `pipeline_stages[0].structured_metadata: must name at least one label (line 2)`)
	f("- structured_metadata: {values: {}, regex: '('}", "pipeline_stages[0].structured_metadata.regex: must be a regular expression (RE2 syntax): error parsing regexp: missing closing ): `(` (line 2)")
	f("- tenant: {}", `pipeline_stages[0].tenant: must have one of label, source and value, has 0 (line 2)`)
	f("- tenant: {label: a, value: b}", `pipeline_stages[0].tenant: must have one of label, source and value, has 2 (line 2)`)
	f("- timestamp:\n    format: ''\n    location: Mars/Base\n    action_on_failure: fail\n    action_on_duplicate_timestamp: drop", `
pipeline_stages[0].timestamp.source: must be the name of an extracted value (line 2)
pipeline_stages[0].timestamp.format: must be a format such as RFC3339Nano, UnixMs or 2006-01-02 15:04:05 (line 3)
pipeline_stages[0].timestamp.location: must be the IANA name of a time zone, such as Europe/Berlin, is "Mars/Base" (line 4)
pipeline_stages[0].timestamp.action_on_failure: must be fudge or skip, is "fail" (line 5)
pipeline_stages[0].timestamp.action_on_duplicate_timestamp: must be fudge or keep, is "drop" (line 6)`)
	f("- output: {}", `pipeline_stages[0].output.source: must be the name of an extracted value (line 2)`)
	f("- template: {source: a, template: '{{ .x'}", `pipeline_stages[0].template.template: must be a Go template: 1: unclosed action (line 2)`)
	f("- template: {source: a, template: '{{ Lower .x }}'}", `pipeline_stages[0].template.template: must be a Go template: 1: function "Lower" not defined (line 2)`)
	f("- replace: {expression: 'a', replace: b}", `pipeline_stages[0].replace.expression: must have at least one group in parentheses, which is what is replaced (line 2)`)
	f("- match: {selector: '{a=b}', action: pass}", `
pipeline_stages[0].match.action: must be keep or drop, is "pass" (line 2)
pipeline_stages[0].match.selector: must be a LogQL selector: expected a text in quotes at character 4, before "b}" (line 2)`)
	f("- match: {selector: '{a=\"b\"}'}", `pipeline_stages[0].match.stages: must have at least one stage unless action is drop (line 2)`)
	f("- match: {selector: '{a=\"b\"}', action: drop, stages: [cri: {}]}", `pipeline_stages[0].match.stages: must be empty where action is drop (line 2)`)
	f("- match:\n    selector: '{a=\"b\"}'\n    stages:\n      - cri:\n      - output: {}\n      - lables: {a: }", `
pipeline_stages[0].match.stages[1].output.source: must be the name of an extracted value (line 6)
pipeline_stages[0].match.stages[2].lables: unknown stage, did you mean "labels"? (line 7)`)
	f("- match:\n    selector: '{a=\"b\"}'\n    stages:\n      - cri:\n      - output: {}", `pipeline_stages[0].match.stages[1].output.source: must be the name of an extracted value (line 6)`)
	f("- drop: {}", `pipeline_stages[0].drop: must have at least one of source, expression, older_than and longer_than (line 2)`)
	f("- drop: {value: x, expression: y}", `
pipeline_stages[0].drop.source: must be set where value is (line 2)
pipeline_stages[0].drop.value: must not be set together with expression (line 2)`)
	f("- drop: {older_than: yesterday}", `pipeline_stages[0].drop.older_than: must be a duration such as 500ms, 3s or 24h, is "yesterday" (line 2)`)
	f("- limit: {rate: 0, by_label_name: a}", `
pipeline_stages[0].limit.burst: must be positive, is 0 (line 2)
pipeline_stages[0].limit.drop: must be true where by_label_name is set (line 2)
pipeline_stages[0].limit.rate: must be positive, is 0 (line 2)`)
	f("- sampling: {rate: 2}", `pipeline_stages[0].sampling.rate: must be a number from 0 to 1, is 2 (line 2)`)
	f("- pack: {labels: [_entry]}", `pipeline_stages[0].pack.labels: must not contain _entry, which is the key of the line (line 2)`)
	f("- multiline: {}", `pipeline_stages[0].multiline: must have one of firstline, a regular expression, and preset: java, go, python or dotnet (line 2)`)
	f("- multiline: {preset: jvm, max_lines: 0, max_wait_time: 0s}", `
pipeline_stages[0].multiline.max_lines: must be positive, is 0 (line 2)
pipeline_stages[0].multiline.max_wait_time: must be positive, is 0s (line 2)
pipeline_stages[0].multiline.preset: must be java, go, python or dotnet, is "jvm" (line 2)`)
	f("- cri: {max_partial_lines: 0, max_partial_line_size_truncate: true}", `
pipeline_stages[0].cri.max_partial_line_size: must be positive where lines are cut at it (line 2)
pipeline_stages[0].cri.max_partial_lines: must be positive, is 0 (line 2)`)
	f("- redact: {expressions: {a: '('}, allowlist: ['['], partial_mask: -1}", "pipeline_stages[0].redact.allowlist[0]: must be a regular expression (RE2 syntax): error parsing regexp: missing closing ]: `[` (line 2)\n"+
		"pipeline_stages[0].redact.expressions.a: must be a regular expression (RE2 syntax): error parsing regexp: missing closing ): `(` (line 2)\n"+
		"pipeline_stages[0].redact.partial_mask: must not be negative, is -1 (line 2)")
	f("- metrics: {}", `pipeline_stages[0].metrics: must name at least one metric (line 2)`)
	f("- metrics:\n    a: {type: summary}\n    b-c: {type: counter, config: {action: set}}\n    d: {type: gauge, prefix: ingot_, max_idle_duration: 0.5s, config: {action: set, buckets: [1]}}\n"+
		"    e: {type: histogram, config: {buckets: [2, 1], match_all: true}}\n    f: {type: counter, config: {action: inc, match_all: true, value: x, count_entry_bytes: true}}", `
pipeline_stages[0].metrics.a.type: must be counter, gauge or histogram, is "summary" (line 3)
pipeline_stages[0].metrics.b-c: must be the name of a metric: letters, digits, _ and :, is "ingot_custom_b-c" (line 4)
pipeline_stages[0].metrics.b-c.config.action: must be inc, add for a counter, is "set" (line 4)
pipeline_stages[0].metrics.d.config.buckets: must be empty, only a histogram has buckets (line 5)
pipeline_stages[0].metrics.d.max_idle_duration: must be at least 1s, is 500ms (line 5)
pipeline_stages[0].metrics.d.prefix: must not make a name that starts with ingot_, which are Ingot's own metrics, is "ingot_" (line 5)
pipeline_stages[0].metrics.e.config.buckets: must grow from one to the next (line 6)
pipeline_stages[0].metrics.e.config.match_all: must be left out, it is for counters (line 6)
pipeline_stages[0].metrics.f.config.count_entry_bytes: needs match_all: true and action: add (line 7)
pipeline_stages[0].metrics.f.config.match_all: must not be set together with value (line 7)`)
}

func TestUnknownKindOfSecretIsNamed(t *testing.T) {
	_, err := load("- redact: {types: [github, gitbug]}")
	if err == nil || !strings.HasPrefix(err.Error(), `pipeline_stages[0].redact.types[1]: "gitbug" is no kind of secret; known are anthropic-api-key, aws`) {
		t.Errorf("error = %v", err)
	}
}

func TestEveryStageCanBeCompiledAndHasItsDefaults(t *testing.T) {
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		field := reflect.New(typ.Field(i).Type.Elem())
		if _, ok := reflect.TypeAssert[compilable](field); !ok {
			t.Errorf("%s cannot be compiled", typ.Field(i).Name)
		}
		// Without a value and with an empty one are the same.
		name := stageName(typ.Field(i))
		var bare, empty []Config
		if err := yaml.Unmarshal([]byte("- "+name+":"), &bare); err != nil {
			t.Fatal(err)
		}
		text := "{}"
		if field.Elem().Kind() == reflect.Slice {
			text = "[]"
		}
		if err := yaml.Unmarshal([]byte("- "+name+": "+text), &empty); err != nil {
			t.Fatal(err)
		}
		a, _ := yaml.Marshal(bare)
		b, _ := yaml.Marshal(empty)
		if string(a) != string(b) {
			t.Errorf("without a value %s is\n%s, with an empty one\n%s", name, a, b)
		}
	}
}

// The effective configuration is shown to users; it must load again.
func TestConfigurationCanBeWrittenAndReadAgain(t *testing.T) {
	list, err := load(pasted)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	var again []Config
	if err := yaml.Unmarshal(text, &again); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !reflect.DeepEqual(list, again) {
		t.Errorf("reading again what was written gives something else:\n%s", text)
	}
}
