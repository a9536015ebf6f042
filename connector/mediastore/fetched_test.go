package mediastore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"postern/connector/mediastore"
)

// TestWhatWasFetchedWholeIsToldAndNothingElse: at once, or in parts one after another; a hole, a look at the head, or an end that was cut do not count.
func TestWhatWasFetchedWholeIsToldAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		asked []string // method and range
		want  int
	}{
		"whole":              {[]string{"GET"}, 1},
		"the head":           {[]string{"HEAD"}, 0},
		"parts":              {[]string{"GET bytes=0-399", "GET bytes=400-999"}, 1},
		"parts that overlap": {[]string{"GET bytes=0-599", "GET bytes=300-"}, 1},
		"the first part":     {[]string{"HEAD", "GET bytes=0-998"}, 0},
		"a hole":             {[]string{"GET bytes=0-399", "GET bytes=500-999"}, 0},
		"the end first":      {[]string{"GET bytes=400-999", "GET bytes=0-399"}, 0},
		"many parts":         {[]string{"GET bytes=0-9,990-999"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var told []mediastore.Name
			index := newIndex()
			store, err := mediastore.New(mediastore.Config{
				Backend: filesBackend(t, t.TempDir()), Index: index, Keep: time.Hour, Log: zerolog.Nop(),
				Fetched: func(_ context.Context, row *mediastore.Row) { told = append(told, row.Name) },
			})
			if err != nil {
				t.Fatal(err)
			}
			w := &world{Store: store, index: index}
			object := w.put(t, "a", random(1, 1000))
			for _, ask := range c.asked {
				method, part, ranged := strings.Cut(ask, " ")
				r := httptest.NewRequest(method, "/"+object.Ref, nil)
				if ranged {
					r.Header.Set("Range", part)
				}
				answer := httptest.NewRecorder()
				if store.Handler().ServeHTTP(answer, r); answer.Code != http.StatusOK && answer.Code != http.StatusPartialContent {
					t.Fatalf("%s: %d", ask, answer.Code)
				}
			}
			if len(told) != c.want || c.want > 0 && told[0] != mediastore.NameOf(object.Ref) {
				t.Errorf("told of %v", told)
			}
		})
	}
}

// TestPurgingDeletesWhatIsUnwantedAndNothingElse: of one owner or of all, the file and its row.
func TestPurgingDeletesWhatIsUnwantedAndNothingElse(t *testing.T) {
	w := newWorld(t, filesBackend(t, t.TempDir()), 0)
	var objects []*mediastore.Object
	for i, owner := range []string{"a", "b", "a", "b"} {
		objects = append(objects, w.put(t, owner, random(uint64(i), 1000+i)))
	}
	purge := func(owner string, of ...int) (int, int64) {
		files, bytes, err := w.Purge(t.Context(), owner, func(row mediastore.Row) bool {
			return slices.ContainsFunc(of, func(i int) bool { return mediastore.NameOf(objects[i].Ref) == row.Name })
		})
		if err != nil {
			t.Error(err)
		}
		return files, bytes
	}
	if files, bytes := purge("a", 0, 1); files != 1 || bytes != 1000 {
		t.Errorf("of one owner: %d files, %d bytes", files, bytes)
	}
	if files, bytes := purge("", 0, 1, 3); files != 2 || bytes != 1001+1003 {
		t.Errorf("of all: %d files, %d bytes", files, bytes)
	}
	if left := names(t, w.backend); len(left) != 1 || left[0] != mediastore.NameOf(objects[2].Ref) || w.index.count() != 1 {
		t.Errorf("left: %v and %d rows", left, w.index.count())
	}
	w.index.failing.Store(true)
	if _, _, err := w.Purge(t.Context(), "", func(mediastore.Row) bool { return true }); err == nil {
		t.Error("an index that does not answer was not noticed")
	}
}
