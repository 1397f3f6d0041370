package stage

import (
	"strings"
	"testing"
)

// secretSamples are texts of the known kinds, put together so that no scanner takes them for
// real ones. In each the secret stands between < and >, which are removed.
func secretSamples() map[string]string {
	hex, word := strings.Repeat("0a1b2c3d", 8), strings.Repeat("Ab3", 20)
	return map[string]string{
		"anthropic-api-key":             "key <sk-" + "ant-api03-" + word + "> used",
		"aws-access-token":              "id=<AK" + "IAIOSFODNN7EXAMPLE> ok",
		"aws-secret-key":                `aws_secret_access_key = "<` + word[:40] + `>"`,
		"azure-storage-key":             "DefaultEndpointsProtocol=https;Account" + "Key=<" + word + "==>;EndpointSuffix=x",
		"basic-auth":                    "Authorization: Basic <" + "dXNlcjpwYXNz> x",
		"bearer-token":                  "authorization: Bearer <" + word[:30] + "> x",
		"digitalocean-token":            "t <do" + "p_v1_" + hex + "> x",
		"gcp-api-key":                   "key=<AI" + "za" + word[:35] + "> x",
		"gcp-oauth-token":               "t <ya" + "29." + word[:40] + "> x",
		"github-fine-grained-pat":       "t <github" + "_pat_" + word[:40] + "> x",
		"github-token":                  "https x <gh" + "p_" + word[:36] + "> x",
		"gitlab-token":                  "t <gl" + "pat-" + word[:20] + "> x",
		"grafana-cloud-api-token":       "t <gl" + "c_" + word[:40] + "> x",
		"grafana-service-account-token": "t <gl" + "sa_" + word[:32] + "_0a1b2c3d> x",
		"huggingface-access-token":      "t <h" + "f_" + word[:34] + "> x",
		"jwt":                           "t <ey" + "J" + word[:20] + ".ey" + "J" + word[:20] + "." + word[:20] + "> x",
		"npm-access-token":              "t <np" + "m_" + word[:36] + "> x",
		"openai-api-key":                "t <s" + "k-" + word[:20] + "T3Blbk" + "FJ" + word[:20] + "> x",
		"private-key":                   "-----BEGIN RSA PRIVATE " + "KEY-----<\nabc\n>-----END RSA PRIVATE KEY----- x",
		"pypi-upload-token":             "t <py" + "pi-AgEIcHlwaS5vcmc" + word + "> x",
		"sendgrid-api-token":            "t <S" + "G." + word[:22] + "." + word[:43] + "> x",
		"slack-token":                   "t <xo" + "xb-" + "123456789012-abcdef> x",
		"slack-webhook-url":             "https://hooks.slack" + ".com/services/<T00000000/B00000000/" + word[:24] + "> x",
		"stripe-access-token":           "t <s" + "k_live_" + word[:24] + "> x",
		"url-password":                  "dial postgres://user:<hunter2>@db:5432/x",
		"vault-token":                   "t <hv" + "s." + word[:30] + "> x",
		"generic-secret":                `{"api_key": "<abcdef123>", "a": 1}`,
	}
}

func TestRedactFindsEachKind(t *testing.T) {
	samples := secretSamples()
	for _, k := range secretKinds() {
		sample, ok := samples[k.name]
		if !ok {
			t.Errorf("%s has no sample", k.name)
			continue
		}
		before, rest, _ := strings.Cut(sample, "<")
		secret, after, _ := strings.Cut(rest, ">")
		options := "{types: [" + k.name + "], include_generic: " + map[bool]string{true: "true", false: "false"}[k.name == genericSecret] + "}"
		becomes(t, "- redact: "+options, before+secret+after, before+"<REDACTED-SECRET:"+k.name+">"+after)
		// With all kinds at once it must be gone too, under whatever name.
		if e := newBench(t, "- redact: {include_generic: true}").one(before + secret + after); strings.Contains(string(e.Line), secret) {
			t.Errorf("%s: the secret stays in %q", k.name, e.Line)
		}
	}
}

func TestRedactLeavesOtherLinesAlone(t *testing.T) {
	b := newBench(t, "- redact:")
	for _, line := range []string{
		"GET https://example.com/path?x=1 200",
		"commit 3f786850e387550fdab836ed7e6dc881de23001b by user:name",
		"task-skeleton xoxo AKIA bearer of news eyJ.eyJ sk_live_",
		"time=12:30:01 ratio=1:2 a@b.c://",
	} {
		if e := b.one(line); string(e.Line) != line {
			t.Errorf("%q became %q", line, e.Line)
		}
	}
}

func TestRedactOptions(t *testing.T) {
	f := func(options, line, want string) {
		t.Helper()
		becomes(t, "- redact: {"+options+"}", line, want)
	}
	f(`expressions: {card: '\b\d{4}-\d{4}\b'}, redact_with: 'X'`, "1234-5678 and 1111-2222", "X and X")
	f(`expressions: {pin: 'pin=(\d+)'}`, "pin=1234 pin=", "pin=<REDACTED-SECRET:pin> pin=")
	f(`expressions: {pin: 'pin=(\d+)'}, allowlist: ['^0+$']`, "pin=0000 pin=12", "pin=0000 pin=<REDACTED-SECRET:pin>")
	f(`expressions: {pin: 'pin=(\S+)'}, partial_mask: 4, redact_with: '*'`, "pin=1234567890 pin=12345 pin=123456 pin=äöüäöüäö", "pin=1234* pin=* pin=123* pin=äöüä*")
	f(`expressions: {pin: 'pin=(\d+)'}, redact_with: '<$SECRET_NAME:$SECRET_HASH>'`, "pin=1", "pin=<pin:356a192b7913b04c54574d18c28d46e6395428ab>")
	f(`types: [github], expressions: {e: 'x*'}, redact_with: '.'`, "axb", "a.b")
	becomes(t, "- logfmt: {mapping: {p: }}\n- redact: {source: p, expressions: {all: '.+'}, redact_with: '-'}\n- template: {source: o, template: '{{ .p }} {{ .Entry }}'}\n- output: {source: o}", "p=abc", "- p=abc")
	b := newBench(t, "- redact: {expressions: {pin: 'pin=(\\d+)'}}")
	b.one("pin=1 pin=2")
	if c := b.r.Counts(func(string, int) {}); c.Redacted != 2 {
		t.Errorf("counted %d secrets, want 2", c.Redacted)
	}
}
