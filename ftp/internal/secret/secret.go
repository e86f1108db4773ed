// Package secret checks the passwords of FTP users.
//
// It promises that a wrong password takes as long as a name that nobody has: every check that fails does
// the same work, one hash for each kind of hash that the users have. A password that was right before is
// told by a keyed digest kept in memory, so that a device that logs in for each file costs no hash each time.
//
// Hashes of argon2id take memory, and anybody can have them computed. They are given a quarter of the memory that the process may
// use, and at least 64 MiB: so many are computed at a time as fit, at most two, and larger ones one by one. The others wait
// for their turn (queue.go). What a large hash has used is given back to the system before the next one begins.
//
// Limits: a hash that needs more than half of the memory that the process may use, more than 256 MiB, or many seconds is refused by [New].
//
//	book, err := secret.New(map[string]secret.Entry{"scanner": {Hash: "$2y$12$…"}}, memlimit.Bytes())
//	ok, err := book.Check(ctx, secret.Client{Network: network}, "scanner", password)
package secret

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Entry is how one user proves who it is: by Password or by a Hash of it, never both.
type Entry struct {
	Password string
	Hash     string // bcrypt ("$2a$", "$2b$", "$2y$") or argon2id in the PHC form
}

// Book holds the secrets of all users. It is safe for concurrent use.
type Book struct {
	users map[string]*user
	kinds map[string]hash // one hash of each kind and cost that the users have, of no user's password
	key   []byte          // of the digests
	queue *queue
}

type user struct {
	digest []byte // of the plain password; nil if there is a hash
	hash   hash
	kind   string

	mu   sync.Mutex
	seen []byte // the digest of the password that the hash matched last
}

// hash reports whether a password is the one it was made of.
type hash interface {
	matches(password string) bool
	memory() int64 // bytes that matches uses
}

const (
	concurrentHashes = 2
	leastBudget      = 64 << 20 // what common tools make of argon2id
	noticeable       = 8 << 20  // bytes; less is left to the garbage collector
)

// New checks the entries; it computes no hash, however many there are. memory is how many bytes the process may use,
// 0 if that is not known. The error names each user and what is wrong, and holds no secret.
func New(entries map[string]Entry, memory int64) (*Book, error) {
	b := &Book{
		users: make(map[string]*user, len(entries)),
		kinds: make(map[string]hash),
		key:   make([]byte, sha256.Size),
	}
	rand.Read(b.key) // never fails
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		u, err := b.user(entries[name], memory)
		if err != nil {
			problems = append(problems, fmt.Errorf("user %q: %w", name, err))
			continue
		}
		b.users[name] = u
	}
	b.queue = newQueue(b.concurrent(memory))
	return b, errors.Join(problems...)
}

// concurrent is how many checks may go on at a time: each computes one hash of each kind, one after the other.
func (b *Book) concurrent(memory int64) int {
	largest := int64(1)
	for _, h := range b.kinds {
		largest = max(largest, h.memory())
	}
	return int(min(concurrentHashes, max(1, max(memory/4, leastBudget)/largest)))
}

func (b *Book) user(e Entry, memory int64) (*user, error) {
	switch {
	case e.Password != "" && e.Hash != "":
		return nil, errors.New("has both password and passwordHash; expected one of them")
	case e.Password != "":
		return &user{digest: b.digest(e.Password)}, nil
	case e.Hash == "":
		return nil, errors.New("has neither password nor passwordHash; expected one of them")
	}
	h, kind, decoy, err := parse(e.Hash)
	if err != nil {
		return nil, fmt.Errorf("passwordHash: %w", err)
	}
	if err := fits(h.memory(), memory); err != nil {
		return nil, fmt.Errorf("passwordHash: %w", err)
	}
	b.kinds[kind] = decoy
	return &user{hash: h, kind: kind}, nil
}

// fits refuses a hash that cannot be computed beside what the node itself needs, and says how to make one that can.
func fits(needs, memory int64) error {
	const mib = 1 << 20
	room := memory / 2
	if memory <= 0 || needs <= room {
		return nil
	}
	return fmt.Errorf("argon2id m=%d takes %d MiB, and this node may use %d MiB, of which hashing can have half; give it %d MiB, "+
		"or make the hash anew with less: printf %%s PASSWORD | argon2 \"$(openssl rand -hex 8)\" -id -e -t 3 -p 1 -k %d",
		needs>>10, (needs+mib-1)/mib, memory/mib, (2*needs+mib-1)/mib, max(min(room, leastBudget)>>10, 8))
}

