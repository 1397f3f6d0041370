package ingot_test

import (
	"strings"
	"testing"
)

// TestEachLayoutRuleCanFail shows that a rule finds what it is for.
func TestEachLayoutRuleCanFail(t *testing.T) {
	deps := []dependency{{module: "example.com/known", usedBy: []string{"kube"}}}
	required := map[string]bool{"example.com/known": true}
	f := func(name, src, want string) {
		t.Helper()
		files := map[string][]byte{name: []byte(src), "internal/kube/kube.go": []byte("// Package kube.\npackage kube\nimport _ \"example.com/known/x\"")}
		got := strings.Join(layoutProblems(files, deps, required), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s with\n%s\nproblems = %q, want %q", name, src, got, want)
		}
	}
	f("internal/model/a.go", "// Package model.\npackage model\nimport _ \"strings\"\nvar errX = errors.New(\"x\")\nvar re = regexp.MustCompile(``)\nvar _ = 1\n//go:embed a\nvar file string", "")
	f("internal/model/a.go", "package model", "no package comment")
	f("internal/model/a.go", "// Copyright.\npackage model", "no package comment")
	f("internal/model/a.go", "// Package model.\npackage", "expected")
	f("internal/model/a.go", "// Package model.\npackage model\nvar x = map[int]int{}", "package variable x")
	f("internal/model/a.go", "// Package model.\npackage model\nfunc init() {}", "init function")
	f("internal/model/a.go", "// Package model.\npackage model\nfunc f() {"+strings.Repeat("\n", 101)+"}", "the limit is 100")
	f("internal/model/a_test.go", "// Package model.\npackage model"+strings.Repeat("\n", 801), "the limit is 800")
	f("internal/model/a.go", "// Package model.\npackage model\nimport _ \""+module+"internal/kube\"", "may not import internal/kube")
	f("internal/podlogs/a.go", "// Package podlogs.\npackage podlogs\nimport _ \""+module+"internal/kube\"", "")
	f("internal/web/a_test.go", "// Package web.\npackage web\nimport _ \""+module+"internal/kube\"", "may not import internal/kube")
	f("internal/web/a_test.go", "// Package web.\npackage web\nimport _ \""+module+"test/kit\"", "")
	f("test/kit/a.go", "// Package kit.\npackage kit\nimport _ \""+module+"internal/model\"", "may not import internal/model")
	f("internal/web/a.go", "// Package web.\npackage web\nimport _ \"example.com/new\"", "not in docs/dependencies.md")
	f("internal/web/a.go", "// Package web.\npackage web\nimport _ \"example.com/known/y\"", "leaves to kube")
	f("internal/web/ui/a.go", "// Package ui.\npackage ui", "nothing deeper")
	f("internal/util/a.go", "// Package util.\npackage util", "says nothing")
	f("internal/novel/a.go", "// Package novel.\npackage novel", "not in the import table")
	f("internal/kube/kube.go", "// Package kube.\npackage kube", "")

	if got := layoutProblems(nil, deps, required); len(got) != 1 || !strings.Contains(got[0], "listed but not imported") {
		t.Errorf("an unused dependency: problems = %q", got)
	}
	if got := layoutProblems(nil, nil, required); len(got) != 1 || !strings.Contains(got[0], "required but not in") {
		t.Errorf("an unlisted dependency: problems = %q", got)
	}
	for _, text := range []string{"see /wo" + "rk/x", "(../sha" + "red/y)", "a/.lib" + "rary/z"} {
		if !outside.MatchString(text) {
			t.Errorf("%q is not found to point out of the repository", text)
		}
	}
}
