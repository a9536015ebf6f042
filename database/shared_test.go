package database_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"

	"postern/database"
	"postern/database/databasetest"
)

func openShared(t *testing.T, uri string, key byte) (*database.Shared, error) {
	t.Helper()
	s, err := database.OpenShared(t.Context(), database.SharedConfig{URI: uri, Schema: "shared", Key: [database.KeySize]byte{key}})
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return s, err
}

func TestAUserBelongsToExactlyOneInstanceWhoeverClaimsAtOnce(t *testing.T) {
	uri := databasetest.PostgresConfig(t).URI
	all := make([]*database.Shared, 4)
	var opening sync.WaitGroup
	for i := range all {
		opening.Go(func() {
			var err error
			if all[i], err = openShared(t, uri, 1); err != nil {
				t.Error(err)
			}
		})
	}
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for n := range 20 {
		mxid := "@user" + strconv.Itoa(n) + ":a.example"
		homes, owners := make([]string, len(all)), make([]bool, len(all))
		var claiming sync.WaitGroup
		for i, s := range all {
			claiming.Go(func() {
				var err, identErr error
				homes[i], err = s.Claim(t.Context(), mxid, "i"+strconv.Itoa(i))
				owners[i], identErr = s.ClaimIdentifier(t.Context(), "whatsapp", "name"+strconv.Itoa(n), mxid+strconv.Itoa(i))
				if err = errors.Join(err, identErr); err != nil {
					t.Error(err)
				}
			})
		}
		claiming.Wait()
		owned := 0
		for i := range all {
			if homes[i] != homes[0] || homes[i] == "" {
				t.Fatalf("homes %q", homes)
			}
			if owners[i] {
				owned++
			}
		}
		if owned != 1 {
			t.Fatalf("%d users have one identifier", owned)
		}
	}
}

