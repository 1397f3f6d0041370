package podlogs

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// looked notes how listing d went, and tells whether it went well. What was known below a
// directory that cannot be listed stays known, unless it does not exist.
func (s *scanner) looked(d *dir, err error) bool {
	owner, name := d.parent, d.name
	if owner == nil {
		owner, name = d, "."
	}
	if err == nil {
		s.readable(owner, d.path, name)
		return true
	}
	if skip, ok := errors.AsType[*skipError](err); ok {
		s.skip(owner, name, skip.reason)
		return false
	}
	switch gone := errors.Is(err, fs.ErrNotExist); {
	case gone && d.parent != nil:
		s.forget(d) // It went away since its parent was listed.
		return false
	case gone && d.source > 0:
		s.empty(d)
	default:
		s.blind = append(s.blind, d.path)
		d.walk(func(x *dir) { x.pass = s.pass })
	}
	s.unreadable(owner, d.path, name, err)
	return false
}

// refuseFile notes that the file name of d is not read.
func (s *scanner) refuseFile(d *dir, name string, err error) {
	if skip, ok := errors.AsType[*skipError](err); ok {
		s.skip(d, name, skip.reason)
		return
	}
	d.again = true
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errReplaced) {
		return // The next look will tell what became of it.
	}
	s.blind = append(s.blind, d.path) // The file may have had another name there before.
	s.unreadable(d, filepath.Join(d.path, name), name, err)
}

// skip notes that an entry of d is not read.
func (s *scanner) skip(d *dir, name, reason string) {
	if d.skipped[name].Reason != reason {
		s.refuse(d, name, Skipped{Path: filepath.Join(d.path, name), Reason: reason})
	}
}

func (s *scanner) refuse(d *dir, name string, x Skipped) {
	if d.skipped == nil {
		d.skipped = map[string]Skipped{}
	}
	d.skipped[name], s.reskip = x, true
}

func (s *scanner) clearSkipped(d *dir) {
	if len(d.skipped) > 0 {
		d.skipped, s.reskip = nil, true
	}
}

// unreadable notes what could be read and is not. Only the first time is logged.
func (s *scanner) unreadable(d *dir, path, name string, err error) {
	s.c.m.scanErrors.Inc()
	if text := err.Error(); d.skipped[name].Err != text {
		s.refuse(d, name, Skipped{Path: path, Reason: skipUnreadable, Err: text})
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		path = "" // Said once for all.
	}
	if !s.refused[path] {
		s.refused[path] = true
		s.c.log.Warn("log file or directory cannot be opened, trying again", "path", filepath.Join(d.path, name), "err", err)
	}
}

// readable notes that the entry name of d, at path, could be opened.
func (s *scanner) readable(d *dir, path, name string) {
	if _, ok := d.skipped[name]; ok {
		delete(d.skipped, name)
		s.reskip = true
	}
	if s.refused[path] {
		delete(s.refused, path)
		s.c.log.Info("log file or directory can be opened again", "path", path)
	}
}

// forget drops a directory that is gone, and all below it.
func (s *scanner) forget(d *dir) {
	s.empty(d)
	d.left = true
	s.unwatchDir(d)
	d.shut()
	delete(s.refused, d.path)
	if d.parent == nil {
		return
	}
	if e := d.parent.find(d.name); e != nil && e.sub == d {
		e.sub = nil
	}
	if _, ok := d.parent.skipped[d.name]; ok {
		delete(d.parent.skipped, d.name)
		s.reskip = true
	}
}

// empty drops what is known to be in a directory.
func (s *scanner) empty(d *dir) {
	for i := range d.entries {
		if sub := d.entries[i].sub; sub != nil {
			s.forget(sub)
		}
	}
	for name := range d.skipped {
		delete(s.refused, filepath.Join(d.path, name))
	}
	s.clearSkipped(d)
	tails := d.tails
	d.tails = nil
	for _, t := range tails {
		s.unname(t)
	}
	d.entries, d.compressed, d.listed, d.id = nil, nil, false, fileID{}
}
