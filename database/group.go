package database

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.mau.fi/util/dbutil"
)

// group is one transaction and the jobs that share it. The first job needs no savepoint: if it
// fails, the transaction has nothing else in it. Each later one gets the savepoint "postern",
// which is released when the next one begins (in one round trip) or before the commit.
type group struct {
	w      *writer
	tx     *dbutil.LoggingTxn
	end    context.CancelFunc
	opened time.Time

	ran       []*job                 // their functions succeeded, they wait for the commit
	savepoint bool                   // the savepoint stands
	under     bool                   // the last of ran is under it, the others are before it
	current   *job                   // its function is running
	counts    bool                   // the transaction is to be counted, see epoch.go
	number    int64                  // the number that it was given
	heads     map[string]*headChange // what it makes of the heads, see rows.go
	total     sum                    // over all of them
}

// serve runs first, and whoever else is waiting, and commits.
func (g *group) serve(first *job) {
	defer g.ended()
	for j := first; j != nil; j = g.more() {
		g.run(j)
	}
	g.finish()
}

// ended answers everybody when a function has ended the group's goroutine.
func (g *group) ended() {
	j := g.current
	if j == nil {
		return
	}
	g.current = nil
	g.lose(errors.New("a function ended its goroutine"))
	j.answer(&PanicError{Type: "runtime.Goexit"})
}

// more takes the next waiting job, unless the transaction is full or old.
func (g *group) more() *job {
	hold := maxHold
	if g.w.turns != nil && g.w.turns.crowded() {
		hold = crowdedHold
	}
	if len(g.ran) >= maxGroup || (len(g.ran) > 0 && time.Since(g.opened) > hold) {
		return nil
	}
	return g.w.next()
}

func (g *group) run(j *job) {
	if err := g.w.fail.err(); err != nil {
		if j.start() {
			j.answer(err)
		}
		return
	}
	if len(g.ran) > 0 && j.waiting() {
		g.save() // may lose the transaction; then this job opens the next
	}
	if g.tx == nil {
		if err := g.begin(j.waiting); err != nil {
			if j.start() {
				j.answer(err)
			}
			return
		}
	}
	if !j.start() {
		return // gave up; an empty transaction is rolled back by finish
	}
	err := g.call(j)
	if err == nil {
		g.ran, g.under = append(g.ran, j), g.savepoint
		return
	}
	g.w.health.note(err)
	if lostConnection(err) {
		err = rolledBack(err)
	}
	if !g.undo() {
		g.lose(err)
	}
	j.answer(err)
}

func (g *group) begin(wanted func() bool) error {
	tx, end, err := g.w.begin(wanted)
	if err != nil {
		return err
	}
	g.tx, g.end, g.opened, g.savepoint, g.under, g.counts = tx, end, time.Now(), false, false, false
	if r := g.w.rows.Load(); r != nil && r.doubtful {
		if err = g.w.reread(tx, r); err != nil {
			g.lose(err)
			return err
		}
	}
	return nil
}

// save makes what has succeeded so far safe from the next job's failure. If the server
// refuses, the last job had broken the transaction without saying so.
func (g *group) save() {
	query := "SAVEPOINT postern"
	if g.savepoint {
		query = "RELEASE SAVEPOINT postern; SAVEPOINT postern"
	}
	err := g.exec(query)
	if err == nil {
		g.savepoint, g.under = true, false
		return
	}
	g.blameLast(err) // if that leaves the transaction good, the savepoint stands for the next job
}

// blameLast answers the last job as rolled back, and keeps the others if it ran under a savepoint.
func (g *group) blameLast(err error) {
	if !g.under || !g.undo() {
		g.lose(err)
		return
	}
	last := g.ran[len(g.ran)-1]
	g.ran = g.ran[:len(g.ran)-1]
	last.answer(rolledBack(err))
}

// undo takes back the job whose function has just failed, and says whether the transaction is
// still good. With nothing else in the transaction there is nothing to keep.
func (g *group) undo() bool {
	if !g.savepoint {
		g.abandon()
		return len(g.ran) == 0
	}
	g.under = false
	return g.exec("ROLLBACK TO SAVEPOINT postern") == nil
}

func (g *group) exec(query string) error {
	if g.w.lite != nil && g.w.lite.AutoCommit() {
		return errors.New("SQLite has ended the transaction")
	}
	_, err := g.tx.ExecContext(context.Background(), query)
	return err
}

