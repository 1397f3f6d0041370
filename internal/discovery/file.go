package discovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"
)

// maxListSize bounds a file or a response that lists targets, in bytes.
const maxListSize = 32 << 20

// File is the source of targets that files list, as file_sd_configs of Prometheus. It
// watches the directories of the files and reads all of them again after a change.
type File struct {
	cfg FileConfig
	log *slog.Logger

	lists map[string][]labels.Labels // Last good list of each present file; owned by Run.

	mu  sync.Mutex // guards err
	err error
}

// NewFile returns the source for one file_sd_configs block.
func NewFile(cfg FileConfig, log *slog.Logger) *File {
	return &File{cfg: cfg, log: log, lists: make(map[string][]labels.Labels)}
}

// Err returns what is wrong with the files, all of them joined, nil when every list is current.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Run reads the files at once, after each change and each refresh interval. Without a
// watch (no inotify left) the interval alone carries it.
func (f *File) Run(ctx context.Context, update func([]Group)) error {
	var events chan fsnotify.Event
	var watchErrs chan error
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.log.Warn("watching files of discovery is not possible, reading them by interval", "err", err)
	} else {
		defer watcher.Close()
		events, watchErrs = watcher.Events, watcher.Errors
	}
	ticker := time.NewTicker(time.Duration(f.cfg.RefreshInterval))
	defer ticker.Stop()
	for {
		if watcher != nil {
			f.watch(watcher) // Before reading, so that no change falls between.
		}
		update(Whole(f.read()))
		if !f.wait(ctx, ticker.C, events, watchErrs) {
			return nil
		}
	}
}

// settle is how long after a change the files are read: writers replace a file in several
// steps, and one reading does for all of them.
const settle = 50 * time.Millisecond

// wait returns true when the files should be read again and false when ctx ended.
func (f *File) wait(ctx context.Context, tick <-chan time.Time, events <-chan fsnotify.Event, errs <-chan error) bool {
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case <-settled:
			return true
		case e := <-events:
			if settled == nil && e.Name != "" && e.Op != fsnotify.Chmod && f.concerns(e.Name) {
				settled = time.After(settle)
			}
		case err := <-errs:
			f.log.Warn("watching files of discovery failed, reading them again", "err", err)
			return true
		}
	}
}

// concerns reports whether a changed path can matter: one of the files, or something that
// is no target list at all, such as the ..data link through which Kubernetes swaps a whole
// mounted ConfigMap.
func (f *File) concerns(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json", ".yml", ".yaml":
	default:
		return strings.HasPrefix(filepath.Base(path), "..")
	}
	return slices.ContainsFunc(f.cfg.Files, func(pattern string) bool {
		ok, err := filepath.Match(filepath.Clean(pattern), filepath.Clean(path))
		return ok && err == nil
	})
}

// watch puts a watch on the directory of every pattern. A directory that does not exist
// yet is tried again at the next reading.
func (f *File) watch(w *fsnotify.Watcher) {
	for _, pattern := range f.cfg.Files {
		if err := w.Add(filepath.Dir(pattern)); err != nil && !errors.Is(err, os.ErrNotExist) {
			f.log.Debug("watching a directory of discovery failed", "path", filepath.Dir(pattern), "err", err)
		}
	}
}

// read returns the targets of all files. A file that cannot be read keeps its last list; a
// file that is gone has none.
func (f *File) read() []labels.Labels {
	var paths []string
	var errs []error
	for _, pattern := range f.cfg.Files {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue // Validate refuses such a pattern.
		}
		if len(found) == 0 && !strings.Contains(pattern, "*") {
			errs = append(errs, fmt.Errorf("read targets of %s: there is no such file", pattern))
		}
		paths = append(paths, found...)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)

	var all []labels.Labels
	lists := make(map[string][]labels.Labels, len(paths))
	for _, path := range paths {
		list, err := readList(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read targets of %s: %w", path, err))
			list = f.lists[path]
		}
		lists[path] = list
		all = append(all, list...)
	}
	f.lists = lists
	f.setErr(errors.Join(errs...))
	return all
}

func (f *File) setErr(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	logChange(f.log, f.err, err)
	f.err = err
}

func readList(path string) ([]labels.Labels, error) {
	fd, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	data, err := readLimited(fd)
	if err != nil {
		return nil, err
	}
	var blocks []*StaticConfig
	if strings.EqualFold(filepath.Ext(path), ".json") {
		blocks, err = decodeJSON(data)
	} else {
		dec := yaml.NewDecoder(bytes.NewReader(data))
		dec.KnownFields(true)
		if err = dec.Decode(&blocks); errors.Is(err, io.EOF) {
			err = nil // An empty file is an empty list.
		}
	}
	if err != nil {
		return nil, err
	}
	return expandList(blocks, model.LabelSet{"__meta_filepath": model.LabelValue(path)})
}

// decodeJSON reads a list of target blocks strictly.
func decodeJSON(data []byte) ([]*StaticConfig, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var blocks []*StaticConfig
	if err := dec.Decode(&blocks); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one JSON value")
	}
	return blocks, nil
}

// expandList is expand for a list that came from outside.
func expandList(blocks []*StaticConfig, extra model.LabelSet) ([]labels.Labels, error) {
	plain := make([]StaticConfig, len(blocks))
	for i, b := range blocks {
		if b == nil {
			return nil, fmt.Errorf("element %d of the list is null", i)
		}
		plain[i] = *b
	}
	return expand(plain, extra), nil
}

func readLimited(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxListSize+1))
	if err == nil && len(data) > maxListSize {
		err = fmt.Errorf("list of targets exceeds %d bytes", maxListSize)
	}
	return data, err
}

// logChange logs the first failure and the recovery of a source.
func logChange(log *slog.Logger, before, now error) {
	switch {
	case before == nil && now != nil:
		log.Warn("discovery failed, keeping the last targets", "err", now)
	case before != nil && now == nil:
		log.Info("discovery recovered")
	}
}
