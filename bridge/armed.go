//go:build killpoints && linux && cgo

package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"postern/database/diskfault"
)

// A program that is built to be killed can also be told that its disk is full or broken, and asked how many goroutines it has: at SIGUSR1 it
// writes that into the file that POSTERN_GOROUTINES names.
func init() {
	if orders := os.Getenv("POSTERN_DISK"); orders != "" {
		if err := diskfault.Follow(orders); err != nil {
			fmt.Fprintln(os.Stderr, "postern:", err)
			os.Exit(exitOther)
		}
	}
	file := os.Getenv("POSTERN_GOROUTINES")
	if file == "" {
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	go func() {
		for range asked {
			err := os.WriteFile(file+".new", fmt.Appendln(nil, runtime.NumGoroutine()), 0o600)
			if err == nil {
				err = os.Rename(file+".new", file)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "postern:", err)
			}
		}
	}()
}
