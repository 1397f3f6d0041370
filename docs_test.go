package ingot_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-telemetry/ingot/internal/app"
)

// documents reads the Markdown files that people read, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "examples/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			docs[name] = read(t, name)
		}
	}
	return docs
}

// The things that documents name.
var (
	mdLink      = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading   = regexp.MustCompile(`(?m)^#+ (.+)$`)
	makeTarget  = regexp.MustCompile("`make ([a-z0-9-]+)")
	makeRule    = regexp.MustCompile(`(?m)^([a-z0-9-]+):.*## `)
	yamlBlock   = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	goSymbol    = regexp.MustCompile("`([a-z]+)\\.([A-Za-z]\\w*(?:\\.\\w+)?)(?:\\(\\))?`")
	metricName  = regexp.MustCompile(`\bingot_[a-z0-9_]+\b`)
	notInAnchor = regexp.MustCompile(`[^\w\- ]`)
)

func TestLinksBetweenDocumentsResolve(t *testing.T) {
	docs := documents(t)
	for name, text := range docs {
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(target); err != nil || strings.HasPrefix(target, "..") {
				t.Errorf("%s: the link %s does not resolve", name, m[1])
			}
			if anchor != "" && !slices.Contains(anchors(docs[target]), anchor) {
				t.Errorf("%s: the link %s names no heading of %s", name, m[1], target)
			}
		}
	}
}

// anchors returns the names that headings get when Markdown is rendered.
func anchors(text string) []string {
	var all []string
	for _, m := range mdHeading.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(notInAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func TestMakeTargetsInDocumentsExist(t *testing.T) {
	var targets []string
	for _, m := range makeRule.FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets = append(targets, m[1])
	}
	for name, text := range documents(t) {
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(targets, m[1]) {
				t.Errorf("%s names make %s, which the Makefile does not have", name, m[1])
			}
		}
	}
}

// TestDocumentsStayShort holds the limits in lines: short beats complete.
func TestDocumentsStayShort(t *testing.T) {
	limits := map[string]int{"README.md": 150, "CONTRIBUTING.md": 150, "docs/architecture.md": 250, "Makefile": 150}
	for name, limit := range limits {
		if n := strings.Count(read(t, name), "\n"); n > limit {
			t.Errorf("%s has %d lines, the limit is %d", name, n, limit)
		}
	}
}

func TestDecisionsAreIndexed(t *testing.T) {
	index := read(t, "docs/adr/README.md")
	names, err := filepath.Glob("docs/adr/0*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("no decisions found: %v", err)
	}
	for _, name := range names {
		if !strings.Contains(index, "("+path.Base(name)+")") {
			t.Errorf("docs/adr/README.md does not list %s", path.Base(name))
		}
	}
}

func TestConfigurationsInDocumentsLoad(t *testing.T) {
	names, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatalf("no examples found: %v", err)
	}
	for _, name := range names {
		if _, err := app.Load(name); err != nil {
			t.Errorf("%s:\n%v", name, err)
		}
	}
	blocks := 0
	for name, text := range documents(t) {
		for _, m := range yamlBlock.FindAllStringSubmatch(text, -1) {
			if !strings.Contains("\n"+m[1], "\ndestinations:") {
				continue // a fragment
			}
			blocks++
			if _, err := app.Parse([]byte(m[1])); err != nil {
				t.Errorf("%s: the block\n%s%v", name, m[1], err)
			}
		}
	}
	if blocks == 0 {
		t.Error("no document shows a whole configuration")
	}
}

func TestSymbolsInArchitectureExist(t *testing.T) {
	symbols, packages := declared(t)
	found := 0
	for _, m := range goSymbol.FindAllStringSubmatch(read(t, "docs/architecture.md"), -1) {
		if !packages[m[1]] || m[2] == "go" {
			continue // a package of another module, or a file name
		}
		found++
		if !symbols[m[1]+"."+m[2]] {
			t.Errorf("docs/architecture.md names %s.%s, which the code does not have", m[1], m[2])
		}
	}
	if found < 20 {
		t.Errorf("docs/architecture.md names %d symbols; it should walk the reader through the code", found)
	}
}

