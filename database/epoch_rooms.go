package database

import (
	"context"
	"fmt"
)

// renewRoomKeys is what an old copy needs of the framework's encryption in rooms, whose counters are in the copy too: it begins new room keys, and
// new sessions with the devices that it sends them to. The homeserver has one-time keys of the bot's by now that the copy knows nothing of, and would
// refuse other ones under their ids: the framework has a way to take those back at its next start, for which it looks in a table.
func (db *DB) renewRoomKeys(ctx context.Context) error {
	for _, table := range []string{"crypto_megolm_outbound_session", "crypto_olm_session"} {
		if exists, err := tableHere(ctx, db.raw, table); err != nil {
			return err
		} else if !exists {
			continue
		}
		if _, err := db.raw.Exec(ctx, "DELETE FROM "+table); err != nil {
			return fmt.Errorf("database: epoch: %s: %w", table, err)
		}
	}
	for _, table := range []string{"crypto_account", "kv_store"} {
		if exists, err := tableHere(ctx, db.raw, table); err != nil || !exists {
			return err
		}
	}
	_, err := db.raw.Exec(ctx, `INSERT INTO kv_store (bridge_id, key, value) VALUES ('', 'otk_repair_needed', 'true')
		ON CONFLICT (bridge_id, key) DO UPDATE SET value=excluded.value`)
	if err != nil {
		return fmt.Errorf("database: epoch: one-time keys: %w", err)
	}
	return nil
}
