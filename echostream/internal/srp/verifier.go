package srp

import (
	"crypto/hmac"
	"errors"
	"io"
	"math/big"
)

// ErrProof says that a proof does not match the password (or anything else that it covers).
var ErrProof = errors.New("srp: the proof is wrong")

// Verifier is what a server keeps of a user: the salt and v = g^x mod N, not the password. It is for a Cognito in
// tests and on a developer's machine. It can be used by several goroutines at once.
type Verifier struct {
	poolName string
	userID   string
	salt     *big.Int
	value    *big.Int // v
}

// Exchange is the server's half of one login, between the challenge and its answer. Use it for one answer.
type Exchange struct {
	verifier *Verifier
	secret   *big.Int // b
	clientA  *big.Int // A
	public   *big.Int // B = k*v + g^b mod N
}

// NewVerifier registers a user. poolName is the part of the user pool's id after "_"; userID is what the challenge
// will name as USER_ID_FOR_SRP (Cognito takes the user's name, whatever alias the client gave as USERNAME); salt is a
// big-endian number (Cognito's have 16 bytes).
func NewVerifier(poolName, userID, password string, salt []byte) *Verifier {
	s := new(big.Int).SetBytes(salt)
	x := privateKey(poolName, userID, password, s)
	return &Verifier{poolName: poolName, userID: userID, salt: s, value: new(big.Int).Exp(generator, x, prime)}
}

// Salt is the challenge's SALT: hex digits, without leading zeros, as Cognito writes it.
func (v *Verifier) Salt() string {
	return v.salt.Text(16)
}

// UserID is the challenge's USER_ID_FOR_SRP.
func (v *Verifier) UserID() string {
	return v.userID
}

// Challenge starts an exchange with a client's SRP_A; the server's secret exponent is read from random
// (crypto/rand.Reader). An error says what is wrong with srpA: not hex, or 0 mod N.
func (v *Verifier) Challenge(random io.Reader, srpA string) (*Exchange, error) {
	a, err := parseElement("SRP_A", srpA)
	if err != nil {
		return nil, err
	}
	b, err := newExponent(random)
	if err != nil {
		return nil, err
	}
	return v.exchange(a, b), nil
}

func (v *Verifier) exchange(a, b *big.Int) *Exchange {
	public := new(big.Int).Mul(multiplier, v.value)
	public.Add(public, new(big.Int).Exp(generator, b, prime))
	return &Exchange{verifier: v, secret: b, clientA: a, public: public.Mod(public, prime)}
}

// B is the challenge's SRP_B: hex digits.
func (e *Exchange) B() string {
	return e.public.Text(16)
}

// Verify checks the answer to the challenge: secretBlock is the SECRET_BLOCK as it was sent (base64), timestamp and
// claim the client's TIMESTAMP and PASSWORD_CLAIM_SIGNATURE. It is [ErrProof] for a wrong password, and another error
// for malformed values. That the timestamp is canonical ([ParseTimestamp]) and recent, and that the client gave back
// the same secret block, is the caller's to check.
func (e *Exchange) Verify(secretBlock, timestamp, claim string) error {
	block, err := parseBase64("PASSWORD_CLAIM_SECRET_BLOCK", secretBlock)
	if err != nil {
		return err
	}
	got, err := parseBase64("PASSWORD_CLAIM_SIGNATURE", claim)
	if err != nil {
		return err
	}
	u := scramble(e.clientA, e.public)
	key, err := sessionKey(e.sharedSecret(u), u)
	if err != nil {
		return err
	}
	if !hmac.Equal(got, signature(key, e.verifier.poolName, e.verifier.userID, block, timestamp)) {
		return ErrProof
	}
	return nil
}

// sharedSecret is S = (A * v^u)^b mod N: the server's way, without x.
func (e *Exchange) sharedSecret(u *big.Int) *big.Int {
	s := new(big.Int).Exp(e.verifier.value, u, prime)
	s.Mul(s, e.clientA)
	s.Mod(s, prime)
	return s.Exp(s, e.secret, prime)
}
