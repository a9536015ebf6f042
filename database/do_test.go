package database_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.mau.fi/util/dbutil"

	"postern/database"
	"postern/database/databasetest"
)

// withTable gives every test below a table of its own.
func withTable(t *testing.T, fn func(t *testing.T, db *database.DB)) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		makeTable(t, db)
		fn(t, db)
	})
}

func makeTable(t testing.TB, db *database.DB) {
	t.Helper()
	if _, err := db.Raw().Exec(t.Context(), "CREATE TABLE item (id BIGINT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
}

func insert(db *database.DB, id int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := db.Raw().Exec(ctx, "INSERT INTO item (id) VALUES ($1)", id)
		return err
	}
}

func items(t testing.TB, db *database.DB) []int {
	t.Helper()
	rows, err := db.Raw().Query(context.Background(), "SELECT id FROM item ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		list = append(list, id)
	}
	return list
}

func wantItems(t testing.TB, db *database.DB, want ...int) {
	t.Helper()
	if got := items(t, db); !slices.Equal(got, want) {
		t.Errorf("the table holds %v, want %v", got, want)
	}
}

var errMine = errors.New("mine")

func TestDoKeepsWhatSucceedsAndTakesBackWhatDoesNot(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		if err := db.Do(t.Context(), insert(db, 1)); err != nil {
			t.Fatal(err)
		}
		err := db.Do(t.Context(), func(ctx context.Context) error {
			if err := insert(db, 2)(ctx); err != nil {
				return err
			}
			return errMine
		})
		if err != errMine {
			t.Errorf("Do returned %v, want the function's own error", err)
		}
		wantItems(t, db, 1)
	})
}

func TestInAGroupEveryFunctionFailsAlone(t *testing.T) {
	failing := func(db *database.DB, id int) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			if err := insert(db, id)(ctx); err != nil {
				return err
			}
			return errMine
		}
	}
	panicking := func(db *database.DB, id int) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			_ = insert(db, id)(ctx)
			panic("secret value")
		}
	}
	orders := [][4]int{{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}, {0, 3, 1, 2}, {1, 2, 3, 0}}
	withTable(t, func(t *testing.T, db *database.DB) {
		// In several orders: a good one, one that returns an error, one that panics, one that breaks a constraint.
		for _, order := range orders {
			t.Run(fmt.Sprint(order), func(t *testing.T) {
				if _, err := db.Raw().Exec(t.Context(), "DELETE FROM item"); err != nil {
					t.Fatal(err)
				}
				if err := db.Do(t.Context(), insert(db, 100)); err != nil {
					t.Fatal(err)
				}
				kinds := []func(ctx context.Context) error{insert(db, 1), failing(db, 2), panicking(db, 3), insert(db, 100)}
				fns := []func(ctx context.Context) error{insert(db, 5)}
				for _, k := range order {
					fns = append(fns, kinds[k], insert(db, 10+k))
				}
				answers := db.DoTogether(t.Context(), fns...)
				for i, k := range order {
					got, after := answers[1+2*i], answers[2+2*i]
					if after != nil {
						t.Errorf("the one after %d got %v", k, after)
					}
					var panicked *database.PanicError
					switch {
					case k == 0 && got != nil,
						k == 1 && got != errMine,
						k == 2 && (!errors.As(got, &panicked) || panicked.Type != "string"),
						k == 3 && !database.IsUniqueViolation(got):
						t.Errorf("function %d got %v", k, got)
					}
					if k == 2 && strings.Contains(got.Error(), "secret") {
						t.Errorf("the panic's value is in the error: %v", got)
					}
				}
				wantItems(t, db, 1, 5, 10, 11, 12, 13, 100)
			})
		}
	})
}

func TestAFunctionThatHidesAFailedStatementHarmsOnlyItself(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		hides := func(ctx context.Context) error {
			if err := insert(db, 7)(ctx); err != nil {
				return err
			}
			_, _ = db.Raw().Exec(ctx, "INSERT INTO item (id) VALUES (7)")
			return nil
		}
		answers := db.DoTogether(t.Context(), insert(db, 1), hides, insert(db, 2), hides)
		if answers[0] != nil || answers[2] != nil {
			t.Errorf("neighbours got %v and %v", answers[0], answers[2])
		}
		// SQLite undoes the one statement; on Postgres the whole function is lost, and says so.
		if db.Raw().Dialect == dbutil.SQLite {
			if answers[1] != nil || !database.IsUniqueViolation(answers[3]) {
				t.Errorf("the functions got %v and %v", answers[1], answers[3])
			}
			wantItems(t, db, 1, 2, 7)
			return
		}
		for _, i := range []int{1, 3} {
			if !errors.Is(answers[i], database.ErrRolledBack) {
				t.Errorf("function %d got %v, want ErrRolledBack", i, answers[i])
			}
		}
		wantItems(t, db, 1, 2)
	})
}

