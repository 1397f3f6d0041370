//go:build !linux

package podlogs

import "errors"

const (
	noticeBuffer = 0
	noAccessTime = 0
)

// notifier is there on Linux only. Elsewhere scanning alone finds files.
type notifier struct{}

func newNotifier() (*notifier, error) {
	return nil, errors.ErrUnsupported
}

func (*notifier) dir(string) (int32, error)       { return 0, errors.ErrUnsupported }
func (*notifier) once(descriptor) (int32, error)  { return 0, errors.ErrUnsupported }
func (*notifier) drop(int32)                      {}
func (*notifier) read([]byte, func(notice)) error { return errors.ErrUnsupported }
func (*notifier) close()                          {}
