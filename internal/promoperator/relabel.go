package promoperator

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// The patterns that rules are made of.
const (
	anything   = "(.*)"
	something  = "(.+)"
	isTrue     = "true"
	ended      = "(Failed|Succeeded)"
	onNode     = "Node;(.*)"
	inPod      = "Pod;(.*)"
	ingressURL = "(.+);(.+);(.+)"
)

// fixedPatterns are the patterns that the rules of every object have. They are compiled once:
// a compiled pattern weighs more than all the rest of a rule.
func fixedPatterns() map[string]relabel.Regexp {
	fixed := map[string]relabel.Regexp{anything: relabel.DefaultRelabelConfig.Regex} // Prometheus tells its default by the pointer.
	for _, p := range [...]string{something, isTrue, ended, onNode, inPod, ingressURL} {
		fixed[p] = relabel.MustNewRegexp(p)
	}
	return fixed
}

// rule returns a relabelling rule. The pattern is one that compiles.
func (t *Translator) rule(action relabel.Action, regex string, source ...string) *relabel.Config {
	r := relabel.DefaultRelabelConfig
	r.Action = action
	var ok bool
	if r.Regex, ok = t.fixed[regex]; !ok {
		r.Regex = relabel.MustNewRegexp(regex)
	}
	for _, s := range source {
		r.SourceLabels = append(r.SourceLabels, prommodel.LabelName(s))
	}
	return &r
}

func (t *Translator) keep(regex string, source ...string) *relabel.Config {
	return t.rule(relabel.Keep, regex, source...)
}

func (t *Translator) drop(regex string, source ...string) *relabel.Config {
	return t.rule(relabel.Drop, regex, source...)
}

// set gives target the replacement where the sources match.
func (t *Translator) set(target, replacement, regex string, source ...string) *relabel.Config {
	r := t.rule(relabel.Replace, regex, source...)
	r.TargetLabel = target
	r.Replacement = replacement
	return r
}

// copyLabel gives target the value of source; one that is empty changes nothing.
func (t *Translator) copyLabel(target, source string) *relabel.Config {
	return t.set(target, "$1", something, source)
}

// keepPort keeps targets whose port is called so. As in the operator, the name is a pattern.
func (o *object) keepPort(field, pattern, source string) *relabel.Config {
	if _, err := relabel.NewRegexp(pattern); err != nil {
		o.reject(field, "is matched as a pattern and is none: %v", err)
		return o.keep(anything, source)
	}
	return o.keep(pattern, source)
}

// running drops the pods that have ended and still have their address.
func (t *Translator) running() *relabel.Config { return t.drop(ended, "__meta_kubernetes_pod_phase") }

// labelOf and presentOf are the meta labels with the value of a label of a Kubernetes object
// and with whether there is such a label; kind is pod, service or ingress.
func labelOf(kind, label string) string {
	return "__meta_kubernetes_" + kind + "_label_" + model.SanitizeName(label)
}

func presentOf(kind, label string) string {
	return "__meta_kubernetes_" + kind + "_labelpresent_" + model.SanitizeName(label)
}

// checkSelector rejects an object whose label selector the API server would not have taken.
func (o *object) checkSelector(field string, s *metav1.LabelSelector) {
	if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
		o.reject(field, "is no label selector: %v", err)
	}
}

// selected are the rules that keep the targets of the Kubernetes objects that s selects, in
// the order of the operator: labels by name, then the expressions. Values are compared as
// they are; in the operator a dot of a value matches any character.
func (t *Translator) selected(kind string, s *metav1.LabelSelector) []*relabel.Config {
	var rules []*relabel.Config
	for _, name := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		rules = append(rules, t.keep(oneOf([]string{s.MatchLabels[name]}), labelOf(kind, name), presentOf(kind, name)))
	}
	for _, e := range s.MatchExpressions {
		label, present := labelOf(kind, e.Key), presentOf(kind, e.Key)
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			rules = append(rules, t.keep(oneOf(e.Values), label, present))
		case metav1.LabelSelectorOpNotIn:
			rules = append(rules, t.drop(oneOf(e.Values), label, present))
		case metav1.LabelSelectorOpExists:
			rules = append(rules, t.keep(isTrue, present))
		case metav1.LabelSelectorOpDoesNotExist:
			rules = append(rules, t.drop(isTrue, present))
		}
	}
	return rules
}

// oneOf matches a label that is there and has one of the values.
func oneOf(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return "(" + strings.Join(quoted, "|") + ");true"
}

// labelRules copy labels of the pods or services behind targets.
func (t *Translator) labelRules(kind string, names ...string) []*relabel.Config {
	var rules []*relabel.Config
	for _, name := range names {
		rules = append(rules, t.copyLabel(model.SanitizeName(name), labelOf(kind, name)))
	}
	return rules
}

// rules compiles rules of an object.
func (o *object) rules(field string, list []monitoringv1.RelabelConfig, scheme prommodel.ValidationScheme) []*relabel.Config {
	var rules []*relabel.Config
	for i, c := range list {
		path := config.Index(field, i)
		r := relabel.DefaultRelabelConfig
		if c.Action != "" {
			r.Action = relabel.Action(strings.ToLower(c.Action))
		}
		for _, s := range c.SourceLabels {
			r.SourceLabels = append(r.SourceLabels, prommodel.LabelName(s))
		}
		if c.Regex != "" && c.Regex != anything {
			regex, err := relabel.NewRegexp(c.Regex)
			if err != nil {
				o.reject(path+".regex", "%v", err)
				continue
			}
			r.Regex = regex
		}
		if c.Modulus < 0 {
			o.reject(path+".modulus", "must not be negative, is %d", c.Modulus)
			continue
		}
		r.Modulus = uint64(c.Modulus)
		r.TargetLabel = c.TargetLabel
		if c.Separator != nil {
			r.Separator = *c.Separator
		}
		if c.Replacement != nil {
			r.Replacement = *c.Replacement
		}
		if !knownAction(r.Action) {
			o.reject(path+".action", "%q is no action of relabelling", c.Action)
			continue
		}
		if err := r.Validate(scheme); err != nil {
			o.reject(path, "%v", err)
			continue
		}
		r.NameValidationScheme = prommodel.UnsetValidation // It is that of the job.
		rules = append(rules, &r)
	}
	return rules
}

func knownAction(a relabel.Action) bool {
	switch a {
	case relabel.Replace, relabel.Keep, relabel.Drop, relabel.KeepEqual, relabel.DropEqual, relabel.HashMod,
		relabel.LabelMap, relabel.LabelDrop, relabel.LabelKeep, relabel.Lowercase, relabel.Uppercase:
		return true
	}
	return false
}

// metricRules are the rules for series: of the class, then of the object.
func (o *object) metricRules(field string, list []monitoringv1.RelabelConfig, scheme prommodel.ValidationScheme) []*relabel.Config {
	return append(slices.Clone(o.class.MetricRelabelConfigs), o.rules(field, list, scheme)...)
}
