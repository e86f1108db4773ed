package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/disk/disktest"
)

func testDefinition() (echostream.Environment, *echostream.Definition) {
	env := echostream.Environment{Name: "My Node", Tenant: "Acme", Password: "correct horse battery staple"}
	level := slog.LevelWarn
	return env, &echostream.Definition{
		Name: "My Node", Tenant: "Acme", Region: "eu-west-1", App: "app", CrossAccount: true,
		Config:          json.RawMessage(`{"ftp":{"users":[{"name":"scanner","password":"hunter2"}]}}`),
		Targets:         []echostream.Edge{{Name: "a", Queue: "https://sqs.example.com/1/a.fifo"}, {Name: "b", Queue: "https://sqs.example.com/1/b.fifo"}},
		SendMessageType: &echostream.MessageType{Name: "echo.file", SampleMessage: "{}", Auditor: "def auditor(): pass"},
		Audit:           true, AuditRecordsEndpoint: "https://audit.example.com/",
		LoggingLevel: &level,
		Ports:        []echostream.Port{{ContainerPort: 2121, HostPort: 30021, Protocol: "tcp"}},
		Mounts:       []echostream.Mount{{Target: "/data"}},
	}
}

func testVolume(t *testing.T) (disk.FS, string) {
	t.Helper()
	dir := t.TempDir()
	volume, err := disk.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, volume.Close()) })
	return volume, dir
}

func TestDefinitionIsKept(t *testing.T) {
	volume, dir := testVolume(t)
	env, node := testDefinition()
	_, err := loadDefinition(volume, "definition", env)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, saveDefinition(volume, "definition", env, node))
	got, err := loadDefinition(volume, "definition", env)
	require.NoError(t, err)
	assert.True(t, got.Kept)
	got.Kept = false
	assert.Equal(t, node, got)

	node.Stopped, node.LoggingLevel, node.SendMessageType = true, nil, nil
	require.NoError(t, saveDefinition(volume, "definition", env, node))
	got, err = loadDefinition(volume, "definition", env)
	require.NoError(t, err)
	assert.True(t, got.Kept)
	got.Kept = false
	assert.Equal(t, node, got)

	info, err := os.Stat(filepath.Join(dir, "definition"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "nothing is left over")
}

func TestDefinitionShowsNothing(t *testing.T) {
	env, node := testDefinition()
	one, err := sealDefinition(env, node)
	require.NoError(t, err)
	two, err := sealDefinition(env, node)
	require.NoError(t, err)
	for _, text := range []string{"hunter2", "scanner", "Acme", "My Node", "sqs.example.com", string(env.Password)} {
		assert.False(t, bytes.Contains(one, []byte(text)), text)
	}
	assert.NotEqual(t, one[definitionHeaderSize-definitionOwnerSize-4:], two[definitionHeaderSize-definitionOwnerSize-4:],
		"neither the ciphertext nor the owner may be the same twice")
}

func TestDefinitionThatCannotBeUsed(t *testing.T) {
	env, node := testDefinition()
	good, err := sealDefinition(env, node)
	require.NoError(t, err)
	change := func(change func(e *echostream.Environment)) echostream.Environment {
		e := env
		change(&e)
		return e
	}
	flipped := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 1
		return b
	}
	newer := bytes.Clone(good)
	newer[len(definitionMagic)] = 2
	older := bytes.Clone(good)
	older[len(definitionMagic)] = 0
	tests := []struct {
		name string
		env  echostream.Environment
		data []byte
		want string
	}{
		{"other password", change(func(e *echostream.Environment) { e.Password += "x" }), good, "another password"},
		{"other node", change(func(e *echostream.Environment) { e.Name = "other" }), good, `not that of node "other" of tenant "Acme"`},
		{"other tenant", change(func(e *echostream.Environment) { e.Tenant = "other" }), good, `not that of node "My Node" of tenant "other"`},
		{"names moved", change(func(e *echostream.Environment) { e.Tenant, e.Name = "AcmeMy ", "Node" }), good, "not that of node"},
		{"empty", env, nil, "it is empty"},
		{"not ours", env, []byte(`{"name":"My Node"}`), "not a node definition"},
		{"magic only", env, good[:len(definitionMagic)], "cut off"},
		{"header cut", env, good[:definitionHeaderSize-1], "cut off"},
		{"cut", env, good[:len(good)-1], "cut off: it has"},
		{"half", env, good[:len(good)/2], "cut off: it has"},
		{"longer", env, append(bytes.Clone(good), 0), "damaged: it has"},
		{"newer version", env, newer, "newer version of this program: its format is 2, expected 1"},
		{"version 0", env, older, "damaged: its format is 0"},
		{"salt damaged", env, flipped(len(definitionMagic) + 1), "checksum"},
		{"content damaged", env, flipped(definitionHeaderSize + 20), "checksum"},
		{"checksum damaged", env, flipped(len(good) - 1), "checksum"},
		{"too large", env, append([]byte(definitionMagic), make([]byte, maxDefinition)...), "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			volume, dir := testVolume(t)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "definition"), tt.data, 0o600))
			got, err := loadDefinition(volume, "definition", tt.env)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, `"definition"`)
			assert.Nil(t, got)
			assert.NotContains(t, err.Error(), "hunter2")
			after, err := os.ReadFile(filepath.Join(dir, "definition"))
			require.NoError(t, err)
			assert.True(t, bytes.Equal(tt.data, after), "it must be left as it is")
		})
	}
}

