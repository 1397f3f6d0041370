package promoperator

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestOnlyIsTheSelectorAsText holds what discovery leaves out for a job before its rules look.
func TestOnlyIsTheSelectorAsText(t *testing.T) {
	f := func(s metav1.LabelSelector, want string) {
		t.Helper()
		if got := only(&s); got != want {
			t.Errorf("only(%v) = %q, want %q", s, got, want)
		}
	}
	f(metav1.LabelSelector{}, "")
	f(metav1.LabelSelector{
		MatchLabels: map[string]string{"app": "web"},
		MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a", "b"}},
			{Key: "canary", Operator: metav1.LabelSelectorOpDoesNotExist},
		},
	}, "app=web,!canary,tier notin (a,b)")
	f(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Bad"}}}, "")
}
