package srp

import (
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"time"
)

// Client is the client's half of one exchange. Use a new one for each.
type Client struct {
	secret *big.Int // a
	public *big.Int // A = g^a mod N
}

// Challenge holds the parameters of Cognito's PASSWORD_VERIFIER challenge, as they are on the wire.
type Challenge struct {
	UserID      string // USER_ID_FOR_SRP
	Salt        string // SALT: hex
	B           string // SRP_B: hex
	SecretBlock string // SECRET_BLOCK: base64
}

// Proof answers a challenge.
type Proof struct {
	Signature string // PASSWORD_CLAIM_SIGNATURE: base64
	Timestamp string // TIMESTAMP, which the signature covers
}

// NewClient starts an exchange with a secret exponent read from random (crypto/rand.Reader).
func NewClient(random io.Reader) (*Client, error) {
	a, err := newExponent(random)
	if err != nil {
		return nil, err
	}
	return newClient(a), nil
}

func newClient(a *big.Int) *Client {
	return &Client{secret: a, public: new(big.Int).Exp(generator, a, prime)}
}

// A is the value of SRP_A: hex digits.
func (c *Client) A() string {
	return c.public.Text(16)
}

// Prove answers a challenge at the time now. poolName is the part of the user pool's id after "_". An error means
// that the server's values are malformed or that they would give the password's protection away; it names the field.
func (c *Client) Prove(poolName, password string, ch Challenge, now time.Time) (Proof, error) {
	salt, err := parseHex("SALT", ch.Salt)
	if err != nil {
		return Proof{}, err
	}
	b, err := parseElement("SRP_B", ch.B)
	if err != nil {
		return Proof{}, err
	}
	secretBlock, err := parseBase64("SECRET_BLOCK", ch.SecretBlock)
	if err != nil {
		return Proof{}, err
	}
	u, err := checkScramble(scramble(c.public, b))
	if err != nil {
		return Proof{}, err
	}
	x := privateKey(poolName, ch.UserID, password, salt)
	key, err := sessionKey(c.sharedSecret(b, u, x), u)
	if err != nil {
		return Proof{}, err
	}
	timestamp := Timestamp(now)
	return Proof{
		Signature: base64.StdEncoding.EncodeToString(signature(key, poolName, ch.UserID, secretBlock, timestamp)),
		Timestamp: timestamp,
	}, nil
}

// checkScramble refuses u = 0: the shared secret would not depend on the password.
func checkScramble(u *big.Int) (*big.Int, error) {
	if u.Sign() == 0 {
		return nil, errors.New("srp: u = H(A | B) is 0, which must be refused")
	}
	return u, nil
}

// sharedSecret is S = (B - k*g^x)^(a + u*x) mod N.
func (c *Client) sharedSecret(b, u, x *big.Int) *big.Int {
	base := new(big.Int).Exp(generator, x, prime)
	base.Mul(base, multiplier)
	base.Sub(b, base)
	base.Mod(base, prime) // Euclidean: never negative
	exponent := new(big.Int).Mul(u, x)
	exponent.Add(exponent, c.secret)
	return base.Exp(base, exponent, prime)
}
