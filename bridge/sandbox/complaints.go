package sandbox

// keptComplaints bounds the list: the first ones say most.
const keptComplaints = 1000

// complain writes down something a partner did that the profile does not allow, and that was let pass. section
// is of PROTOCOL.md; text says what, in words that never hold anything a person wrote. a may be nil. The same
// complaint again only counts.
func (c change) complain(s *Server, a *account, section, text string) {
	var identifier string
	var in uint16
	if a != nil {
		identifier, in = a.Identifier, a.Integrator
	}
	for _, old := range c.complaints {
		if old.Identifier == identifier && old.Integrator == in && old.Section == section && old.Text == text {
			old.Count++
			c.put(old)
			return
		}
	}
	if len(c.complaints) >= keptComplaints {
		return
	}
	cm := &complaint{
		Seq: uint64(len(c.complaints)) + 1, T: unix(s.now()), Identifier: identifier, Integrator: in,
		Section: section, Text: text, Count: 1,
	}
	c.state.complaints = append(c.complaints, cm)
	c.put(cm)
}
