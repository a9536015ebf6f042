//go:build !linux

package parts

import "syscall"

// childAttributes keeps a terminal's Ctrl-C away from a child. Only Linux can
// also tie it to this process's life.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
