//go:build killpoints && linux && cgo

package main

import (
	"fmt"
	"os"

	"postern/database/diskfault"
)

// A program that is built to be killed can also be told that its disk is full or broken.
func init() {
	orders := os.Getenv("POSTERN_DISK")
	if orders == "" {
		return
	}
	if err := diskfault.Follow(orders); err != nil {
		fmt.Fprintln(os.Stderr, "postern:", err)
		os.Exit(exitOther)
	}
}
