package stage

import "regexp"

// genericSecret is the kind that is only looked for where it is asked for.
const genericSecret = "generic-secret"

// secretKind is a kind of secret: words of which one stands in each, and an expression whose
// first group, or the whole, is the secret.
type secretKind struct {
	name     string
	keywords []string
	expr     string
}

func (k secretKind) compile() secret {
	s := secret{name: k.name, re: regexp.MustCompile(k.expr)}
	for _, word := range k.keywords {
		s.keywords = append(s.keywords, []byte(word))
	}
	return s
}

// secretKinds returns the known kinds. Their forms are documented by those who issue them.
func secretKinds() []secretKind {
	return []secretKind{
		{"anthropic-api-key", []string{"sk-ant-"}, `\bsk-ant-[\w-]{32,}`},
		{"aws-access-token", []string{"AKIA", "ASIA", "ABIA", "ACCA"}, `\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b`},
		{"aws-secret-key", []string{"ecret", "ECRET"}, `(?i)aws_?secret(?:_?access)?_?key["']?\s*[:=]\s*["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+]|$)`},
		{"azure-storage-key", []string{"AccountKey=", "SharedAccessKey="}, `(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{40,}={0,2})`},
		{"basic-auth", []string{"asic "}, `(?i)\bauthorization["']?\s*[:=]\s*["']?basic\s+([A-Za-z0-9+/]{6,}={0,2})`},
		{"bearer-token", []string{"earer ", "EARER "}, `(?i)\bbearer\s+([A-Za-z0-9._~+/-]{16,}=*)`},
		{"digitalocean-token", []string{"_v1_"}, `\bdo[opr]_v1_[a-f0-9]{64}\b`},
		{"gcp-api-key", []string{"AIza"}, `\bAIza[\w-]{35}`},
		{"gcp-oauth-token", []string{"ya29."}, `\bya29\.[\w-]{20,}`},
		{"github-fine-grained-pat", []string{"github_pat_"}, `\bgithub_pat_\w{22,}`},
		{"github-token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, `\bgh[pousr]_[A-Za-z0-9]{36,}`},
		{"gitlab-token", []string{"glp", "gld", "glr", "glf", "glc", "gla", "glo", "gls", "gli"}, `\b(?:glpat|gldt|glrt|glft|glptt|glcbt|glagent|gloas|glsoat|glimt)-[\w.-]{20,}`},
		{"grafana-cloud-api-token", []string{"glc_"}, `\bglc_[A-Za-z0-9+/]{32,}={0,3}`},
		{"grafana-service-account-token", []string{"glsa_"}, `\bglsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}`},
		{"huggingface-access-token", []string{"hf_"}, `\bhf_[A-Za-z0-9]{34,}`},
		{"jwt", []string{"eyJ"}, `\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}`},
		{"npm-access-token", []string{"npm_"}, `\bnpm_[A-Za-z0-9]{36}\b`},
		{"openai-api-key", []string{"T3BlbkFJ"}, `\bsk-[\w-]{20,}T3BlbkFJ[\w-]{20,}`},
		{"private-key", []string{"PRIVATE KEY"}, `(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|$)`},
		{"pypi-upload-token", []string{"pypi-AgEIcHlwaS5vcmc"}, `\bpypi-AgEIcHlwaS5vcmc[\w-]{50,}`},
		{"sendgrid-api-token", []string{"SG."}, `\bSG\.[\w-]{16,32}\.[\w-]{32,64}`},
		{"slack-token", []string{"xox", "xapp-"}, `\b(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}`},
		{"slack-webhook-url", []string{"hooks.slack.com"}, `hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{20,})`},
		{"stripe-access-token", []string{"k_live_", "k_test_", "k_prod_"}, `\b[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}\b`},
		{"url-password", []string{"://"}, `\b[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@"']*:([^/\s@"']+)@`},
		{"vault-token", []string{"hvs.", "hvb."}, `\bhv[sb]\.[\w-]{24,}`},
		{genericSecret, []string{"ass", "ASS", "ecret", "ECRET", "oken", "OKEN", "key", "KEY", "Key"}, `(?i)(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)["']?\s*[:=]\s*["']?([^\s"',;&]{6,})`},
	}
}
