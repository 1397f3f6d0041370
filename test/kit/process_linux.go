package kit

import "syscall"

// processAttributes puts the process into a group of its own, so that Ctrl-C at a terminal
// reaches only us, and has the kernel kill it when we die.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
