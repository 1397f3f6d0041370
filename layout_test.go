// Package ingot_test holds the tests of the repository as a whole: its layout (this file),
// its documents (docs_test.go) and the generated references (reference_test.go).
package ingot_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "github.com/ingot-telemetry/ingot/"

// imports says which packages of ours a package may import; "*" is all below internal.
// Arrows point down only: sources and sinks never see each other, and the status pages get
// snapshots as values. A new package is a line here, which makes it a decision to review.
var imports = map[string]string{
	"cmd/ingot":               "app config",
	"internal/app":            "*",
	"internal/web":            "model config",
	"internal/clustermetrics": "model config discovery scrape",
	"internal/promoperator":   "model config kube discovery httpclient scrape",
	"internal/scrape":         "model config discovery expfmt httpclient series",
	"internal/series":         "model expfmt",
	"internal/podlogs":        "model config kube stage",
	"internal/discovery":      "model config kube",
	"internal/remotewrite":    "model config delivery",
	"internal/loki":           "model config delivery",
	"internal/delivery":       "config httpclient",
	"internal/kube":           "model config",
	"internal/httpclient":     "config",
	"internal/expfmt":         "model config",
	"internal/stage":          "model config",
	"internal/memory":         "config",
	"internal/config":         "",
	"internal/model":          "",
	"test/kit":                "",
	"test/store":              "test/kit",
	"test/demo":               "test/demo/steps", // starts at once, so it builds the rest itself
	"test/demo/show":          "test/kit test/store test/demo/steps",
	"test/demo/steps":         "",
	"test/app":                "test/kit test/store",
	"test/e2e":                "test/kit testbed",
	"test/bench":              "test/bench/exporter test/bench/meter test/bench/podfiles test/bench/sink",
	"test/bench/exporter":     "",
	"test/bench/meter":        "",
	"test/bench/podfiles":     "test/bench/sink",
	"test/bench/sink":         "",
	"testbed":                 "",
	"testbed/*":               "testbed",
}

// tables are the package variables that hold data which never changes and which Go cannot
// write as constants. All others must be sentinel errors, compiled regular expressions or
// embedded files.
var tables = map[string]bool{}

const (
	maxFileLines = 800 // wanted: 400
	maxFuncLines = 100 // wanted: 60
)

// drawers are package names that say nothing about what is inside.
var drawers = []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "shared", "types"}

// outside finds text that points out of the repository. It is put together here so that it
// does not find itself.
var outside = regexp.MustCompile(`(^|[^\w.])/(wo` + `rk|ro` + `ot)/|\.\./sha` + `red|\.lib` + `rary/`)

// dependency is one row of docs/dependencies.md.
type dependency struct {
	module string
	usedBy []string // packages below internal or other folders, or "tests"
}

func TestLayout(t *testing.T) {
	for _, problem := range layoutProblems(sources(t), dependencies(t), required(t)) {
		t.Error(problem)
	}
}

// layoutProblems checks Go files by path against the rules of this file. The required
// modules are those of go.mod.
func layoutProblems(files map[string][]byte, deps []dependency, required map[string]bool) []string {
	var problems []string
	commented, used := map[string]bool{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		add := func(format string, args ...any) {
			problems = append(problems, name+": "+fmt.Sprintf(format, args...))
		}
		dir := path.Dir(name)
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, files[name], parser.ParseComments)
		if err != nil {
			add("%v", err)
			continue
		}
		commented[dir] = commented[dir] || file.Doc != nil && !strings.HasPrefix(file.Doc.Text(), "Copyright")
		if n := bytes.Count(files[name], []byte("\n")); n > maxFileLines {
			add("has %d lines, the limit is %d", n, maxFileLines)
		}
		if strings.HasPrefix(dir, "internal/") && strings.Count(dir, "/") > 1 {
			add("packages are internal/<name>, nothing deeper")
		}
		if slices.Contains(drawers, path.Base(dir)) {
			add("the package name %s says nothing about what is inside", path.Base(dir))
		}
		problems = append(problems, importProblems(name, file, deps, required, used)...)
		if !strings.HasSuffix(name, "_test.go") {
			problems = append(problems, declarationProblems(name, fset, file)...)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(commented)) {
		if !commented[dir] {
			problems = append(problems, dir+": has no package comment")
		}
	}
	listed := map[string]bool{}
	for _, d := range deps {
		listed[d.module] = true
		if !used[d.module] {
			problems = append(problems, "docs/dependencies.md: "+d.module+" is listed but not imported")
		}
	}
	for _, mod := range slices.Sorted(maps.Keys(required)) {
		if required[mod] && !listed[mod] {
			problems = append(problems, "go.mod: "+mod+" is required but not in docs/dependencies.md")
		}
	}
	return problems
}

