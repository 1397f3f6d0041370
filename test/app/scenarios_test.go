package app_test

import (
	"fmt"
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

// index finds the tests of one series of scenarios by their letter.
type index struct {
	inName, inNumber, inText, inCase *regexp.Regexp
	found                            map[int][]string // names of tests by scenario
}

func newIndex(letter string) *index {
	return &index{
		inName:   regexp.MustCompile(`^Test(?:Torture)?(?:[A-Z]\d\d)*` + letter + `\d\d`),
		inNumber: regexp.MustCompile(letter + `(\d\d)`),
		inText:   regexp.MustCompile(`\b` + letter + `(\d{1,2})(?:(?: to |-)` + letter + `(\d{1,2}))?\b`),
		inCase:   regexp.MustCompile(`^"` + letter + `(\d{1,2})\b`),
		found:    make(map[int][]string),
	}
}

// The 44 scenarios of remote write.
func TestEveryRScenarioHasATest(t *testing.T) {
	t.Parallel()
	testIndex(t, "R", 44, nil)
}

// The 44 scenarios of logs.
func TestEveryLScenarioHasATest(t *testing.T) {
	t.Parallel()
	testIndex(t, "L", 44, nil)
}

// testIndex reads the tests of the whole repository, those of make torture included: every
// scenario is in the name of a test, in the name of one of its cases, or in the comment above
// it. exceptions are the scenarios without a test, and why.
func testIndex(t *testing.T, letter string, scenarios int, exceptions map[int]string) {
	t.Helper()
	x := newIndex(letter)
	for _, root := range []string{"../../internal", "../../test"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "bench" {
				return filepath.SkipDir // Its loads have such names too.
			}
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			return x.read(path)
		})
		check(t, err)
	}
	for n := 1; n <= scenarios; n++ {
		tests := slices.Compact(slices.Sorted(slices.Values(x.found[n])))
		reason, excepted := exceptions[n]
		switch {
		case len(tests) == 0 && !excepted:
			t.Errorf("%s%d has no test", letter, n)
		case len(tests) > 0 && excepted:
			t.Errorf("%s%d is an exception (%s) but has %v", letter, n, reason, tests)
		default:
			t.Logf("%s%d: %s%s", letter, n, strings.Join(tests, ", "), reason)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(x.found)) {
		if n < 1 || n > scenarios {
			t.Errorf("there is no scenario %s%d, of which %v speak", letter, n, x.found[n])
		}
	}
}

// read notes which scenarios the tests of one file are about.
func (x *index) read(path string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("read the scenarios: %w", err)
	}
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil {
			continue
		}
		note := func(number string) {
			n, _ := strconv.Atoi(number) // the expressions match digits only
			x.found[n] = append(x.found[n], filepath.Base(filepath.Dir(path))+"."+f.Name.Name)
		}
		isTest := strings.HasPrefix(f.Name.Name, "Test")
		for _, m := range x.inNumber.FindAllStringSubmatch(x.inName.FindString(f.Name.Name), -1) {
			note(m[1])
		}
		if isTest {
			for _, m := range x.inText.FindAllStringSubmatch(f.Doc.Text(), -1) {
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
				if m := x.inCase.FindStringSubmatch(lit.Value); m != nil {
					note(m[1])
				}
			}
			return true
		})
	}
	return nil
}