// Check reports whether the password is the user's. It waits for its turn: an error says that there was none, since the client has
// too many others that wait (ErrBusy), or since ctx has ended; then nothing is known of the password.
func (b *Book) Check(ctx context.Context, client Client, name, password string) (bool, error) {
	digest := b.digest(password)
	u := b.users[name]
	if u.knows(digest) {
		return true, nil
	}
	if len(b.kinds) == 0 {
		return false, nil
	}
	if err := b.queue.enter(ctx, client); err != nil {
		return false, err
	}
	defer b.queue.leave()
	if u.knows(digest) { // by now: a device that opens ten sessions waits for one hash
		return true, nil
	}
	hashed := false
	for kind, decoy := range b.kinds {
		if u != nil && u.hash != nil && u.kind == kind {
			hashed = u.hash.matches(password)
		} else {
			decoy.matches(password)
		}
		// The collector by itself lets two or three of them gather before it looks.
		if decoy.memory() >= noticeable {
			debug.FreeOSMemory()
		}
	}
	if hashed {
		u.mu.Lock()
		u.seen = digest
		u.mu.Unlock()
	}
	return hashed, nil
}

// knows reports whether the digest is of the user's plain password, or of one that matched the hash before. u may be nil.
func (u *user) knows(digest []byte) bool {
	if u == nil {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	known := u.digest
	if known == nil {
		known = u.seen
	}
	return subtle.ConstantTimeCompare(known, digest) == 1
}

func (b *Book) digest(password string) []byte {
	mac := hmac.New(sha256.New, b.key)
	mac.Write([]byte(password))
	return mac.Sum(nil)
}

// parse reads a hash and makes a decoy of the same kind and cost.
func parse(text string) (h hash, kind string, decoy hash, err error) {
	if strings.HasPrefix(text, "$argon2id$") {
		a, err := parseArgon(text)
		if err != nil {
			return nil, "", nil, err
		}
		other := *a
		other.sum = make([]byte, len(a.sum))
		rand.Read(other.sum)
		return a, fmt.Sprintf("argon2id m=%d t=%d p=%d", a.kib, a.time, a.threads), &other, nil
	}
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil {
		return nil, "", nil, errors.New("is neither bcrypt ($2a$, $2b$, $2y$) nor argon2id in the PHC form ($argon2id$v=19$m=…,t=…,p=…$salt$hash)")
	}
	if cost > maxBcryptCost {
		return nil, "", nil, fmt.Errorf("bcrypt cost is %d; expected at most %d", cost, maxBcryptCost)
	}
	return bcryptHash(text), fmt.Sprintf("bcrypt %d", cost), bcryptDecoy(cost), nil
}

// bcryptDecoy is a hash that is as dear to compare with as any of the cost, and itself costs nothing: its salt and sum are
// 53 random characters, of base 32, which all stand for something in bcrypt's base 64.
func bcryptDecoy(cost int) bcryptHash {
	return bcryptHash(fmt.Sprintf("$2a$%02d$%.53s", cost, rand.Text()+rand.Text()+rand.Text()))
}

const maxBcryptCost = 14

type bcryptHash []byte

func (h bcryptHash) memory() int64 { return 4 << 10 }

func (h bcryptHash) matches(password string) bool {
	return bcrypt.CompareHashAndPassword(h, []byte(password)) == nil
}

const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonTime   = 20
)

type argonHash struct {
	kib, time uint32
	threads   uint8
	salt, sum []byte
}

// memory is m, or what argon2id takes at least: 8 blocks of 1 KiB for each of its threads (RFC 9106, 3.2).
func (h *argonHash) memory() int64 { return int64(max(h.kib, 8*uint32(h.threads))) << 10 }

func (h *argonHash) matches(password string) bool {
	got := argon2.IDKey([]byte(password), h.salt, h.time, h.kib, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(got, h.sum) == 1
}

func parseArgon(text string) (*argonHash, error) {
	parts := strings.Split(text, "$") // "", argon2id, v=, m=,t=,p=, salt, hash
	if len(parts) != 6 || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return nil, fmt.Errorf("argon2id must be $argon2id$v=%d$m=…,t=…,p=…$salt$hash", argon2.Version)
	}
	h := &argonHash{}
	fields := map[string]uint64{}
	for field := range strings.SplitSeq(parts[3], ",") {
		key, value, _ := strings.Cut(field, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || (key != "m" && key != "t" && key != "p") {
			return nil, fmt.Errorf("argon2id parameter %q; expected m, t and p with whole numbers", field)
		}
		fields[key] = n
	}
	m, t, p := fields["m"], fields["t"], fields["p"]
	if m < 8 || m > maxArgonMemory || t < 1 || t > maxArgonTime || p < 1 || p > 16 {
		return nil, fmt.Errorf("argon2id m=%d,t=%d,p=%d; expected m 8 to %d (KiB), t 1 to %d, p 1 to 16", m, t, p, maxArgonMemory, maxArgonTime)
	}
	h.kib, h.time, h.threads = uint32(m), uint32(t), uint8(p)
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(parts[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.sum) < 12 || len(h.sum) > 128 {
		return nil, errors.New("argon2id salt and hash must be unpadded base64 of at least 8 and of 12 to 128 bytes")
	}
	return h, nil
}
