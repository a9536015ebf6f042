package parts

import "syscall"

// childAttributes ties a child to this process and keeps a terminal's Ctrl-C
// away from it, so that whoever started it stops it in the right order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
