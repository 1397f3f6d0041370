package ingot_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"

	"github.com/ingot-telemetry/ingot/internal/app"
	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

var update = flag.Bool("update", false, "rewrite the generated references instead of comparing them")

const configurationHead = `# Configuration

<!-- Generated from the code by make generate. Change the comments of the structs instead. -->

One YAML file, read at the start. It is strict: an unknown key, a wrong type or a key given twice is an error, and all errors are reported at once. Check a file without running it:

    ingot check FILE

Blocks for scraping, relabelling, TLS, authentication and HTTP clients have Prometheus' names and meaning, so that they can be pasted.

- A *duration* is written as Prometheus does: ` + "`30s`, `5m`, `1h30m`, `2d`" + `.
- A *size* has a unit: ` + "`512KiB`, `4GiB`" + `; without one it is bytes. ` + "`MB` means `MiB`" + `, as in Prometheus.
- A *secret* is shown as ` + "`<secret>`" + ` wherever the configuration is printed. Each has a twin with the ending ` + "`_file`" + ` that names a file, which is read again when it changes.
- A relative *path* starts at the folder of the configuration file, as in Prometheus. The patterns of ` + "`file_logs`" + ` must be absolute.
- Nothing is replaced by environment variables: ` + "`${NAME}`" + ` stays as it is.

A key without a default is empty, and a list or map that is not given is empty.
`

func TestUserTextKeepsRegularExpressions(t *testing.T) {
	const comment = "Devices are as [Config] and\n[model.Labels] say. Default: en[ospx][0-9].*."
	if got, want := userText(comment, map[string]string{"Devices": "devices"}), "`devices` are as Config and model.Labels say. Default: en[ospx][0-9].*."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestReferenceOfConfigurationIsCurrent generates docs/configuration.md from the structs that
// the file is decoded into: their tags, comments and defaults.
func TestReferenceOfConfigurationIsCurrent(t *testing.T) {
	w := &reference{comments: map[string]map[string]string{}, external: map[reflect.Type]string{}}
	def := app.DefaultConfig()
	w.section(t, "", reflect.ValueOf(&def).Elem())
	w.section(t, "stages[]", reflect.ValueOf(&stage.Config{}).Elem()) // Once: stages may hold stages.
	w.externals()
	compare(t, "docs/configuration.md", configurationHead+w.out.String())
}

// compare compares a generated file with what it should hold, or writes it with -update.
func compare(t *testing.T, name, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s is not what the code says, run make generate", name)
	}
}

// reference writes one section for each block of the configuration.
type reference struct {
	out      bytes.Buffer
	comments map[string]map[string]string // by package path, then Type or Type.Field
	external map[reflect.Type]string      // blocks in Prometheus' own types, with the first key that has them
}

// section writes the keys of the struct v, which is at the given path, and then the blocks
// below it.
func (w *reference) section(t *testing.T, at string, v reflect.Value) {
	t.Helper()
	title := cmp.Or(at, "Top level")
	if at != "" {
		title = "`" + at + "`"
	}
	fmt.Fprintf(&w.out, "\n## %s\n\n", title)
	if about := w.comment(t, v.Type(), ""); at != "" && about != "" {
		fmt.Fprintf(&w.out, "%s\n\n", about)
	}
	w.out.WriteString("| key | type | default | |\n|---|---|---|---|\n")
	below := w.rows(t, at, v)
	for _, b := range below {
		w.section(t, b.at, b.v)
	}
}

type block struct {
	at string
	v  reflect.Value
}

