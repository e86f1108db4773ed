package drop

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func (r *rig) interrupted() []Interrupted {
	r.Helper()
	list, err := r.d.Interrupted()
	require.NoError(r, err)
	return list
}

func TestAccept(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		require.NoError(t, r.s.Mkdir("/d"))
		cut := time.Now()
		r.interrupt("/d/a.csv", Start{}, "whole")
		r.pass(time.Minute)
		r.interrupt("/b", Start{}, "pie")
		list := r.interrupted()
		require.Len(t, list, 2)
		require.Equal(t, Interrupted{ID: list[0].ID, User: "scanner", Name: "d/a.csv", Size: 5, Since: cut, Until: cut.Add(72 * time.Hour), path: "scanner/d/a.csv"}, list[0])

		require.NoError(t, r.d.Accept(list[0].ID))
		require.ErrorIs(t, r.d.Accept(list[0].ID), fs.ErrNotExist, "once")
		r.crash(disktest.Nothing())
		r.pass(time.Second)
		r.wantSent("scanner:d/a.csv=whole")
		require.True(t, cut.Equal(r.sink.got[0].File.Received))
		require.Equal(t, Count{}, r.d.Usage().Partial, "the other one's name was not synced")
	})
}

// What an operator has seen is what is accepted: not what has become of it since.
func TestAcceptWhatHasChanged(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.interrupt("/a", Start{}, "pie")
		seen := r.interrupted()[0].ID
		u := r.begin("/a", Start{Append: true}, "ce")
		require.ErrorIs(t, r.d.Accept(seen), fs.ErrNotExist, "it is being resumed")
		require.NoError(t, u.Interrupt(errCut))
		require.ErrorIs(t, r.d.Accept(seen), fs.ErrNotExist, "it is longer now")
		require.NoError(t, r.d.Accept(r.interrupted()[0].ID))
		require.ErrorIs(t, r.d.Accept("no such id"), fs.ErrNotExist)
		r.pass(time.Second)
		r.wantSent("scanner:a=piece")
		require.Equal(t, Usage{}, r.d.Usage())
	})
}

func TestAcceptUnderATemporaryName(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.put("/a.tmp", "old")
		r.interrupt("/a.tmp", Start{}, "new")
		require.NoError(t, r.d.Accept(r.interrupted()[0].ID))
		r.pass(time.Minute)
		r.wantSent()
		require.NoError(t, r.user.Session(remote).Rename("/a.tmp", "/a"))
		r.pass(time.Minute)
		r.wantSent("scanner:a=new")
		require.Empty(t, r.names("/"))
	})
}

// If the disk refuses, the upload can still be resumed or accepted.
func TestAcceptThatFails(t *testing.T) {
	for name, fault := range map[string]disktest.Fault{
		"syncing the record":    {Kind: disktest.Sync, Path: "outbox/..."},
		"renaming":              {Kind: disktest.Rename, Path: "outbox/..."},
		"syncing the directory": {Kind: disktest.SyncDir, Path: "outbox"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(r *rig) {
				r.interrupt("/a", Start{}, "abc")
				r.fs.Inject(fault)
				require.Error(t, r.d.Accept(r.interrupted()[0].ID))
				require.Equal(t, Count{1, 3}, r.d.Usage().Partial)
				require.NoError(t, r.d.Accept(r.interrupted()[0].ID))
				r.pass(time.Second)
				r.wantSent("scanner:a=abc")
			})
		})
	}
}

func TestUploading(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		began := time.Now()
		u := r.begin("/a", Start{}, "abc")
		require.Equal(t, []Uploading{{"scanner", "a", 3, began, remote}}, r.d.Uploading())
		require.NoError(t, u.Commit())
		require.Empty(t, r.d.Uploading())
	})
}