func TestWhatAnInstanceGivesUpCanBeClaimedByAnother(t *testing.T) {
	s, err := openShared(t, databasetest.PostgresConfig(t).URI, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	claim := func(mxid, instance, want string) {
		t.Helper()
		if home, err := s.Claim(ctx, mxid, instance); err != nil || home != want {
			t.Errorf("%s claims %s: home is %q, %v", instance, mxid, home, err)
		}
	}
	claim("@a:x", "one", "one")
	claim("@b:x", "one", "one")
	claim("@c:x", "two", "two")
	for _, who := range []string{"@a:x", "@b:x", "@c:x"} {
		if ours, err := s.ClaimIdentifier(ctx, "whatsapp", "name of "+who, who); err != nil || !ours {
			t.Fatal(ours, err)
		}
	}
	if err := s.ReleaseUser(ctx, "one", "@c:x"); err != nil { // not its own
		t.Fatal(err)
	}
	claim("@c:x", "one", "two")
	if err := s.Release(ctx, "one", map[string]bool{"@b:x": true}); err != nil {
		t.Fatal(err)
	}
	claim("@a:x", "two", "two")
	claim("@b:x", "two", "one")
	for who, want := range map[string]bool{"@a:x": true, "@b:x": false, "@c:x": false} {
		if ours, err := s.ClaimIdentifier(ctx, "whatsapp", "name of "+who, "@d:x"); err != nil || ours != want {
			t.Errorf("the name of %s can be had by another: %v, %v", who, ours, err)
		}
	}
	homes, err := s.Homes(ctx)
	if err != nil || len(homes) != 3 || homes["@a:x"] != (database.Home{Instance: "two", Account: true}) {
		t.Errorf("homes are %v, %v", homes, err)
	}
}

func TestInstancesThatWouldBeInEachOthersWayAreRefused(t *testing.T) {
	s, err := openShared(t, databasetest.PostgresConfig(t).URI, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	one := database.Instance{Name: "one", Tables: "s1", Appservice: "as1", Bot: "@bot1:x", Address: "http://one", Media: "host\nbucket\none/"}
	for range 2 { // also the second time
		if err := s.Join(ctx, one); err != nil {
			t.Fatal(err)
		}
	}
	two := database.Instance{Name: "two", Tables: "s2", Appservice: "as2", Bot: "@bot2:x", Address: "http://two", Media: "host\nbucket\ntwo/"}
	for what, change := range map[string]func(i *database.Instance){
		"name":    func(i *database.Instance) { i.Name = "one" },
		"schema":  func(i *database.Instance) { i.Tables = "s1" },
		"id":      func(i *database.Instance) { i.Appservice = "as1" },
		"bot":     func(i *database.Instance) { i.Bot = "@bot1:x" },
		"address": func(i *database.Instance) { i.Address = "http://one" },
		"prefix":  func(i *database.Instance) { i.Media = "host\nbucket\none/" },
	} {
		other := two
		change(&other)
		var clash *database.ClashError
		if err := s.Join(ctx, other); !errors.As(err, &clash) || clash.Other != "one" || !strings.Contains(err.Error(), what) {
			t.Errorf("the same %s: %v", what, err)
		}
	}
	if err := s.Join(ctx, two); err != nil {
		t.Fatal(err)
	}
	two.Address = "http://elsewhere"
	if err := s.Join(ctx, two); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Instances(ctx); err != nil || len(all) != 2 || all[0] != one || all[1] != two {
		t.Errorf("instances are %v, %v", all, err)
	}
}

func TestTheSharedKeysAreSealedUnderOneKeyAndChangeOneAfterTheOther(t *testing.T) {
	uri := databasetest.PostgresConfig(t).URI
	s, err := openShared(t, uri, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openShared(t, uri, 2); !errors.Is(err, database.ErrSharedKey) {
		t.Errorf("another key: %v", err)
	}
	ctx := t.Context()
	keys := s.IssuerKeys()
	if doc, version, err := keys.Load(ctx); doc != nil || version != 0 || err != nil {
		t.Fatal(doc, version, err)
	}
	for version, want := range []bool{true, true} {
		if saved, err := keys.Save(ctx, []byte{byte(version)}, version); saved != want || err != nil {
			t.Errorf("over version %d: %v, %v", version, saved, err)
		}
	}
	for _, old := range []int{0, 1, 3} {
		if saved, err := keys.Save(ctx, []byte("late"), old); saved || err != nil {
			t.Errorf("over version %d: %v, %v", old, saved, err)
		}
	}
	if doc, version, err := keys.Load(ctx); !bytes.Equal(doc, []byte{1}) || version != 2 || err != nil {
		t.Error(doc, version, err)
	}
}

func TestWhoWasAssignedBelongsThereBeforeAndAfterTheirAccountAndNobodyWithOneIsMoved(t *testing.T) {
	s, err := openShared(t, databasetest.PostgresConfig(t).URI, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	assign := func(instance, refusedBy string) {
		t.Helper()
		if account, err := s.Assign(ctx, "@a:x", instance); err != nil || account != refusedBy {
			t.Errorf("assigned to %q: has an account at %q, %v", instance, account, err)
		}
	}
	want := func(home database.Home) {
		t.Helper()
		if got, err := s.Home(ctx, "@a:x"); err != nil || got != home {
			t.Errorf("home is %+v, %v; want %+v", got, err, home)
		}
	}
	assign("", "")
	assign("one", "")
	assign("two", "")
	want(database.Home{Instance: "two", Assigned: true})
	if home, err := s.Claim(ctx, "@a:x", "one"); err != nil || home != "two" {
		t.Errorf("another instance claims: %q, %v", home, err)
	}
	if home, err := s.Claim(ctx, "@a:x", "two"); err != nil || home != "two" {
		t.Errorf("its own claims: %q, %v", home, err)
	}
	want(database.Home{Instance: "two", Account: true, Assigned: true})
	assign("one", "two")
	assign("", "two")
	assign("two", "")
	want(database.Home{Instance: "two", Account: true, Assigned: true})
	if err := s.Release(ctx, "two", nil); err != nil {
		t.Fatal(err)
	}
	want(database.Home{Instance: "two", Assigned: true})
	assign("", "")
	want(database.Home{})
}