// rows writes a row for each field of v and returns the blocks that need a section.
func (w *reference) rows(t *testing.T, at string, v reflect.Value) []block {
	t.Helper()
	var below []block
	for i := range v.NumField() {
		f := v.Type().Field(i)
		tag := f.Tag.Get("yaml")
		key, options, _ := strings.Cut(tag, ",")
		if tag == "-" || !f.IsExported() {
			continue
		}
		if strings.Contains(options, "inline") {
			about := ""
			if !f.Anonymous {
				about = withoutSubject(w.comment(t, v.Type(), f.Name), f.Name)
			}
			if isOurs(f.Type) {
				if about != "" {
					fmt.Fprintf(&w.out, "| | | | %s |\n", about)
				}
				below = append(below, w.rows(t, at, v.Field(i))...)
			} else {
				fmt.Fprintf(&w.out, "| | the keys of %s | | %s |\n", w.externalLink(f.Type, at), about)
			}
			continue
		}
		path := strings.TrimPrefix(at+"."+key, ".")
		typ, elem, list := f.Type, v.Field(i), ""
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
			elem = emptyElement(t, typ)
		}
		if typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8 {
			list, typ = "list of ", typ.Elem()
			if typ.Kind() == reflect.Pointer {
				typ = typ.Elem()
			}
			elem = emptyElement(t, typ)
			path += "[]"
		}
		if typ.Kind() == reflect.Map && typ.Elem().Kind() == reflect.Struct && isOurs(typ.Elem()) {
			list, typ, path = "map of names to ", typ.Elem(), path+".NAME"
			elem = emptyElement(t, typ)
		}
		name := typeName(typ)
		if typ == reflect.TypeFor[stage.Config]() {
			name = "[stages](#" + anchors("# stages[]")[0] + ")"
		} else if typ.Kind() == reflect.Struct && typ.NumField() == 0 {
			name = "`{}`"
		} else if typ.Kind() == reflect.Struct && isOurs(typ) && !isScalar(typ) {
			below = append(below, block{path, elem})
			name = "[block](#" + anchors("# " + path)[0] + ")"
		} else if typ.Kind() == reflect.Struct && !isScalar(typ) {
			name = w.externalLink(typ, path)
		}
		def := ""
		unset := f.Type.Kind() == reflect.Pointer && v.Field(i).IsNil() // Its comment says what holds then.
		if list == "" && !unset && !strings.HasPrefix(name, "[") {
			def = defaultText(t, elem)
		}
		fmt.Fprintf(&w.out, "| `%s` | %s%s | %s | %s |\n", key, list, name, def, w.comment(t, v.Type(), f.Name))
	}
	return below
}

// externals writes the blocks that are Prometheus' own types. What their keys mean stands in
// Prometheus' documentation; here are their names and types.
func (w *reference) externals() {
	types := slices.SortedFunc(func(yield func(reflect.Type) bool) {
		for typ := range w.external {
			if !yield(typ) {
				return
			}
		}
	}, func(a, b reflect.Type) int { return strings.Compare(a.String(), b.String()) })
	for _, typ := range types {
		fmt.Fprintf(&w.out, "\n## %s\n\nAs in Prometheus, see its [documentation](https://prometheus.io/docs/prometheus/latest/configuration/configuration/#%s).\n\n| key | type |\n|---|---|\n", w.external[typ], promAnchor(typ))
		w.externalRows("", typ)
	}
}

func (w *reference) externalRows(prefix string, typ reflect.Type) {
	for f := range typ.Fields() {
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "-" || !f.IsExported() || f.Tag.Get("yaml") == "" || strings.HasSuffix(key, "_ref") {
			continue // *_ref names an entry of a secret manager, which Ingot does not have
		}
		ft, list := f.Type, ""
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Slice {
			list, ft = "list of ", ft.Elem()
		}
		switch {
		case strings.Contains(options, "inline") && ft.Kind() == reflect.Map:
			w.externalRows(prefix+"NAME.", ft.Elem())
		case strings.Contains(options, "inline"):
			w.externalRows(prefix, ft)
		case ft.Kind() == reflect.Struct && !isScalar(ft):
			w.externalRows(prefix+key+".", ft)
		default:
			fmt.Fprintf(&w.out, "| `%s` | %s%s |\n", prefix+key, list, typeName(ft))
		}
	}
}

// externalLink returns the link to the section of a type of Prometheus.
func (w *reference) externalLink(typ reflect.Type, at string) string {
	names := map[reflect.Type]string{
		reflect.TypeFor[promconfig.HTTPClientConfig](): "HTTP client",
		reflect.TypeFor[relabel.Config]():              "Relabel rule",
		reflect.TypeFor[promconfig.TLSConfig]():        "TLS settings",
		reflect.TypeFor[promconfig.Authorization]():    "Authorization",
	}
	name, ok := names[typ]
	if !ok {
		panic(fmt.Sprintf("%s has the type %s, which reference_test.go has no name for", at, typ))
	}
	w.external[typ] = name
	return "[" + name + "](#" + anchors("# " + name)[0] + ")"
}

func promAnchor(typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[relabel.Config]():
		return "relabel_config"
	case reflect.TypeFor[promconfig.TLSConfig]():
		return "tls_config"
	}
	return "http_config"
}

func isOurs(typ reflect.Type) bool {
	return strings.HasPrefix(typ.PkgPath(), strings.TrimSuffix(module, "/"))
}

// isScalar reports whether a value of the type is one word in the file.
func isScalar(typ reflect.Type) bool { return typeName(typ) != "block" }