// declared returns the package-level names, methods and fields of our packages, as
// package.Name and package.Type.Name, and the names of the packages.
func declared(t *testing.T) (symbols, packages map[string]bool) {
	t.Helper()
	symbols, packages = map[string]bool{}, map[string]bool{}
	for name, src := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		pkg := path.Base(path.Dir(name)) // a command's folder, not main
		packages[pkg] = true
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					symbols[pkg+"."+d.Name.Name] = true
				} else {
					symbols[pkg+"."+receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					declare(symbols, pkg, spec)
				}
			}
		}
	}
	return symbols, packages
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func declare(symbols map[string]bool, pkg string, spec ast.Spec) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, id := range s.Names {
			symbols[pkg+"."+id.Name] = true
		}
	case *ast.TypeSpec:
		symbols[pkg+"."+s.Name.Name] = true
		var fields *ast.FieldList
		switch typ := s.Type.(type) {
		case *ast.StructType:
			fields = typ.Fields
		case *ast.InterfaceType:
			fields = typ.Methods
		default:
			return
		}
		for _, field := range fields.List {
			for _, id := range field.Names {
				symbols[pkg+"."+s.Name.Name+"."+id.Name] = true
			}
		}
	}
}

// TestMetricsInDocumentsExist keeps the cures in operations.md, and its alerts, about metrics
// that Ingot has. docs/metrics.md is generated, see reference_test.go.
func TestMetricsInDocumentsExist(t *testing.T) {
	reference := metricName.FindAllString(read(t, "docs/metrics.md"), -1)
	for name, text := range documents(t) {
		for _, metric := range metricName.FindAllString(text, -1) {
			prefix := strings.HasSuffix(metric, "_") // Of metrics that users define.
			if !prefix && !slices.Contains(reference, metric) {
				t.Errorf("%s names the metric %s, which docs/metrics.md does not have", name, metric)
			}
		}
	}
}

// TestLogFieldsAreListed holds the names of log fields to the list in CONTRIBUTING.md, so that
// one thing has one name.
func TestLogFieldsAreListed(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "CONTRIBUTING.md"), "The fields, a test holds the list:")
	section, _, _ = strings.Cut(section, "\n")
	listed := regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(section, -1)
	used := 0
	for name, src := range sources(t) {
		if strings.HasSuffix(name, "_test.go") || !strings.HasPrefix(name, "internal/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for field := range logFields(file) {
			used++
			if !slices.ContainsFunc(listed, func(m []string) bool { return m[1] == field }) {
				t.Errorf("%s logs the field %q, which the list in CONTRIBUTING.md does not have", name, field)
			}
		}
	}
	if used == 0 {
		t.Error("no log field was found")
	}
}

// logFields yields the names of the fields in the calls of slog's methods.
func logFields(file *ast.File) iter.Seq[string] {
	return func(yield func(string) bool) {
		for n := range ast.Preorder(file) {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				continue
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Debug", "Info", "Warn", "Error", "With"}, method.Sel.Name) {
				continue
			}
			first := 1 // after the message
			if method.Sel.Name == "With" {
				first = 0
			}
			for i := first; i < len(call.Args); i += 2 {
				if key, ok := call.Args[i].(*ast.BasicLit); ok && !yield(strings.Trim(key.Value, `"`)) {
					return
				}
			}
		}
	}
}

// TestReasonsHaveACure holds operations.md to name every reason for which something is
// dropped, changed, skipped or failing, and every state of a destination.
func TestReasonsHaveACure(t *testing.T) {
	text := read(t, "docs/operations.md")
	word := regexp.MustCompile(`(?m)^\s+(?:drop|reason|alter|skip|State)[A-Z]\w* +(?:State )?= "(\w+)"`)
	found := 0
	for name, src := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range word.FindAllStringSubmatch(string(src), -1) {
			found++
			if !strings.Contains(text, "`"+m[1]+"`") {
				t.Errorf("docs/operations.md does not say what to do about `%s` of %s", m[1], name)
			}
		}
	}
	if found < 30 {
		t.Errorf("found %d reasons; are they named otherwise now?", found)
	}
}
