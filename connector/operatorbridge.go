package connector

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"postern/connector/admin"
	"postern/connector/issuer"
	"postern/connector/mediastore"
	"postern/database"
)

// LogLevels is the level of the log, which the program owns.
type LogLevels interface {
	// Levels are those that hold now.
	Levels() admin.LogLevels
	// SetLevel sets the level of a component or, for "", of all of them; for the level "" all are as they are configured. It holds until
	// the process ends.
	SetLevel(component, level string) error
}

// rotateKey lets the next signing key take over, if it has been published for long enough.
func (s *adminService) rotateKey(ctx context.Context, _ *admin.Order) (*admin.Answer, error) {
	s.ordering.Lock()
	defer s.ordering.Unlock()
	answer := &admin.Answer{Outcome: admin.Done, Keys: []admin.Key{}}
	var early *issuer.TooEarlyError
	if err := s.c.issuer.Rotate(ctx); errors.As(err, &early) {
		answer.Outcome, answer.NotBefore = admin.TooEarly, early.At.UTC()
	} else if err != nil {
		return nil, err
	}
	for _, k := range s.c.issuer.Published() {
		one := admin.Key{ID: k.ID, State: admin.KeyNext, Published: k.Published, Until: k.Until}
		switch {
		case k.Signs:
			one.State = admin.KeySigns
		case !k.Retired.IsZero():
			one.State = admin.KeyRetired
		}
		answer.Keys = append(answer.Keys, one)
	}
	s.log.Info().Str("action", "rotate-key").Str("state", string(answer.Outcome)).Msg("The operator has given an order")
	return answer, nil
}

// logLevel shows the levels of the log, or sets them.
func (s *adminService) logLevel(_ context.Context, o *admin.Order) (*admin.Answer, error) {
	s.ordering.Lock()
	defer s.ordering.Unlock()
	if s.c.logLevels == nil {
		return nil, errors.New("connector: log level: this program has no levels that can be set")
	}
	answer := &admin.Answer{Outcome: admin.Done}
	if component, level, set := o.Level(); set {
		if err := s.c.logLevels.SetLevel(component, level); err != nil {
			return nil, err
		}
		s.log.Info().Str("action", "log-level").Str("name", component).Str("state", level).Msg("The operator has given an order")
	}
	levels := s.c.logLevels.Levels()
	answer.Log = &levels
	return answer, nil
}

// mediaUse says who has how much in the media store.
func (s *adminService) mediaUse(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	rows, err := s.db.Media().Use(ctx, o.Who(), time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	if nobody, err := s.nobody(ctx, o.Who(), len(rows)); nobody || err != nil {
		return &admin.Answer{Results: []admin.Result{}}, err
	}
	media := &admin.Media{Users: []admin.MediaUser{}}
	for _, row := range rows {
		user := admin.MediaUser{Account: row.Owner, User: row.MXID, Use: admin.MediaUse{
			Waiting: admin.MediaCount(row.Waiting), Fetched: admin.MediaCount(row.Fetched), Expired: admin.MediaCount(row.Expired),
		}}
		media.All.Add(&user.Use)
		media.Users = append(media.Users, user)
	}
	slices.SortStableFunc(media.Users, func(a, b admin.MediaUser) int { return cmp.Compare(b.Use.Bytes(), a.Use.Bytes()) })
	limit := o.Limit
	if limit == 0 {
		limit = admin.MaxPage
	}
	media.Users = media.Users[min(o.Offset, len(media.Users)):]
	answer := &admin.Answer{Media: media, More: len(media.Users) > limit}
	media.Users = media.Users[:min(limit, len(media.Users))]
	return answer, nil
}

// nobody says that there is neither an account of that name nor one that is gone and has left things: found is how many things there are.
func (s *adminService) nobody(ctx context.Context, who string, found int) (bool, error) {
	if who == "" || found > 0 {
		return false, nil
	}
	rows, err := s.db.Accounts().Overview(ctx, who, 0, 1)
	return len(rows) == 0, err
}

// purgeMedia deletes attachments that were fetched, and those that can be fetched no more; forced, also those that nobody has fetched.
func (s *adminService) purgeMedia(ctx context.Context, o *admin.Order) (*admin.Answer, error) {
	s.ordering.Lock()
	defer s.ordering.Unlock()
	who, age := o.Purge()
	owners := []string{""}
	if who != "" {
		rows, err := s.db.Media().Use(ctx, who, 0)
		if err != nil {
			return nil, err
		}
		if nobody, err := s.nobody(ctx, who, len(rows)); nobody || err != nil {
			return &admin.Answer{Results: []admin.Result{}}, err
		}
		owners = nil
		for _, row := range rows {
			owners = append(owners, row.Owner)
		}
	}
	now := time.Now()
	unwanted := func(row mediastore.Row) bool {
		return !now.Before(row.Expires) || !row.Fetched.IsZero() && !now.Before(row.Fetched.Add(age)) ||
			o.Force && row.Fetched.IsZero() && !now.Before(row.Created.Add(age))
	}
	purged := &admin.MediaCount{}
	answer := &admin.Answer{Outcome: admin.Done, Purged: purged}
	for _, owner := range owners {
		files, bytes, err := s.c.media.Purge(ctx, owner, unwanted)
		purged.Files, purged.Bytes = purged.Files+int64(files), purged.Bytes+bytes
		if err != nil && purged.Files == 0 {
			return nil, err
		} else if err != nil {
			s.log.Err(err).Str("action", o.Action).Msg("Could not do what the operator has ordered")
			answer.Outcome = admin.Failed
			break
		}
	}
	s.log.Info().Str("action", o.Action).Int64("count", purged.Files).Int64("bytes", purged.Bytes).Bool("force", o.Force).Msg("The operator has given an order")
	return answer, nil
}

// fetchNote bounds how long it may take to note that an attachment was fetched.
const fetchNote = 10 * time.Second

// noteFetched notes that the gatekeeper has fetched an attachment. If that fails it counts as not fetched, and is kept as long as any.
func (c *Connector) noteFetched(ctx context.Context, row *mediastore.Row) {
	if !row.Fetched.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchNote)
	defer cancel()
	if err := c.db.Media().SetFetched(ctx, row.Name, time.Now().UnixMilli()); err != nil && !errors.Is(err, database.ErrFailed) {
		c.log.Warn().Err(err).Msg("Could not note that an attachment was fetched")
	}
}