func TestWhenSQLiteEndsTheTransactionNothingAfterwardsIsStoredAlone(t *testing.T) {
	db := databasetest.Open(t, databasetest.SQLiteConfig(t))
	makeTable(t, db)
	if err := db.Do(t.Context(), insert(db, 1)); err != nil {
		t.Fatal(err)
	}
	// OR ROLLBACK ends the transaction as a full disk can; the function does not look.
	ends := func(ctx context.Context) error {
		_, _ = db.Raw().Exec(ctx, "INSERT OR ROLLBACK INTO item (id) VALUES (1)")
		_, _ = db.Raw().Exec(ctx, "INSERT INTO item (id) VALUES (50)")
		_ = db.Raw().QueryRow(ctx, "INSERT INTO item (id) VALUES (51) RETURNING id").Err()
		if rows, err := db.Raw().Query(ctx, "INSERT INTO item (id) VALUES (52) RETURNING id"); err == nil {
			for rows.Next() {
			}
			_ = rows.Close()
		}
		return nil
	}
	answers := db.DoTogether(t.Context(), insert(db, 2), ends, insert(db, 3))
	if !errors.Is(answers[0], database.ErrRolledBack) || !errors.Is(answers[1], database.ErrRolledBack) || answers[2] != nil {
		t.Errorf("answers are %v", answers)
	}
	if err := db.Do(t.Context(), ends); !errors.Is(err, database.ErrRolledBack) {
		t.Errorf("alone it got %v", err)
	}
	wantItems(t, db, 1, 3)
}

func TestAFunctionThatEndsItsGoroutineEndsNobodyElse(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		var panicked *database.PanicError
		err := db.Do(t.Context(), func(ctx context.Context) error {
			_ = insert(db, 1)(ctx)
			runtime.Goexit()
			return nil
		})
		if !errors.As(err, &panicked) {
			t.Errorf("Do returned %v", err)
		}
		if err := db.Do(t.Context(), insert(db, 2)); err != nil {
			t.Errorf("the next one got %v", err)
		}
		wantItems(t, db, 2)
	})
}

func TestDoInsideDoJoinsTheTransactionAndCanFailAlone(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		err := db.Do(t.Context(), func(ctx context.Context) error {
			// A caller below may have put a deadline or a value on the context.
			inner, cancel := context.WithCancel(ctx)
			cancel() // an ended context must not break the shared transaction
			if err := db.Do(inner, insert(db, 1)); err != nil {
				return err
			}
			err := db.Do(ctx, func(ctx context.Context) error {
				return errors.Join(insert(db, 2)(ctx), db.Do(ctx, insert(db, 3)), errMine)
			})
			if !errors.Is(err, errMine) {
				return fmt.Errorf("inner returned %v", err)
			}
			var panicked *database.PanicError
			if err = db.Do(ctx, func(context.Context) error { panic(1) }); !errors.As(err, &panicked) {
				return fmt.Errorf("inner panic returned %v", err)
			}
			hides := func(ctx context.Context) error {
				_ = insert(db, 1)(ctx) // refused, and not looked at
				return nil
			}
			if err = db.Do(ctx, hides); err != nil && !errors.Is(err, database.ErrRolledBack) {
				return fmt.Errorf("hidden failure returned %v", err)
			}
			return insert(db, 4)(ctx)
		})
		if err != nil {
			t.Fatal(err)
		}
		wantItems(t, db, 1, 4)
		err = db.Do(t.Context(), func(ctx context.Context) error {
			return errors.Join(db.Do(ctx, insert(db, 9)), errMine)
		})
		if !errors.Is(err, errMine) {
			t.Errorf("outer returned %v", err)
		}
		wantItems(t, db, 1, 4) // the outer failure takes the inner success back
	})
}

