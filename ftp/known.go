package ftp

import (
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/internal/guard"
)

// knownFile is the file in Options.State that says from where users have logged in.
const knownFile = "known-clients"

const maxKnownFile = 4 << 20 // bytes; it is written with a quarter of that at most

// knownStore is the guard's Store.
type knownStore struct{ fs disk.FS }

var _ guard.Store = knownStore{}

func (s knownStore) Load() ([]byte, error) {
	return disk.ReadFile(s.fs, knownFile, maxKnownFile)
}

func (s knownStore) Save(data []byte) error {
	return disk.WriteFile(s.fs, knownFile, data, 0o600)
}
