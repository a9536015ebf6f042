package e2ee

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"go.mau.fi/libsignal/logger"
	"go.mau.fi/libsignal/signalerror"
)

// silent is the log of libsignal: nothing. The library hands key material to its log at debug level, and its own default
// prints warnings to standard output.
type silent struct{}

func (silent) Debug(_, _ string)   {}
func (silent) Info(_, _ string)    {}
func (silent) Warning(_, _ string) {}
func (silent) Error(_, _ string)   {}
func (silent) Configure(string)    {}

// The library's log is one for the whole process, so it is silenced before anything can use it.
func init() {
	var quiet logger.Loggable = silent{}
	logger.Setup(&quiet)
}

// guard runs f, which calls libsignal, and turns a panic into a *PanicError.
func guard(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{Where: panicPlace()}
		}
	}()
	return f()
}

// panicPlace names the function that panicked: the innermost one outside the runtime.
func panicPlace() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !strings.HasPrefix(frame.Function, "runtime.") {
			return fmt.Sprintf("%s:%d", frame.Function, frame.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}

// libraryError translates an error of libsignal. Its text is dropped: it can hold addresses and parts of the input.
// Errors of this package, which come back through the buffering store, pass.
func libraryError(err error) error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return err
	case errors.Is(err, signalerror.ErrInvalidSignature):
		return ErrSignature
	case errors.Is(err, signalerror.ErrUntrustedIdentity):
		return ErrUntrusted
	case errors.Is(err, signalerror.ErrUninitializedSession):
		return ErrNoSession
	case errors.Is(err, signalerror.ErrNoSignedPreKey), errors.Is(err, signalerror.ErrNoOneTimeKeyFound):
		return ErrNoPreKey
	}
	return ErrLibrary
}