// importProblems checks what one file imports and notes the external modules it uses.
func importProblems(name string, file *ast.File, deps []dependency, required, used map[string]bool) []string {
	var problems []string
	add := func(format string, args ...any) {
		problems = append(problems, name+": "+fmt.Sprintf(format, args...))
	}
	dir, isTest := path.Dir(name), strings.HasSuffix(name, "_test.go")
	allowed, known := imports[dir]
	if base, _, deep := strings.Cut(dir, "/"); !known && deep {
		allowed, known = imports[base+"/*"]
	}
	if !known && dir != "." {
		return []string{name + ": the package is not in the import table of layout_test.go"}
	}
	for _, spec := range file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		if pkg, ok := strings.CutPrefix(imported, module); ok {
			short := strings.TrimPrefix(pkg, "internal/")
			ok = slices.Contains(strings.Fields(allowed), short) || allowed == "*" && short != pkg ||
				isTest && (dir == "." || pkg == dir || strings.HasPrefix(pkg, "test/"))
			if !ok {
				add("may not import %s, see the import table of layout_test.go", pkg)
			}
			continue
		}
		if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
			continue
		}
		mod := moduleOf(imported, required)
		i := slices.IndexFunc(deps, func(d dependency) bool { return d.module == mod })
		if i < 0 {
			add("imports %s, which is not in docs/dependencies.md", imported)
			continue
		}
		used[mod] = true
		if !isTest && !slices.ContainsFunc(deps[i].usedBy, func(user string) bool {
			return user == "all" || dir == user || dir == "internal/"+user
		}) {
			add("imports %s, which docs/dependencies.md leaves to %s", imported, strings.Join(deps[i].usedBy, ", "))
		}
	}
	return problems
}

// declarationProblems checks for init functions, long functions and package variables.
func declarationProblems(name string, fset *token.FileSet, file *ast.File) []string {
	var problems []string
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				problems = append(problems, name+": has an init function")
			}
			if n := fset.Position(d.End()).Line - fset.Position(d.Pos()).Line + 1; n > maxFuncLines {
				problems = append(problems, fmt.Sprintf("%s: %s has %d lines, the limit is %d", name, d.Name.Name, n, maxFuncLines))
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok || d.Tok != token.VAR || strings.Contains(directives(d.Doc)+directives(v.Doc), "//go:embed") {
					continue
				}
				for i, id := range v.Names {
					if id.Name == "_" || tables[path.Base(path.Dir(name))+"."+id.Name] || i < len(v.Values) && isConstantCall(v.Values[i]) {
						continue
					}
					problems = append(problems, name+": has the package variable "+id.Name)
				}
			}
		}
	}
	return problems
}

func directives(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	var all strings.Builder
	for _, c := range doc.List {
		all.WriteString(c.Text + "\n")
	}
	return all.String()
}

func isConstantCall(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && slices.Contains([]string{"errors.New", "regexp.MustCompile"}, pkg.Name+"."+sel.Sel.Name)
}

// moduleOf returns the longest required module that is a prefix of the import path.
func moduleOf(imported string, required map[string]bool) string {
	for mod := imported; mod != "."; mod = path.Dir(mod) {
		if _, ok := required[mod]; ok {
			return mod
		}
	}
	return imported
}

func TestNoFilePointsOutOfTheRepository(t *testing.T) {
	walk(t, func(name string) {
		text := read(t, name)
		if !utf8.ValidString(text) {
			return // a binary
		}
		n := 0
		for line := range strings.Lines(text) {
			n++
			if hit := outside.FindString(line); hit != "" {
				t.Errorf("%s:%d: points out of the repository: %q", name, n, hit)
			}
		}
	})
}

// walk calls visit for each file but those of folders that git ignores.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && slices.Contains([]string{".git", ".cache", "bin", "data"}, name) {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			visit(name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources reads the Go files of this module, without testdata and what has a go.mod of its own.
func sources(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	var others []string
	walk(t, func(name string) {
		switch {
		case path.Base(name) == "go.mod" && name != "go.mod":
			others = append(others, path.Dir(name)+"/")
		case path.Ext(name) == ".go" && !strings.Contains(name, "/testdata/"):
			files[name] = []byte(read(t, name))
		}
	})
	maps.DeleteFunc(files, func(name string, _ []byte) bool {
		return slices.ContainsFunc(others, func(dir string) bool { return strings.HasPrefix(name, dir) })
	})
	return files
}

// required returns the modules of go.mod, with true for those required directly.
func required(t *testing.T) map[string]bool {
	t.Helper()
	mods := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		mods[m[1]] = m[2] == ""
	}
	return mods
}

// dependencies reads the table of docs/dependencies.md.
func dependencies(t *testing.T) []dependency {
	t.Helper()
	var deps []dependency
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		deps = append(deps, dependency{module: m[1], usedBy: strings.Split(strings.TrimSpace(m[2]), ", ")})
	}
	return deps
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