func typeName(typ reflect.Type) string {
	switch typ.String() {
	case "model.Duration", "stage.Duration":
		return "duration"
	case "config.Size":
		return "size"
	case "model.ValidationScheme":
		return "utf8 or legacy"
	case "config.Secret":
		return "secret"
	case "netip.Prefix":
		return "network"
	case "config.URL", "url.URL":
		return "URL"
	case "relabel.Regexp":
		return "regular expression"
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint, reflect.Uint64, reflect.Int32, reflect.Uint32, reflect.Float64:
		return "number"
	case reflect.Map:
		return "map of " + typeName(typ.Elem())
	case reflect.Slice:
		return "list of " + typeName(typ.Elem())
	case reflect.Struct:
		return "block"
	default:
		return "text"
	}
}

// emptyElement returns what an empty element of a list of such blocks becomes: its defaults.
func emptyElement(t *testing.T, typ reflect.Type) reflect.Value {
	t.Helper()
	v := reflect.New(typ)
	if typ.Kind() == reflect.Struct && isOurs(typ) {
		if err := yaml.Unmarshal([]byte("{}"), v.Interface()); err != nil {
			t.Fatalf("decode an empty %s: %v", typ, err)
		}
	}
	return v.Elem()
}

// defaultText writes a value as it would stand in the file.
func defaultText(t *testing.T, v reflect.Value) string {
	t.Helper()
	if v.IsZero() && v.Kind() != reflect.Bool {
		return ""
	}
	text, err := config.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.TrimSpace(string(text)); s != "" && !strings.Contains(s, "\n") && s != "[]" && s != "{}" {
		return "`" + s + "`"
	}
	return ""
}

// comment returns the comment of a type, or of one of its fields, as a user should read it.
func (w *reference) comment(t *testing.T, typ reflect.Type, field string) string {
	t.Helper()
	if w.comments[typ.PkgPath()] == nil {
		w.comments[typ.PkgPath()] = comments(t, "./"+strings.TrimPrefix(typ.PkgPath(), module))
	}
	all := w.comments[typ.PkgPath()]
	if field == "" {
		text := withoutSubject(all[typ.Name()], typ.Name())
		return strings.Replace(text, typ.Name()+" ", "This block ", 1)
	}
	text := all[typ.Name()+"."+field]
	if text == "" {
		t.Errorf("%s.%s has no comment; users read it in docs/configuration.md", typ, field)
	}
	return text
}

// withoutSubject turns "Scrape is the block scrape" into "The block scrape".
func withoutSubject(text, name string) string {
	text = regexp.MustCompile(`^`+name+` (is|are|holds|says) `).ReplaceAllString(text, "")
	return strings.ToUpper(text[:min(1, len(text))]) + text[min(1, len(text)):]
}

// comments reads the comments of the types and fields of a package. A field is named in them
// by its key.
func comments(t *testing.T, dir string) map[string]string {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range gen.Specs {
				if s, ok := spec.(*ast.TypeSpec); ok {
					fieldComments(all, s, gen.Doc)
				}
			}
		}
	}
	return all
}

func fieldComments(all map[string]string, spec *ast.TypeSpec, doc *ast.CommentGroup) {
	typ, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	keys := map[string]string{}
	for _, field := range typ.Fields.List {
		for _, id := range field.Names {
			if field.Tag != nil {
				tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`"))
				keys[id.Name], _, _ = strings.Cut(tag.Get("yaml"), ",")
			}
		}
	}
	all[spec.Name.Name] = userText(cmp.Or(spec.Doc, doc).Text(), keys)
	shared := ""
	for _, field := range typ.Fields.List {
		text := cmp.Or(field.Doc.Text(), field.Comment.Text())
		if text != "" {
			shared = text
		} else if len(field.Names) > 0 && regexp.MustCompile(`\b`+field.Names[0].Name+`\b`).MatchString(shared) {
			text = shared // one comment for a group that names its fields
		}
		for _, id := range field.Names {
			all[spec.Name.Name+"."+id.Name] = userText(text, keys)
		}
	}
}

// userText puts a Go comment on one line, with keys in place of field names and no links.
func userText(text string, keys map[string]string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = regexp.MustCompile(`\[((?:[a-z]+\.)?[A-Z][A-Za-z.]*)\]`).ReplaceAllString(text, "$1")
	text = strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(text)
	first := true
	return regexp.MustCompile(`\b[A-Z]\w+\b`).ReplaceAllStringFunc(text, func(word string) string {
		isName := !first && (word == "Kubernetes" || word == "Loki")
		first = false
		if key := keys[word]; key != "" && !isName {
			return "`" + key + "`"
		}
		return word
	})
}
