package app

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
)

// warnOfLeftovers says which data on disk nobody will send: that of destinations which the
// configuration does not have any more, or calls otherwise. It is kept.
func warnOfLeftovers(dataDir string, destinations []Destination, log *slog.Logger) {
	for _, kept := range []struct{ typ, folder, pattern string }{
		{Prometheus, "queues", "*.seg"},
		{Loki, "spool", filepath.Join("*", "*.seg")},
	} {
		root := filepath.Join(dataDir, kept.folder)
		var names []string
		for _, file := range glob(root, filepath.Join("*", kept.pattern)) {
			below, err := filepath.Rel(root, file)
			if err != nil {
				continue // Nothing that Glob returns.
			}
			name, _, _ := strings.Cut(below, string(filepath.Separator))
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if !slices.ContainsFunc(destinations, func(d Destination) bool { return d.Type == kept.typ && d.Name == name }) {
				log.Warn("data waits on disk for a destination that is not configured; give one its name to send it, or remove the directory",
					"name", name, "path", filepath.Join(root, name))
			}
		}
	}
}

// glob returns the files below a directory, whose name may hold anything.
func glob(root, pattern string) []string {
	escaped := strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(root)
	found, err := filepath.Glob(filepath.Join(escaped, pattern))
	if err != nil {
		return nil // A pattern of ours is not malformed.
	}
	return found
}