// Whatever byte is changed or cut off, the definition is refused.
func TestDefinitionEveryByteCounts(t *testing.T) {
	env, node := testDefinition()
	good, err := sealDefinition(env, node)
	require.NoError(t, err)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x80
		_, err := openDefinition(env, bad)
		require.Error(t, err, "byte %d", i)
		_, err = openDefinition(env, good[:i])
		require.Error(t, err, "%d bytes", i)
	}
}

// resum makes the checksum at the end right again.
func resum(data []byte) []byte {
	if len(data) < sha256.Size {
		return data
	}
	end := len(data) - sha256.Size
	sum := sha256.Sum256(data[:end])
	return append(bytes.Clone(data[:end]), sum[:]...)
}

// The checksum can be made right by anybody; the seal cannot.
func TestDefinitionTampering(t *testing.T) {
	env, node := testDefinition()
	good, err := sealDefinition(env, node)
	require.NoError(t, err)
	other := env
	other.Name = "other"
	for i := len(definitionMagic) + 1; i < len(good)-sha256.Size; i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		_, err := openDefinition(env, resum(bad))
		require.Error(t, err, "byte %d", i)
	}
	// Given to another node with the same password, with its name forged into the header.
	forged := bytes.Clone(good)
	salt := forged[len(definitionMagic)+1:][:definitionSaltSize]
	copy(forged[len(definitionMagic)+1+definitionSaltSize:], definitionOwner(other, salt))
	_, err = openDefinition(other, resum(forged))
	require.ErrorContains(t, err, "tampered")
}

func TestDefinitionOfAnotherNodeIsNotKept(t *testing.T) {
	volume, dir := testVolume(t)
	env, node := testDefinition()
	node.Name = "other"
	require.ErrorContains(t, saveDefinition(volume, "definition", env, node), `node "other"`)
	require.ErrorContains(t, saveDefinition(volume, "definition", env, nil), "there is none")
	node.Name = env.Name
	node.Config = json.RawMessage(`"` + strings.Repeat("x", maxDefinition) + `"`)
	require.ErrorContains(t, saveDefinition(volume, "definition", env, node), "at most")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// A file of format 1 made by another implementation: files that are out there must stay readable.
func TestDefinitionFormat1(t *testing.T) {
	volume, err := disk.Open("testdata")
	require.NoError(t, err)
	defer volume.Close()
	env := echostream.Environment{Tenant: "Acme", Name: "Nödé 1", Password: "pässwörd of Acme"}
	got, err := loadDefinition(volume, "definition-1.bin", env)
	require.NoError(t, err)
	level := slog.LevelDebug
	assert.Equal(t, &echostream.Definition{
		Name: "Nödé 1", Tenant: "Acme", Region: "eu-west-1", App: "app", Config: json.RawMessage(`{"ftp":{"users":[]}}`),
		Targets: []echostream.Edge{{Name: "target", Queue: "https://sqs.eu-west-1.amazonaws.com/1/q.fifo"}}, LoggingLevel: &level,
		Kept: true,
	}, got)
}

// definitionScenario keeps a definition twice; afterwards one of them is there, and the last one that was acknowledged
// or a later one.
func definitionScenario() func() disktest.Scenario {
	env, first := testDefinition()
	second := *first
	second.Stopped = true
	return func() disktest.Scenario {
		saved := 0
		return disktest.Scenario{
			Run: func(fsys *disktest.FS) error {
				for _, node := range []*echostream.Definition{first, &second} {
					if err := saveDefinition(fsys, "definition", env, node); err != nil {
						return err
					}
					saved++
				}
				return nil
			},
			Check: func(fsys *disktest.FS) error {
				got, err := loadDefinition(fsys, "definition", env)
				switch {
				case errors.Is(err, fs.ErrNotExist) && saved == 0:
					return nil
				case err != nil:
					return err
				case saved == 2 && !got.Stopped:
					return errors.New("an older definition came back")
				}
				return nil
			},
		}
	}
}

func TestDefinitionOutlivesCrashes(t *testing.T) {
	assert.Positive(t, disktest.EveryCrash(t, disktest.Options{}, definitionScenario()))
}

func TestDefinitionOutlivesDiskFaults(t *testing.T) {
	assert.Positive(t, disktest.EveryFault(t, disktest.Options{}, definitionScenario()))
}

// FuzzDefinition reads what a damaged or hostile volume may hold, with the checksum made right so that
// what is behind it is reached too.
func FuzzDefinition(f *testing.F) {
	env, node := testDefinition()
	good, err := sealDefinition(env, node)
	require.NoError(f, err)
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(good[:definitionHeaderSize])
	f.Add(append(bytes.Clone(good), good...))
	f.Add([]byte(definitionMagic))
	f.Add([]byte(definitionMagic + "\x01"))
	f.Add([]byte(definitionMagic + "\x02 and more"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, resum(data)} {
			got, err := openDefinition(env, data)
			if (err == nil) != (got != nil) {
				t.Fatalf("%v and %v", got, err)
			}
			if err == nil && (got.Name != env.Name || got.Tenant != env.Tenant) {
				t.Fatal("accepted what was not sealed under the password")
			}
		}
	})
}