// call runs the job's function with recovery, and finds out if SQLite ended the transaction meanwhile.
func (g *group) call(j *job) error {
	guard := &guard{w: g.w, tx: g.tx, group: g}
	defer guard.close()
	g.current = j
	start := time.Now()
	err := recovered(guard.context(j.ctx), j.fn)
	g.current = nil
	if took := time.Since(start); took > slowFunction {
		g.w.log.Warn().Dur("took", took).Msg("A function held up the database's writer")
	}
	if err == nil && g.w.lite != nil && g.w.lite.AutoCommit() {
		err = rolledBack(errors.New("SQLite has ended the transaction"))
	}
	j.changes = guard.changes
	return err
}

func recovered(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Type: fmt.Sprintf("%T", v), Stack: debug.Stack()}
		}
	}()
	return fn(ctx)
}

// finish commits and answers. If the fence query or the release loses the transaction, everybody
// has been answered all the same.
func (g *group) finish() {
	if g.savepoint && g.tx != nil {
		if err := g.exec("RELEASE SAVEPOINT postern"); err != nil {
			g.blameLast(err)
		}
	}
	if g.tx == nil {
		return
	}
	if len(g.ran) == 0 {
		g.abandon()
		return
	}
	if err := g.count(); err != nil {
		g.lose(err)
		return
	}
	if lease := g.w.fence.Load(); lease != nil {
		if err := lease.check(g.tx); err != nil {
			if errors.Is(err, ErrLeaseLost) {
				g.w.fail.set(err)
			}
			g.lose(err)
			return
		}
	}
	if g.w.lite != nil && g.w.lite.AutoCommit() {
		g.lose(errors.New("SQLite has ended the transaction"))
		return
	}
	if err := g.w.fail.err(); err != nil { // of another connection to the same disk
		g.lose(err)
		return
	}
	err := g.commit()
	for _, j := range g.ran {
		j.answer(err)
	}
	g.ran = nil
	if err == nil {
		g.w.committed()
	}
}

// count writes the transaction's number into it.
func (g *group) count() error {
	if !g.counts {
		return nil
	}
	ctx, e, r := context.Background(), g.w.epoch.Load(), g.w.rows.Load()
	g.number = e.next()
	g.heads = r.heads(g.ran)
	for account, h := range g.heads {
		if h.gone {
			continue
		}
		res, err := g.tx.ExecContext(ctx, putHead, account, h.version, r.sealHead(account, h))
		if err != nil {
			return err
		}
		stored, err := res.RowsAffected()
		if err != nil {
			return err
		}
		h.gone = stored == 0 // somebody has emptied an account that is deleted
	}
	g.total = r.totalWith(g.heads)
	res, err := g.tx.ExecContext(ctx, "UPDATE postern_epoch SET counter=$1, heads=$2 WHERE id=1 AND counter>=$3",
		g.number, r.sealTotal(g.number, g.total), e.certain())
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	r.doubtful = true // the next transaction looks what there is
	return errWentBack
}

func (g *group) commit() error {
	began := time.Now()
	err := g.tx.Commit()
	g.w.meter.Committed(time.Since(began), len(g.ran), err)
	g.end()
	g.tx = nil
	outcome := commitOutcome(err)
	if g.counts && (err == nil || outcome != outcomeRolledBack) {
		g.w.epoch.Load().committed(g.number, err == nil)
		if r := g.w.rows.Load(); err == nil {
			r.committed(g.ran, g.heads, g.total)
		} else {
			r.doubt(g.heads)
		}
	}
	if err == nil {
		return nil
	}
	g.w.log.Debug().Err(err).Stringer("outcome", outcome).Int("functions", len(g.ran)).Msg("Commit failed")
	g.w.health.note(err)
	g.w.drop()
	switch outcome {
	case outcomeRolledBack:
		return rolledBack(err)
	case outcomeFatal:
		g.w.fail.set(err)
	}
	return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
}

// lose gives the transaction up and tells everybody in it.
func (g *group) lose(cause error) {
	g.abandon()
	g.w.drop()
	if len(g.ran) > 0 {
		g.w.log.Debug().Int("functions", len(g.ran)).Msg("Shared transaction lost before its commit")
	}
	answer := rolledBack(cause)
	if err := g.w.fail.err(); err != nil {
		answer = err
	}
	for _, j := range g.ran {
		j.answer(answer)
	}
	g.ran = nil
}

func (g *group) abandon() {
	if g.tx != nil {
		_ = g.tx.Rollback() // on failure the connection is dropped or begins with an error
		g.end()
		g.tx = nil
	}
}

func rolledBack(cause error) error { return fmt.Errorf("%w: %w", ErrRolledBack, cause) }
