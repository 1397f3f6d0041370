package kube

import "testing"

func TestSelectorsAreThoseOfKubectl(t *testing.T) {
	set := map[string]string{"app": "web", "tier": "a"}
	for text, want := range map[string]bool{
		"": true, "app=web": true, "app==web,tier=a": true, "app!=web": false, "app in (api,web)": true,
		"tier notin (a)": false, "tier": true, "!tier": false, "!other": true, "other": false,
	} {
		s, err := ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Matches(set); got != want {
			t.Errorf("%q matches %v: %t, want %t", text, set, got, want)
		}
		if s.Everything() != (text == "") {
			t.Errorf("%q selects everything: %t", text, s.Everything())
		}
	}
	if _, err := ParseSelector("a b"); err == nil {
		t.Error("a selector that is none was accepted")
	}
	if s := (Selector{}); !s.Matches(set) || !s.Everything() {
		t.Error("the zero selector does not select everything")
	}
}
