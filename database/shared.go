package database

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/lib/pq"
)

// Shared is what several instances of one bridge share: a schema of its own in the Postgres database in which each of them has its schema. It
// says which user belongs to which instance, whose each identifier is, with which keys tokens are signed, and where the instances are. No
// lease is on it: each change is one statement, or one transaction that locks the rows it is about.
type Shared struct {
	pool   *sql.DB
	sealer *sealer
	schema string // quoted
}

// SharedConfig says where that is.
type SharedConfig struct {
	// URI is that of the instance's own Postgres database.
	URI string
	// Schema is the name of the shared schema, made if it is not there.
	Schema string
	// Key seals what is secret in it. All instances have the same.
	Key [KeySize]byte
	// Existing makes nothing: OpenShared fails with an error that wraps fs.ErrNotExist where nothing is there.
	Existing bool
}

// Errors of shared data.
var (
	// ErrSharedKey: the instances have different keys for what they share.
	ErrSharedKey = errors.New("database: shared schema: this key is not the one that the other instances have: give all of them the same file")
	// ErrSharedNewer: another instance is of a newer version.
	ErrSharedNewer = errors.New("database: shared schema: it is of a newer version of the program")
)

// sharedVersion counts the forms of the shared tables.
const sharedVersion = 1

// sharedTables are made by whichever instance comes first.
var sharedTables = []string{
	"CREATE TABLE IF NOT EXISTS %s.postern_shared_version (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL)",
	"CREATE TABLE IF NOT EXISTS %s.postern_shared_key_check (id INTEGER PRIMARY KEY CHECK (id = 1), sealed bytea NOT NULL)",
	"CREATE TABLE IF NOT EXISTS %s.postern_shared_issuer_keys (id INTEGER PRIMARY KEY CHECK (id = 1), version BIGINT NOT NULL, sealed bytea NOT NULL)",
	// Where somebody belongs who has an account there, or was assigned to it by the operator, or both.
	`CREATE TABLE IF NOT EXISTS %s.postern_home (mxid TEXT NOT NULL PRIMARY KEY, instance TEXT NOT NULL, account BOOLEAN NOT NULL,
		assigned BOOLEAN NOT NULL, since BIGINT NOT NULL)`,
	// Identifiers belong to one Matrix user, whatever instance that user is of.
	`CREATE TABLE IF NOT EXISTS %s.postern_identifier (gatekeeper TEXT NOT NULL, identifier_index bytea NOT NULL, mxid TEXT NOT NULL,
		PRIMARY KEY (gatekeeper, identifier_index))`,
	`CREATE TABLE IF NOT EXISTS %s.postern_instances (name TEXT NOT NULL PRIMARY KEY, tables TEXT NOT NULL UNIQUE, appservice TEXT NOT NULL UNIQUE,
		bot TEXT NOT NULL UNIQUE, address TEXT NOT NULL, media TEXT NOT NULL, since BIGINT NOT NULL)`,
	// Accounts that were moved, with the instances that still have their files; gone: the account is no more.
	"CREATE TABLE IF NOT EXISTS %s.postern_moved (account TEXT NOT NULL, origin TEXT NOT NULL, gone BOOLEAN NOT NULL, PRIMARY KEY (account, origin))",
	// An earlier version of the program, which does not tell them, goes on with the table as it is.
	"ALTER TABLE %s.postern_instances ADD COLUMN IF NOT EXISTS ghosts TEXT NOT NULL DEFAULT ''",
}

// OpenShared opens what the instances share, and makes it if it is not there. Errors: ErrSharedKey, ErrSharedNewer, or what the driver says.
func OpenShared(ctx context.Context, cfg SharedConfig) (*Shared, error) {
	pgCfg, err := pq.NewConfig(cfg.URI)
	if err != nil {
		return nil, errors.New("database: Postgres URI does not parse") // the driver's error may quote the password
	}
	connector, err := pq.NewConnectorConfig(pgCfg)
	if err != nil {
		return nil, errors.New("database: Postgres URI is not usable")
	}
	s := &Shared{pool: sql.OpenDB(connector), schema: pq.QuoteIdentifier(cfg.Schema)}
	s.pool.SetMaxOpenConns(3)
	s.pool.SetMaxIdleConns(2)
	if s.sealer, err = newSealer(cfg.Key); err == nil && cfg.Existing {
		err = s.look(ctx, cfg.Schema)
	} else if err == nil {
		err = s.make(ctx, cfg.Schema)
	}
	if err == nil {
		err = s.checkKey(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.pool.Close())
	}
	return s, nil
}

// Close closes the connections.
func (s *Shared) Close() error { return s.pool.Close() }

// q puts the schema into a query, in place of %s.
func (s *Shared) q(query string) string { return strings.ReplaceAll(query, "%s", s.schema) }

