package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"
	"go.mau.fi/util/dbutil"
)

const (
	// leaseGrace is how long AcquireLease waits for a predecessor: a process that was killed
	// a moment ago may still have a statement running on the server.
	leaseGrace = time.Second
	// leaseHeartbeat is how often a held lock is looked after.
	leaseHeartbeat = 5 * time.Second
)

// Lease says that this process alone uses the database. It rests on two things. A lock, which the
// operating system (a lock on a file beside the SQLite database) or the server (a Postgres advisory
// lock on a connection of its own) frees the moment the process is gone, however it went. And a number in the
// database, the epoch, which grows each time the lease is taken and which is compared before each
// commit of Do: if the lock was lost without our noticing and someone else took it, our next commit
// fails with ErrFailed and ErrLeaseLost and changes nothing.
type Lease struct {
	db    *DB
	epoch int64
	mu    sync.Mutex // one beat at a time
	lock  leaseLock  // nil while lost

	stop chan struct{}
	done chan struct{}
	once sync.Once
}

// leasePlace says where the lock of a database lies: a file, or a server.
type leasePlace struct {
	file      string
	connector *pq.Connector
}

// leaseLock is what the operating system or the server holds for us.
type leaseLock interface {
	// alive says whether the lock is still held; an error means that it is not.
	alive(ctx context.Context) error
	release() error
}

// errLockHeld is how takeFileLock and takeServerLock say that someone else holds the lock.
var errLockHeld = errors.New("database: lease: lock is held")

func releaseLock(lock leaseLock) error {
	if lock == nil {
		return nil
	}
	return lock.release()
}

// AcquireLease takes the lease, or returns *LeaseHeldError if another process (or another DB in this one)
// has it. holder is a text for humans that the refused one is shown. A killed process's lease is free
// at once. Config.Holder does the same as part of Open, before the tables are touched.
func (db *DB) AcquireLease(ctx context.Context, holder string) (*Lease, error) {
	lock, err := db.takeLock(ctx)
	if err != nil {
		return nil, err
	}
	lease, err := db.newLease(ctx, lock, holder)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return lease, nil
}

func (db *DB) takeLock(ctx context.Context) (leaseLock, error) {
	deadline := time.Now().Add(leaseGrace)
	for {
		lock, err := db.tryLock(ctx)
		if err == nil {
			return lock, nil
		} else if !errors.Is(err, errLockHeld) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, db.whoHolds(ctx)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (db *DB) tryLock(ctx context.Context) (leaseLock, error) {
	if db.raw.Dialect == dbutil.Postgres {
		return takeServerLock(ctx, db.place.connector)
	}
	return takeFileLock(db.place.file)
}

// whoHolds reads what the other process called itself. If it cannot, because the tables are not
// there yet, say, the refusal stands without a name.
func (db *DB) whoHolds(ctx context.Context) error {
	held := &LeaseHeldError{}
	err := db.raw.QueryRow(ctx, "SELECT holder, since FROM postern_lease WHERE id=1").Scan(&held.Holder, &held.Since)
	if err != nil {
		return &LeaseHeldError{}
	}
	return held
}

// newLease counts the epoch up and starts looking after the lock.
func (db *DB) newLease(ctx context.Context, lock leaseLock, holder string) (*Lease, error) {
	l := &Lease{db: db, lock: lock, stop: make(chan struct{}), done: make(chan struct{})}
	err := db.Do(ctx, func(ctx context.Context) error {
		_, err := db.raw.Exec(ctx, `INSERT INTO postern_lease (id, holder, epoch, since) VALUES (1, $1, 1, $2)
			ON CONFLICT (id) DO UPDATE SET holder=excluded.holder, since=excluded.since, epoch=postern_lease.epoch+1`,
			holder, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		return db.raw.QueryRow(ctx, "SELECT epoch FROM postern_lease WHERE id=1").Scan(&l.epoch)
	})
	if err != nil {
		return nil, fmt.Errorf("database: lease: %w", err)
	}
	db.writer.fence.Store(l)
	go l.watch()
	return l, nil
}

// check is run in a transaction before its commit. On Postgres it holds off whoever wants to take the
// lease until we have committed; on SQLite the write lock does.
func (l *Lease) check(tx *dbutil.LoggingTxn) error {
	query := "SELECT epoch FROM postern_lease WHERE id=1"
	if l.db.raw.Dialect == dbutil.Postgres {
		query += " FOR SHARE"
	}
	var epoch int64
	err := tx.QueryRowContext(context.Background(), query).Scan(&epoch)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && epoch != l.epoch) {
		return ErrLeaseLost
	}
	return err
}

// watch looks after the lock and takes it again when it was lost with nobody in between, as when
// the server was restarted.
func (l *Lease) watch() {
	defer close(l.done)
	ticker := time.NewTicker(leaseHeartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
			l.beat()
		}
	}
}

func (l *Lease) beat() {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), leaseHeartbeat)
	defer cancel()
	if l.lock != nil {
		err := l.lock.alive(ctx)
		if err == nil {
			return
		}
		l.db.log.Warn().Err(err).Msg("The lease's lock is gone, taking it again")
		_ = l.lock.release() // whatever is left of it
		l.lock = nil
	}
	lock, err := l.db.tryLock(ctx)
	if errors.Is(err, errLockHeld) {
		l.db.failure.set(ErrLeaseLost)
		return
	} else if err != nil {
		return // the server is away: nobody else can commit there either; next time
	}
	l.lock = lock
	// Someone may have come and gone in between: then the epoch is not ours any more.
	var epoch int64
	err = l.db.raw.QueryRow(ctx, "SELECT epoch FROM postern_lease WHERE id=1").Scan(&epoch)
	if err == nil && epoch != l.epoch {
		l.db.failure.set(ErrLeaseLost)
	}
}

// Release gives the lease back. It may be called more than once.
func (l *Lease) Release() error {
	var err error
	l.once.Do(func() {
		close(l.stop)
		<-l.done
		l.db.writer.fence.CompareAndSwap(l, nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		err = releaseLock(l.lock)
	})
	return err
}
