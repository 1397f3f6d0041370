package podlogs

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	prommodel "github.com/prometheus/common/model"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// deep is the element of a pattern that stands for any number of directories, none included.
const deep = "**"

// checkPath says what is wrong with a pattern of file_logs.
func checkPath(ps *config.Problems, at, pattern string) {
	parts := strings.Split(filepath.Clean(pattern), "/")
	if n := len(parts) - 2; n > 0 && parts[n] == deep {
		parts[n] = ""
	}
	switch _, err := filepath.Match(pattern, ""); {
	case !filepath.IsAbs(pattern):
		ps.Add(at, "must be an absolute path or pattern, is %q", pattern)
	case err != nil:
		ps.Add(at, "must be a pattern of *, ? and [a-z], is %q", pattern)
	case slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(p, deep) }):
		ps.Add(at, "may have ** only as the directory before the name of the file, as in /var/log/**/*.log, is %q", pattern)
	}
}

// matchesPath tells whether a pattern, which has passed checkPath, is one of path.
func matchesPath(pattern, path string) bool {
	pattern = filepath.Clean(pattern)
	above, name, ok := strings.Cut(pattern, "/"+deep+"/")
	if !ok {
		ok, _ = filepath.Match(pattern, path)
		return ok
	}
	dirs, depth := strings.Split(filepath.Dir(path), "/"), strings.Count(above, "/")
	if path == "/" || len(dirs) <= depth {
		return false
	}
	first, _ := filepath.Match(above, strings.Join(dirs[:depth+1], "/"))
	last, _ := filepath.Match(name, filepath.Base(path))
	return first && last
}

// leftOut tells whether an element of file_logs leaves the file or directory at path out.
func (c *FileConfig) leftOut(path string) bool {
	return slices.ContainsFunc(c.ExcludePaths, func(p string) bool { return matchesPath(p, path) })
}

// takes tells whether an element of file_logs would read a file at path, given that no directory
// above it is a link.
func (c *FileConfig) takes(path string) bool {
	if !slices.ContainsFunc(c.Paths, func(p string) bool { return matchesPath(p, path) }) {
		return false
	}
	for dir := path; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if c.leftOut(dir) {
			return false
		}
	}
	return true
}

// matchDeep looks in a directory and all below it for files that match name.
func (s *scanner) matchDeep(i int, d *dir, name string) {
	found, changed, err := s.list(d)
	if !s.looked(d, err) {
		d.shut()
		return
	}
	for _, e := range found {
		if ok, _ := filepath.Match(name, e.name); ok && !e.isDir() {
			s.file(i, d, e)
		}
	}
	if changed {
		s.settle()
		s.keep(d, slices.DeleteFunc(found, func(e entry) bool { return !e.isDir() }))
	}
	for j := range d.entries {
		e := &d.entries[j]
		if !s.c.cfg.Files[i].leftOut(filepath.Join(d.path, e.name)) {
			s.matchDeep(i, d.child(e), name)
		}
	}
	d.shut()
}

// pathLabels compiles labels_from_path of each element of file_logs, nil for none. They have
// passed Validate.
func pathLabels(files []FileConfig) ([]*regexp.Regexp, error) {
	all := make([]*regexp.Regexp, len(files))
	for i := range files {
		if text := files[i].LabelsFromPath; text != "" {
			var err error
			if all[i], err = regexp.Compile(text); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func checkPathLabels(ps *config.Problems, at, text string) {
	if text == "" {
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		ps.Add(at, "must be a regular expression: %v", err)
		return
	}
	names := slices.DeleteFunc(re.SubexpNames(), func(n string) bool { return n == "" })
	if len(names) == 0 {
		ps.Add(at, `must name what becomes a label, as in /(?P<service_name>[^/]+)\.log$`)
	}
	for _, n := range names {
		if !prommodel.LegacyValidation.IsValidLabelName(n) || strings.HasPrefix(n, "__") && n != tenantLabel {
			ps.Add(at, "must have label names in its groups: letters, digits and _, not starting with a digit or __, has %q", n)
		}
	}
}

// fileLabels returns the labels of an ordinary log file. fromPath may be nil.
func fileLabels(path string, configured map[string]string, fromPath *regexp.Regexp) streamLabels {
	ls := []model.Label{{Name: "filename", Value: valid(path)}}
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		ls = append(ls, model.Label{Name: name, Value: configured[name]})
	}
	if fromPath != nil {
		if m := fromPath.FindStringSubmatch(path); m != nil {
			for i, name := range fromPath.SubexpNames() {
				if name != "" && m[i] != "" {
					ls = append(ls, model.Label{Name: name, Value: valid(m[i])})
				}
			}
		}
	}
	s := labelSet{index: model.NewLabels(ls...)}
	return streamLabels{s, s}
}
