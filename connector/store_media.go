package connector

import (
	"context"
	"time"

	"postern/connector/mediastore"
	"postern/database"
)

// mediaIndex fits the database's index of attachments to what the media store asks for.
type mediaIndex struct{ store database.MediaStore }

var _ mediastore.Index = mediaIndex{}

func fromMedia(m *database.MediaObject) mediastore.Row {
	row := mediastore.Row{
		Name: m.RefHash, Owner: m.Owner, Size: m.Size, SHA256: m.SHA256,
		Created: time.UnixMilli(m.Created), Expires: time.UnixMilli(m.Expires),
	}
	if m.Fetched != 0 {
		row.Fetched = time.UnixMilli(m.Fetched)
	}
	return row
}

func fromMedias(list []*database.MediaObject, err error) ([]mediastore.Row, error) {
	rows := make([]mediastore.Row, len(list))
	for i, m := range list {
		rows[i] = fromMedia(m)
	}
	return rows, err
}

// above is the bytes of a name, nil for none.
func above(name *mediastore.Name) []byte {
	if name == nil {
		return nil
	}
	return name[:]
}

func (x mediaIndex) Add(ctx context.Context, row mediastore.Row) error {
	return x.store.Add(ctx, &database.MediaObject{
		RefHash: row.Name, Owner: row.Owner, Size: row.Size, SHA256: row.SHA256,
		Created: row.Created.UnixMilli(), Expires: row.Expires.UnixMilli(),
	})
}

func (x mediaIndex) Get(ctx context.Context, name mediastore.Name) (*mediastore.Row, error) {
	m, err := x.store.Get(ctx, name)
	if m == nil || err != nil {
		return nil, err
	}
	row := fromMedia(m)
	return &row, nil
}

func (x mediaIndex) Used(ctx context.Context, owner string) (int64, error) {
	return x.store.Used(ctx, owner)
}

func (x mediaIndex) After(ctx context.Context, name *mediastore.Name, limit int) ([]mediastore.Row, error) {
	return fromMedias(x.store.After(ctx, above(name), limit))
}

func (x mediaIndex) Expired(ctx context.Context, at time.Time, name *mediastore.Name, limit int) ([]mediastore.Row, error) {
	return fromMedias(x.store.Expired(ctx, at.UnixMilli(), above(name), limit))
}

func (x mediaIndex) OfOwner(ctx context.Context, owner string, name *mediastore.Name, limit int) ([]mediastore.Row, error) {
	return fromMedias(x.store.OfOwner(ctx, owner, above(name), limit))
}

func (x mediaIndex) ExpireOwner(ctx context.Context, owner string) error {
	return x.store.ExpireOwner(ctx, owner)
}

func (x mediaIndex) Delete(ctx context.Context, name mediastore.Name) error {
	return x.store.Delete(ctx, name)
}
