package sandbox

import (
	"cmp"
	"slices"
)

const (
	keptWaiting     = 10_000 // events of one chat that wait
	fetchesAtOnce   = 16     // media on the way from partners
	fetchesOfAnyone = 4      // of those, from one partner user
)

// waiting is an event of a chat that is not shown yet: its media is still being fetched, or that of one before
// it. So a chat's events come in the order of its messages, however long media takes.
type waiting struct {
	Phone   string
	Account string
	Seq     uint64
	Body    eventBody
	Fetch   bool // its own media is not there yet

	gone bool // given up
}

func (w *waiting) storeKey() string { return "waiting/" + w.Phone + "/" + seqKey(w.Seq) }

// fetchQueue is whose media is to be fetched, oldest first. It is part of the state.
type fetchQueue struct {
	on      bool // the sandbox has started
	list    []*waiting
	running int
	of      map[string]int // by partner user
}

// show adds an event of a chat to what the person sees, in the order of messages. With fetch the event comes
// when its media has been fetched.
func (p *phone) show(c change, s *Server, a *account, e eventBody, fetch bool) {
	list := p.waiting[a.Address]
	if !fetch && len(list) == 0 {
		p.user.add(c, s, e)
		return
	}
	w := &waiting{Phone: p.user.Phone, Account: a.Address, Seq: c.order(), Body: e, Fetch: fetch}
	p.waiting[a.Address] = append(list, w)
	c.put(w)
	if fetch {
		c.fetches.list = append(c.fetches.list, w)
	}
	if len(list) >= keptWaiting {
		c.giveUp(list[0])
		p.release(c, s, a.Address)
	}
	c.startFetches(s)
}

// waits says whether a message has come and is not shown yet.
func (p *phone) waits(a *account, id string) bool {
	return slices.ContainsFunc(p.waiting[a.Address], func(w *waiting) bool { return w.Body.ID == id && w.Body.Kind == "message" })
}

// giveUp stops waiting for media of w.
func (c change) giveUp(w *waiting) {
	if w.Body.Media != nil && w.Fetch {
		w.Body.Media.Error = wordWaiting
	}
	w.Fetch, w.gone = false, true
	c.fetches.list = slices.DeleteFunc(c.fetches.list, func(x *waiting) bool { return x == w })
}

// release shows what nothing keeps back any more.
func (p *phone) release(c change, s *Server, account string) {
	list := p.waiting[account]
	for len(list) > 0 && !list[0].Fetch {
		p.user.add(c, s, list[0].Body)
		c.drop(list[0])
		list[0] = nil
		list = list[1:]
	}
	if len(list) == 0 {
		delete(p.waiting, account)
	} else {
		p.waiting[account] = list
	}
}

// placeWaiting takes an event that waits back from the journal.
func (s *state) placeWaiting(w *waiting) error {
	u := s.users[w.Phone]
	if u == nil {
		return errState("waiting event", "user")
	}
	if _, err := s.accountByText("waiting event", w.Account); err != nil {
		return err
	}
	u.phone.waiting[w.Account] = append(u.phone.waiting[w.Account], w)
	if w.Fetch {
		s.fetches.list = append(s.fetches.list, w)
	}
	return nil
}

func (q *fetchQueue) sort() {
	slices.SortFunc(q.list, func(x, y *waiting) int { return cmp.Compare(x.Seq, y.Seq) })
}

// startFetches sends off as many fetches as may run at once, oldest first.
func (c change) startFetches(s *Server) {
	q := &c.fetches
	if !q.on {
		return
	}
	for i := 0; i < len(q.list) && q.running < fetchesAtOnce; {
		w := q.list[i]
		if q.of[w.Account] >= fetchesOfAnyone {
			i++
			continue
		}
		q.list = slices.Delete(q.list, i, i+1)
		c.startFetch(s, w)
	}
}

// startFetch sends one fetch off, when what it rests on is on disk.
func (c change) startFetch(s *Server, w *waiting) {
	job, word := c.fetchJob(s, w)
	n := c.seq
	c.fetches.running++
	c.fetches.of[w.Account]++
	s.run("fetch media", func() {
		out := fetched{word: wordUnreachable} // what is told if the fetch panics
		defer func() {
			if s.ctx.Err() == nil {
				_ = s.settled(s.state.update(func(c change) { c.fetched(s, w, out) }))
			} else {
				s.dropFetched(out) // after the next start it is fetched again
			}
		}()
		if word != "" {
			out.word = word
		} else if s.settled(n) == nil {
			out = job.run(s)
		}
	})
}

// fetched takes the outcome of a fetch.
func (c change) fetched(s *Server, w *waiting, out fetched) {
	c.fetches.running--
	if c.fetches.of[w.Account]--; c.fetches.of[w.Account] == 0 {
		delete(c.fetches.of, w.Account)
	}
	a, u := c.accountOf(w), c.users[w.Phone]
	for _, odd := range out.oddities {
		if odd.whileEnlisted && (a.Deleted || !a.Enlisted) {
			continue // what an account had stored goes with it
		}
		c.complain(s, a, odd.section, odd.text)
	}
	if w.gone {
		s.dropFetched(out)
	} else {
		w.Fetch = false
		w.Body.Media.Error = out.word
		c.put(w)
		if out.name != "" {
			w.Body.Media.Bytes = uint64(out.size)
			c.keepFile(s, &mediaFile{Name: out.name, Phone: w.Phone, Account: w.Account, ID: w.Body.ID, Size: out.size})
		}
		u.phone.release(c, s, w.Account)
	}
	c.startFetches(s)
}

func (s *Server) dropFetched(out fetched) {
	if out.name != "" {
		s.depot.remove(out.name)
	}
}

func (c change) accountOf(w *waiting) *account {
	a, err := c.accountByText("waiting event", w.Account)
	if err != nil {
		return nil
	}
	return a
}
