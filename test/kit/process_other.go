//go:build !linux

package kit

import "syscall"

// processAttributes puts the process into a group of its own, so that Ctrl-C at a terminal
// reaches only us. Only Linux can kill it when we die.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
