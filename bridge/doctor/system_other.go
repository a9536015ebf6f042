//go:build !linux

package doctor

// filesystem is not known here.
func filesystem(string) string { return "" }
