package binxml

// scanner is the first pass: it checks everything that can be checked without allocating, and counts.
type scanner struct {
	cursor
	lim                      Limits
	nodes, attrs, text, data int
	p                        piece
}

func (s *scanner) node(depth int) error {
	if depth > s.lim.MaxDepth {
		return &LimitError{What: "depth"}
	}
	tag, err := s.byte()
	if err != nil {
		return err
	}
	size, err := s.list(tag)
	if err != nil {
		return err
	}
	if size == 0 {
		return s.syntax("element without a name")
	}
	attrs := (size - 1) / 2
	if attrs > s.lim.MaxAttrs {
		return &LimitError{What: "attributes"}
	}
	if size > s.left() {
		return s.syntax("too short")
	}
	s.attrs += attrs
	if err = s.name(); err != nil {
		return err
	}
	for range attrs {
		if err = s.name(); err != nil {
			return err
		}
		if err = s.value(); err != nil {
			return err
		}
	}
	if size%2 == 0 {
		return s.content(depth)
	}
	return nil
}

// name passes over a string that must not be empty.
func (s *scanner) name() error {
	tag, err := s.byte()
	if err != nil {
		return err
	}
	if isToken(tag) {
		return nil
	}
	if err = s.string(tag); err != nil {
		return err
	}
	n := s.p.length()
	if n == 0 {
		return s.syntax("empty name")
	}
	if s.p.token == "" {
		s.text += n
	}
	return nil
}

// value passes over an attribute's value: an address, a string, or nothing at all.
func (s *scanner) value() error {
	tag, err := s.byte()
	if err != nil {
		return err
	}
	if tag >= tagInteropByte && tag <= tagADJID || tag == tagPair {
		return s.address(tag)
	}
	return s.optional(tag)
}

// optional passes over a string or the empty list, which stands for none.
func (s *scanner) optional(tag byte) error {
	if tag == tagListEmpty || isToken(tag) {
		return nil
	}
	if err := s.string(tag); err != nil {
		return err
	}
	if s.p.token == "" {
		s.text += s.p.length()
	}
	return nil
}

// string passes over a string and checks it in full.
func (s *scanner) string(tag byte) error {
	if err := s.piece(tag, &s.p); err != nil || s.p.pairs == nil {
		return err
	}
	for k, v := range s.b[s.p.off : s.p.off+s.p.n] {
		pair := &s.p.pairs[v]
		if pair[0] == 0 || pair[1] == 0 && !(s.p.odd && k == s.p.n-1) {
			return s.syntax("unknown digit in a packed string")
		}
	}
	return nil
}

func (s *scanner) address(tag byte) error {
	before, after, server := s.layout(tag)
	if after < 0 {
		return s.syntax("address in another dialect")
	}
	if before > s.left() {
		return s.syntax("too short")
	}
	s.i += before
	user, err := s.byte()
	if err != nil {
		return err
	}
	if err = s.optional(user); err != nil {
		return err
	}
	if after > s.left() {
		return s.syntax("too short")
	}
	s.i += after
	if server {
		return s.name()
	}
	return nil
}

// layout says how an address is laid out: how many fixed bytes stand before the user and after it, and whether a
// server string ends it. after is -1 for an interop address of another dialect.
func (c *cursor) layout(tag byte) (before, after int, server bool) {
	switch tag {
	case tagPair:
		return 0, 0, true
	case tagADJID:
		return 2, 0, false
	case tagMessenger:
		return 0, 2, true
	}
	switch {
	case tag == tagInterop && c.dialect == Dialect245Bare:
		return 0, 4, false
	case tag == tagInteropByte && c.dialect == Dialect244DomainByte:
		return 0, 5, false
	case tag == tagInterop && c.dialect != Dialect244DomainByte:
		return 0, 4, true
	}
	return 0, -1, false
}

func (s *scanner) content(depth int) error {
	tag, err := s.byte()
	if err != nil {
		return err
	}
	if !isList(tag) {
		if err = s.string(tag); err == nil && !s.p.raw {
			s.data += s.p.length()
		}
		return err
	}
	n, err := s.list(tag)
	switch {
	case err != nil:
		return err
	case n > s.lim.MaxChildren:
		return &LimitError{What: "children"}
	case n > s.left()/3: // the shortest element has three bytes
		return s.syntax("too short")
	}
	s.nodes += n
	for range n {
		if err = s.node(depth + 1); err != nil {
			return err
		}
	}
	return nil
}
