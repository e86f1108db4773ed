// Package srp is the arithmetic of Amazon Cognito's USER_SRP_AUTH: SRP-6a over the 3072-bit group of RFC 5054,
// with SHA-256 and Cognito's own key derivation and proof.
//
// It promises that the password never leaves the process, that the proof is the one Cognito expects for every value
// that can occur (leading zero bytes, odd numbers of hex digits, a set top bit, any hour of any day), and that
// nothing a server sends makes it panic: malformed or dangerous values are errors that name the field.
//
// Its limits: it does no I/O, knows nothing of user pools with a client secret, and does not hide its timing
// (math/big is not constant-time), which matters to no one here: each exchange uses a fresh secret exponent, and
// the only peer that could measure it is the server.
//
//	client, err := srp.NewClient(rand.Reader)
//	// InitiateAuth {USERNAME, SRP_A: client.A()} answers with a PASSWORD_VERIFIER challenge.
//	proof, err := client.Prove("pool", "password", srp.Challenge{UserID: ..., Salt: ..., B: ..., SecretBlock: ...}, time.Now())
//	// RespondToAuthChallenge {PASSWORD_CLAIM_SIGNATURE: proof.Signature, TIMESTAMP: proof.Timestamp, ...}
//
// [Verifier] is the server's half, for a Cognito that tests can log in to. It shares the group and the encodings with
// the client, and computes the shared secret in its own way.
package srp

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"strings"
)

// primeHex is N of the 3072-bit group, RFC 5054 appendix A (and RFC 3526 group 15).
const primeHex = "" +
	"FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74" +
	"020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437" +
	"4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED" +
	"EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05" +
	"98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB" +
	"9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B" +
	"E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718" +
	"3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33" +
	"A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7" +
	"ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864" +
	"D87602733EC86A64521F2B18177B200CBBE117577A615D6C770988C0BAD946E2" +
	"08E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF"

const (
	// keyInfo is the HKDF info string of Cognito.
	keyInfo = "Caldera Derived Key"
	keySize = 16

	// secretExponentSize is the size of a and b: RFC 5054 asks for at least 256 bits, which is also twice the
	// strength of a 3072-bit group.
	secretExponentSize = 32

	// maxWireSize bounds what is parsed of one wire value; the largest legitimate one, B, has 770 hex digits.
	maxWireSize = 16 << 10
)

// N, g and k = H(pad(N) | pad(g)). Never written to.
var (
	prime      = mustHex(primeHex)
	generator  = big.NewInt(2)
	multiplier = new(big.Int).SetBytes(hash(pad(prime), pad(generator)))
)

func mustHex(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic("srp: the group's prime is not hex")
	}
	return n
}

// pad encodes n >= 0 as Cognito hashes it: big-endian in as few bytes as possible (at least one), with a zero byte in
// front when the top bit is set, so that it would not be read as negative. It is Java's BigInteger.toByteArray.
func pad(n *big.Int) []byte {
	return n.FillBytes(make([]byte, n.BitLen()/8+1))
}

func hash(parts ...[]byte) []byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// scramble is u = H(pad(A) | pad(B)).
func scramble(a, b *big.Int) *big.Int {
	return new(big.Int).SetBytes(hash(pad(a), pad(b)))
}

// privateKey is x = H(pad(salt) | H(poolName | userID | ":" | password)).
func privateKey(poolName, userID, password string, salt *big.Int) *big.Int {
	identity := hash([]byte(poolName + userID + ":" + password))
	return new(big.Int).SetBytes(hash(pad(salt), identity))
}

// sessionKey derives the key of the proof from the shared secret S and from u.
func sessionKey(secret, u *big.Int) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, pad(secret), pad(u), keyInfo, keySize)
	if err != nil {
		return nil, fmt.Errorf("srp: derive the session key: %w", err)
	}
	return key, nil
}

// signature is the proof: HMAC-SHA256(key, poolName | userID | secretBlock | timestamp).
func signature(key []byte, poolName, userID string, secretBlock []byte, timestamp string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(poolName))
	m.Write([]byte(userID))
	m.Write(secretBlock)
	m.Write([]byte(timestamp))
	return m.Sum(nil)
}

// parseHex reads a number as the wire has it: hex digits, without sign or prefix, of any number and either case.
// The value is not shown in the error: it may be part of a secret.
func parseHex(field, s string) (*big.Int, error) {
	switch {
	case s == "":
		return nil, fmt.Errorf("srp: %s is empty, want hex digits", field)
	case len(s) > maxWireSize:
		return nil, fmt.Errorf("srp: %s has %d characters, want at most %d hex digits", field, len(s), maxWireSize)
	case len(s)%2 == 1:
		s = "0" + s
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("srp: %s is not hex: %w", field, err)
	}
	return new(big.Int).SetBytes(b), nil
}

// parseElement reads A or B, which must not be 0 mod N: whoever sends such a value fixes the shared secret without
// knowing the password.
func parseElement(field, s string) (*big.Int, error) {
	n, err := parseHex(field, s)
	if err != nil {
		return nil, err
	}
	if new(big.Int).Mod(n, prime).Sign() == 0 {
		return nil, fmt.Errorf("srp: %s is 0 mod N, which must be refused", field)
	}
	return n, nil
}

func parseBase64(field, s string) ([]byte, error) {
	switch {
	case s == "":
		return nil, fmt.Errorf("srp: %s is empty, want base64", field)
	case len(s) > maxWireSize:
		return nil, fmt.Errorf("srp: %s has %d characters, want at most %d of base64", field, len(s), maxWireSize)
	case strings.ContainsAny(s, "\r\n"): // base64 would skip them
		return nil, fmt.Errorf("srp: %s has a line break, want base64 on one line", field)
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("srp: %s is not base64: %w", field, err)
	}
	return b, nil
}

// newExponent reads a secret exponent that is not 0.
func newExponent(random io.Reader) (*big.Int, error) {
	b := make([]byte, secretExponentSize)
	if _, err := io.ReadFull(random, b); err != nil {
		return nil, fmt.Errorf("srp: read random bytes: %w", err)
	}
	n := new(big.Int).SetBytes(b)
	if n.Sign() == 0 {
		return nil, fmt.Errorf("srp: the random source gave %d zero bytes", len(b))
	}
	return n, nil
}
