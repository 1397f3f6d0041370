package delivery

import (
	"errors"
	"io/fs"
	"os"
)

// reader reads records for the sender and keeps the file of the first segment open.
type reader struct {
	path     string
	file     *os.File
	failures int // in a row, for this segment
}

// read finds the first record between off and end and reads its body.
func (r *reader) read(s *segment, off, end int64) (rec record, found bool, body []byte, intact bool, err error) {
	if r.path != s.path || r.file == nil {
		r.close()
		if r.file, err = os.Open(s.path); err != nil {
			r.file = nil
			return rec, false, nil, false, err
		}
		r.path = s.path
	}
	rec, found, err = nextRecord(r.file, s.base, off, end)
	if err == nil && found {
		body, intact, err = readBody(r.file, rec)
	}
	if err != nil {
		r.close() // A new descriptor may do better.
	}
	return rec, found, body, intact, err
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close() // Only read from: nothing can be lost.
		r.file = nil
	}
}

// isGone tells whether a file or directory does not exist any more.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