// do runs fn in a transaction that is on disk when do returns.
func (s *Shared) do(ctx context.Context, fn func(tx *sql.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "SET LOCAL synchronous_commit = on")
	if err == nil {
		err = fn(tx)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *Shared) make(ctx context.Context, name string) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		// Two that come at once would be in each other's way.
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", serverLockKey("shared "+name)); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname=$1)", name).Scan(&there); err != nil {
			return err
		}
		statements := sharedTables
		if !there {
			statements = append([]string{"CREATE SCHEMA IF NOT EXISTS %s"}, statements...)
		}
		for _, statement := range statements {
			if _, err := tx.ExecContext(ctx, s.q(statement)); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, s.q("INSERT INTO %s.postern_shared_version VALUES (1, $1) ON CONFLICT (id) DO NOTHING"), sharedVersion); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRowContext(ctx, s.q("SELECT version FROM %s.postern_shared_version")).Scan(&version); err != nil {
			return err
		} else if version > sharedVersion {
			return ErrSharedNewer
		}
		_, err := tx.ExecContext(ctx, s.q("INSERT INTO %s.postern_shared_key_check VALUES (1, $1) ON CONFLICT (id) DO NOTHING"),
			s.sealer.seal(keyCheckColumn, "shared", 1, []byte(keyCheckText)))
		return err
	})
	if err != nil {
		return fmt.Errorf("database: shared schema: %w", err)
	}
	return nil
}

// look finds out, without making anything, whether the tables are there, and of a version that is known.
func (s *Shared) look(ctx context.Context, name string) error {
	var there bool
	err := s.pool.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname=$1 AND tablename='postern_shared_key_check')", name).Scan(&there)
	if err == nil && !there {
		err = fs.ErrNotExist
	}
	var version int
	if err == nil {
		err = s.pool.QueryRowContext(ctx, s.q("SELECT version FROM %s.postern_shared_version")).Scan(&version)
	}
	if err != nil {
		return fmt.Errorf("database: shared schema: %w", err)
	} else if version > sharedVersion {
		return ErrSharedNewer
	}
	return nil
}

func (s *Shared) checkKey(ctx context.Context) error {
	var sealed []byte
	if err := s.pool.QueryRowContext(ctx, s.q("SELECT sealed FROM %s.postern_shared_key_check")).Scan(&sealed); err != nil {
		return fmt.Errorf("database: shared schema: check key: %w", err)
	}
	text, err := s.sealer.unseal(keyCheckColumn, "shared", 1, sealed)
	if err != nil || subtle.ConstantTimeCompare(text, []byte(keyCheckText)) != 1 {
		return ErrSharedKey
	}
	return nil
}

// Instance is one of the instances of a bridge, as it has told the others.
type Instance struct {
	// Name is the configured one.
	Name string
	// Tables is the name of its schema.
	Tables string
	// Appservice is the id of its registration, Bot the Matrix ID of its bot.
	Appservice, Bot string
	// Address is where the others reach its public listener: a complete http address without a slash at the end.
	Address string
	// Media is where in an object store it keeps attachments, "" for a folder of its own.
	Media string
	// Ghosts are the Matrix IDs of its ghosts, with a * for what differs; "" if it has not told them.
	Ghosts string
}

// ClashError says that two instances are set up to have the same of something.
type ClashError struct {
	// Other is the other instance's name, What is what both have.
	Other, What string
}

func (e *ClashError) Error() string {
	return fmt.Sprintf("the instance %q has the same %s: each instance needs its own", e.Other, e.What)
}

// Join tells the others of an instance, and refuses one that would be in the way of another (*ClashError).
func (s *Shared) Join(ctx context.Context, me Instance) error {
	err := s.do(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, s.q("LOCK TABLE %s.postern_instances IN SHARE ROW EXCLUSIVE MODE")); err != nil {
			return err
		}
		all, err := s.instances(ctx, tx)
		if err != nil {
			return err
		}
		for _, other := range all {
			if err := clash(me, other); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, s.q(`INSERT INTO %s.postern_instances (name, tables, appservice, bot, address, media, since, ghosts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (name) DO UPDATE SET appservice=excluded.appservice, bot=excluded.bot, address=excluded.address, media=excluded.media, ghosts=excluded.ghosts`),
			me.Name, me.Tables, me.Appservice, me.Bot, me.Address, me.Media, time.Now().UnixMilli(), me.Ghosts)
		return err
	})
	var clash *ClashError
	if err == nil || errors.As(err, &clash) {
		return err
	}
	return fmt.Errorf("database: shared schema: join: %w", err)
}

func clash(me, other Instance) error {
	if me.Name == other.Name {
		if me.Tables != other.Tables {
			return &ClashError{other.Name, "name (network.instances.name), with its data in another schema"}
		}
		return nil
	}
	for what, same := range map[string]bool{
		"schema (search_path in database.uri)":            me.Tables == other.Tables,
		"appservice.id":                                   me.Appservice == other.Appservice,
		"bot (appservice.bot.username)":                   me.Bot == other.Bot,
		"address (network.instances.address)":             me.Address == other.Address,
		"place for attachments (network.media.s3.prefix)": me.Media != "" && me.Media == other.Media,
	} {
		if same {
			return &ClashError{other.Name, what}
		}
	}
	return nil
}

// Instances are all that have joined, by name.
func (s *Shared) Instances(ctx context.Context) ([]Instance, error) {
	list, err := s.instances(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("database: shared schema: list instances: %w", err)
	}
	return list, nil
}

type sharedQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func (s *Shared) instances(ctx context.Context, from sharedQuerier) (list []Instance, err error) {
	rows, err := from.QueryContext(ctx, s.q("SELECT name, tables, appservice, bot, address, media, COALESCE(to_jsonb(i)->>'ghosts', '') FROM %s.postern_instances i ORDER BY name"))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var i Instance
		if err := rows.Scan(&i.Name, &i.Tables, &i.Appservice, &i.Bot, &i.Address, &i.Media, &i.Ghosts); err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	return list, rows.Err()
}
