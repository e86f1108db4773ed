package node

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ftpnode/ftpnode/echostream"
	"github.com/ftpnode/ftpnode/echostream/disk"
)

// The file of a node definition:
//
//	8 bytes   "ESnodedf"
//	1         version, 1
//	32        salt, random for each file
//	16        whose it is: the start of SHA-256(salt | tenant | node), each name after its length
//	4         length of what is sealed, big-endian
//	n         sealed with AES-256-GCM: nonce, JSON of Definition, tag. The key is HKDF-SHA256(PASSWORD, salt); all
//	          that stands before it, the tenant and the node's name are additional data
//	32        SHA-256 of all that stands before it
//
// The two hashes protect nothing: they tell a damaged file and another node's from a wrong password. HKDF does not slow
// down guessing, so the file is as safe as PASSWORD is long; EchoStream generates long random ones.
const (
	definitionMagic   = "ESnodedf"
	definitionVersion = 1
	definitionKeyInfo = "echostream node definition 1"

	definitionSaltSize   = 32
	definitionOwnerSize  = 16
	definitionHeaderSize = len(definitionMagic) + 1 + definitionSaltSize + definitionOwnerSize + 4
	// maxDefinition is far above what EchoStream's own store can hold of one node.
	maxDefinition = 16 << 20
)

// saveDefinition keeps the node's definition in the file name, so that the node can start when EchoStream is out of
// reach. A definition holds the sites' passwords: the file is encrypted under env.Password, bound to the tenant and the
// node, has mode 0600, and is replaced as a whole or not at all. There must not be two calls for a file at a time.
func saveDefinition(fsys disk.FS, name string, env echostream.Environment, node *echostream.Definition) error {
	data, err := sealDefinition(env, node)
	if err != nil {
		return fmt.Errorf("keeping the node definition: %w", err)
	}
	if err := disk.WriteFile(fsys, name, data, 0o600); err != nil {
		return fmt.Errorf("keeping the node definition: %w", err)
	}
	return nil
}

// loadDefinition reads what [saveDefinition] kept, as a definition whose Kept is set. The error holds fs.ErrNotExist if
// there is none yet; else it says why the file cannot be used: another password or node, damaged, cut off, or written by a
// newer version. None of them is a reason to stop: EchoStream has the definition too.
func loadDefinition(fsys disk.FS, name string, env echostream.Environment) (*echostream.Definition, error) {
	data, err := disk.ReadFile(fsys, name, maxDefinition+1)
	if err != nil {
		return nil, fmt.Errorf("reading the kept node definition: %w", err)
	}
	node, err := openDefinition(env, data)
	if err != nil {
		return nil, fmt.Errorf("the kept node definition %q cannot be used: %w", name, err)
	}
	return node, nil
}

func sealDefinition(env echostream.Environment, node *echostream.Definition) ([]byte, error) {
	if node == nil {
		return nil, errors.New("there is none")
	}
	if node.Tenant != env.Tenant || node.Name != env.Name {
		return nil, fmt.Errorf("it is that of %s, expected node %q of tenant %q", node, env.Name, env.Tenant)
	}
	plain, err := json.Marshal(node)
	if err != nil {
		return nil, err
	}
	salt := make([]byte, definitionSaltSize)
	_, _ = rand.Read(salt) // never fails: it ends the program if there is no randomness
	aead, err := definitionCipher(env, salt)
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, definitionHeaderSize+aead.Overhead()+len(plain)+sha256.Size)
	data = append(data, definitionMagic...)
	data = append(data, definitionVersion)
	data = append(data, salt...)
	data = append(data, definitionOwner(env, salt)...)
	data = binary.BigEndian.AppendUint32(data, uint32(len(plain)+aead.Overhead()))
	data = aead.Seal(data, nil, plain, definitionContext(env, data))
	sum := sha256.Sum256(data)
	data = append(data, sum[:]...)
	if len(data) > maxDefinition {
		return nil, fmt.Errorf("it has %d bytes, expected at most %d", len(data), maxDefinition)
	}
	return data, nil
}

func openDefinition(env echostream.Environment, data []byte) (*echostream.Definition, error) {
	switch {
	case len(data) > maxDefinition:
		return nil, fmt.Errorf("it has more than %d bytes", maxDefinition)
	case len(data) == 0:
		return nil, errors.New("it is empty")
	case !bytes.HasPrefix(data, []byte(definitionMagic)):
		return nil, errors.New("it is damaged, or not a node definition")
	case len(data) == len(definitionMagic):
		return nil, errors.New("it is cut off")
	case data[len(definitionMagic)] > definitionVersion:
		return nil, fmt.Errorf("it was written by a newer version of this program: its format is %d, expected %d",
			data[len(definitionMagic)], definitionVersion)
	case data[len(definitionMagic)] < definitionVersion:
		return nil, fmt.Errorf("it is damaged: its format is %d, expected %d", data[len(definitionMagic)], definitionVersion)
	case len(data) < definitionHeaderSize:
		return nil, errors.New("it is cut off")
	}
	header := data[:definitionHeaderSize]
	salt := header[len(definitionMagic)+1:][:definitionSaltSize]
	owner := header[len(definitionMagic)+1+definitionSaltSize:][:definitionOwnerSize]
	sealedSize := int64(binary.BigEndian.Uint32(header[definitionHeaderSize-4:]))
	switch want := int64(definitionHeaderSize) + sealedSize + sha256.Size; {
	case int64(len(data)) < want:
		return nil, fmt.Errorf("it is cut off: it has %d of %d bytes", len(data), want)
	case int64(len(data)) > want:
		return nil, fmt.Errorf("it is damaged: it has %d bytes, expected %d", len(data), want)
	}
	end := len(data) - sha256.Size
	if sum := sha256.Sum256(data[:end]); !bytes.Equal(sum[:], data[end:]) {
		return nil, errors.New("it is damaged: its checksum is wrong")
	}
	if !bytes.Equal(owner, definitionOwner(env, salt)) {
		return nil, fmt.Errorf("it is not that of node %q of tenant %q", env.Name, env.Tenant)
	}
	aead, err := definitionCipher(env, salt)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, data[definitionHeaderSize:end], definitionContext(env, header))
	if err != nil {
		return nil, errors.New("it was kept under another password than PASSWORD is now, or was tampered with")
	}
	node := new(echostream.Definition)
	if err := json.Unmarshal(plain, node); err != nil {
		// What json says may quote the definition.
		return nil, errors.New("what it holds is not the JSON of a node definition")
	}
	if node.Tenant != env.Tenant || node.Name != env.Name {
		return nil, fmt.Errorf("what it holds is that of %s, expected node %q of tenant %q", node, env.Name, env.Tenant)
	}
	node.Kept = true
	return node, nil
}

// definitionCipher writes a random nonce in front of what it seals.
func definitionCipher(env echostream.Environment, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(env.Password), salt, definitionKeyInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func definitionOwner(env echostream.Environment, salt []byte) []byte {
	sum := sha256.Sum256(definitionContext(env, salt))
	return sum[:definitionOwnerSize]
}

// definitionContext is start with the names of the tenant and the node, which cannot be mistaken for each other.
func definitionContext(env echostream.Environment, start []byte) []byte {
	c := bytes.Clone(start)
	for _, name := range []string{env.Tenant, env.Name} {
		c = binary.BigEndian.AppendUint32(c, uint32(len(name)))
		c = append(c, name...)
	}
	return c
}
