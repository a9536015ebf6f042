package interop

// Rest ends the stream for lack of need, also where there has just come to be one.
func (a *Account) Rest() {
	t := a.attend
	t.mu.Lock()
	t.rested = true
	t.notLive()
	t.mu.Unlock()
	a.link.mu.Lock()
	defer a.link.mu.Unlock()
	a.link.end()
}