func TestACallerWhoGivesUpEitherRunsWholeOrNotAtAll(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		running, release := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			first <- db.Do(ctx, func(ctx context.Context) error {
				close(running)
				<-release
				if ctx.Err() != nil || ctx.Done() != nil {
					return errors.New("the function sees the caller's cancellation")
				}
				return errors.Join(insert(db, 1)(ctx), insert(db, 2)(ctx))
			})
		}()
		<-running
		var ran atomic.Bool
		second := make(chan error, 1)
		go func() {
			second <- db.Do(ctx, func(context.Context) error { ran.Store(true); return nil })
		}()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("the waiting caller got %v", err)
		}
		close(release)
		if err := <-first; err != nil {
			t.Errorf("the running caller got %v", err)
		}
		if err := db.Do(t.Context(), insert(db, 3)); err != nil {
			t.Error(err)
		}
		if ran.Load() {
			t.Error("a function ran whose caller had been told that it did not")
		}
		if err := db.Do(ctx, insert(db, 4)); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context got %v", err)
		}
		wantItems(t, db, 1, 2, 3)
	})
}

func TestAContextThatIsKeptIsRefused(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		var kept context.Context
		var endErr error
		err := db.Do(t.Context(), func(ctx context.Context) error {
			kept = ctx
			// Ending the transaction is not the function's to do.
			endErr = db.Raw().Execable(ctx).(interface{ Commit() error }).Commit()
			return nil
		})
		if err != nil || endErr == nil {
			t.Errorf("Do: %v, Commit inside: %v", err, endErr)
		}
		if err := insert(db, 1)(kept); err == nil {
			t.Error("an insert with a kept context succeeded")
		}
		if err := db.Raw().QueryRow(kept, "SELECT 1").Err(); err == nil {
			t.Error("a query with a kept context succeeded")
		}
		if err := db.Do(kept, insert(db, 2)); err == nil {
			t.Error("a Do with a kept context succeeded")
		}
		wantItems(t, db)
	})
}

func TestValuesOfTheCallersContextArrive(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "here")
		err := db.Do(ctx, func(ctx context.Context) error {
			if ctx.Value(key{}) != "here" {
				return errors.New("value lost")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestManyCallersAtOnceGetTheirOwnAnswers(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		const callers, each = 32, 25
		var wg sync.WaitGroup
		var want []int
		var mu sync.Mutex
		for c := range callers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := range each {
					id := c*each + i
					err := db.Do(t.Context(), func(ctx context.Context) error {
						if err := insert(db, id)(ctx); err != nil {
							return err
						}
						switch id % 5 {
						case 3:
							return errMine
						case 4:
							panic(id)
						}
						return nil
					})
					var panicked *database.PanicError
					switch id % 5 {
					case 3:
						if err != errMine {
							t.Errorf("%d got %v", id, err)
						}
					case 4:
						if !errors.As(err, &panicked) {
							t.Errorf("%d got %v", id, err)
						}
					default:
						if err != nil {
							t.Errorf("%d got %v", id, err)
						}
						mu.Lock()
						want = append(want, id)
						mu.Unlock()
					}
				}
			}()
		}
		wg.Wait()
		slices.Sort(want)
		wantItems(t, db, want...)
	})
}

func TestRowsLeftOpenByAFunctionDoNotBlockTheNext(t *testing.T) {
	withTable(t, func(t *testing.T, db *database.DB) {
		if err := db.Do(t.Context(), func(ctx context.Context) error {
			return errors.Join(insert(db, 1)(ctx), insert(db, 2)(ctx))
		}); err != nil {
			t.Fatal(err)
		}
		leaves := func(ctx context.Context) error {
			rows, err := db.Raw().Query(ctx, "SELECT id FROM item")
			if err == nil {
				rows.Next()
			}
			return err
		}
		for i, err := range db.DoTogether(t.Context(), leaves, insert(db, 3), leaves, insert(db, 4)) {
			if err != nil {
				t.Errorf("function %d got %v", i, err)
			}
		}
		wantItems(t, db, 1, 2, 3, 4)
	})
}

func TestAfterCloseEverybodyIsTold(t *testing.T) {
	databasetest.EachConfig(t, func(t *testing.T, cfg database.Config) {
		db := databasetest.Open(t, cfg)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.Do(t.Context(), func(context.Context) error { return nil }); !errors.Is(err, database.ErrClosed) {
			t.Errorf("Do returned %v", err)
		}
		if err := db.Close(); err != nil {
			t.Errorf("the second Close returned %v", err)
		}
	})
}
