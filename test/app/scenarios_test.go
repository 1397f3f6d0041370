package app_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// scenarios is how many scenarios of remote write there are: R1 to R44.
const scenarios = 44

// untested are the scenarios without a test, and why: none.
func untested() map[int]string {
	return map[int]string{}
}

var (
	inName = regexp.MustCompile(`^Test(?:Torture)?((?:R\d\d)+)`)
	inText = regexp.MustCompile(`\bR(\d{1,2})(?:-R(\d{1,2}))?\b`)
	inCase = regexp.MustCompile(`^"R(\d{1,2})\b`)
)

// TestEveryRScenarioHasATest reads the tests of the whole repository, those of make torture
// included: every scenario is in the name of a test, in the name of one of its cases, or in
// the comment above it.
func TestEveryRScenarioHasATest(t *testing.T) {
	t.Parallel()
	found := make(map[int][]string)
	for _, root := range []string{"../../internal", "../../test"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			return readScenarios(path, found)
		})
		check(t, err)
	}
	exceptions := untested()
	for n := 1; n <= scenarios; n++ {
		tests := slices.Compact(slices.Sorted(slices.Values(found[n])))
		reason, excepted := exceptions[n]
		switch {
		case len(tests) == 0 && !excepted:
			t.Errorf("R%d has no test", n)
		case len(tests) > 0 && excepted:
			t.Errorf("R%d is an exception (%s) but has %v", n, reason, tests)
		default:
			t.Logf("R%d: %s%s", n, strings.Join(tests, ", "), reason)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(found)) {
		if n < 1 || n > scenarios {
			t.Errorf("there is no scenario R%d, of which %v speak", n, found[n])
		}
	}
}

// readScenarios notes which scenarios the tests of one file are about.
func readScenarios(path string, found map[int][]string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil {
			continue
		}
		note := func(number string) {
			n, _ := strconv.Atoi(number) // the expressions match digits only
			found[n] = append(found[n], filepath.Base(filepath.Dir(path))+"."+f.Name.Name)
		}
		isTest := strings.HasPrefix(f.Name.Name, "Test")
		if m := inName.FindStringSubmatch(f.Name.Name); m != nil {
			for _, number := range strings.Split(m[1], "R")[1:] {
				note(number)
			}
		}
		if isTest {
			for _, m := range inText.FindAllStringSubmatch(f.Doc.Text(), -1) {
				first, _ := strconv.Atoi(m[1])
				last, _ := strconv.Atoi(m[2])
				for n := first; n <= max(first, last); n++ {
					note(strconv.Itoa(n))
				}
			}
		}
		// Names of cases; they may stand in a function beside the test.
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if m := inCase.FindStringSubmatch(lit.Value); m != nil {
					note(m[1])
				}
			}
			return true
		})
	}
	return nil
}
