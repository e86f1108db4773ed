package srp

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// vectors were made by other implementations: see testdata/srp/README.md at the top of the repository.
type vectors struct {
	Proofs []proofVector `json:"proofs"`
	Times  []struct {
		Time      time.Time `json:"time"`
		Timestamp string    `json:"timestamp"`
	} `json:"times"`
}

type proofVector struct {
	Name        string    `json:"name"`
	PoolName    string    `json:"poolName"`
	UserID      string    `json:"userId"`
	Password    string    `json:"password"`
	Salt        string    `json:"salt"`
	Time        time.Time `json:"time"`
	SecretA     string    `json:"a"`
	SecretB     string    `json:"b"`
	A           string    `json:"A"`
	B           string    `json:"B"`
	U           string    `json:"u"`
	S           string    `json:"S"`
	SecretBlock string    `json:"secretBlock"`
	Timestamp   string    `json:"timestamp"`
	Signature   string    `json:"signature"`
}

func (v proofVector) challenge() Challenge {
	return Challenge{UserID: v.UserID, Salt: v.Salt, B: v.B, SecretBlock: v.SecretBlock}
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	data, err := os.ReadFile("../../../testdata/srp/vectors.json")
	require.NoError(t, err)
	// encoding/json matches keys without regard to case, and a is not A here.
	var raw struct {
		Proofs []map[string]string `json:"proofs"`
	}
	var v vectors
	require.NoError(t, json.Unmarshal(data, &v))
	require.NoError(t, json.Unmarshal(data, &raw))
	require.NotEmpty(t, v.Proofs)
	require.NotEmpty(t, v.Times)
	for i, m := range raw.Proofs {
		p := &v.Proofs[i]
		p.SecretA, p.SecretB, p.A, p.B, p.U, p.S = m["a"], m["b"], m["A"], m["B"], m["u"], m["S"]
	}
	return v
}

func number(t testing.TB, hex string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(hex, 16)
	require.True(t, ok, hex)
	return n
}

func TestClientAgreesWithOtherImplementations(t *testing.T) {
	for _, v := range readVectors(t).Proofs {
		t.Run(v.Name, func(t *testing.T) {
			c := newClient(number(t, v.SecretA))
			assert.Equal(t, v.A, c.A())
			u := scramble(c.public, number(t, v.B))
			assert.Equal(t, v.U, u.Text(16))
			x := privateKey(v.PoolName, v.UserID, v.Password, number(t, v.Salt))
			assert.Equal(t, v.S, c.sharedSecret(number(t, v.B), u, x).Text(16))
			proof, err := c.Prove(v.PoolName, v.Password, v.challenge(), v.Time)
			require.NoError(t, err)
			assert.Equal(t, Proof{Signature: v.Signature, Timestamp: v.Timestamp}, proof)
		})
	}
}

func TestVerifierAgreesWithOtherImplementations(t *testing.T) {
	for _, v := range readVectors(t).Proofs {
		t.Run(v.Name, func(t *testing.T) {
			verifier := NewVerifier(v.PoolName, v.UserID, v.Password, number(t, v.Salt).Bytes())
			assert.Equal(t, strings.TrimLeft(v.Salt, "0"), verifier.Salt())
			assert.Equal(t, v.UserID, verifier.UserID())
			e := verifier.exchange(number(t, v.A), number(t, v.SecretB))
			assert.Equal(t, v.B, e.B())
			assert.Equal(t, v.S, e.sharedSecret(scramble(e.clientA, e.public)).Text(16))
			require.NoError(t, e.Verify(v.SecretBlock, v.Timestamp, v.Signature))

			require.ErrorIs(t, e.Verify(v.SecretBlock, "Sat Nov 7 04:05:09 UTC 2026", v.Signature), ErrProof)
			require.ErrorIs(t, e.Verify("AAAA", v.Timestamp, v.Signature), ErrProof)
			require.ErrorIs(t, e.Verify(v.SecretBlock, v.Timestamp, "AAAA"), ErrProof)
			require.Error(t, e.Verify("", v.Timestamp, v.Signature))
			require.Error(t, e.Verify(v.SecretBlock, v.Timestamp, "%"))
			wrong := NewVerifier(v.PoolName, v.UserID, v.Password+"x", number(t, v.Salt).Bytes())
			require.ErrorIs(t, wrong.exchange(number(t, v.A), number(t, v.SecretB)).
				Verify(v.SecretBlock, v.Timestamp, v.Signature), ErrProof)
		})
	}
}

func TestExchange(t *testing.T) {
	verifier := NewVerifier("pool", "user", "secret", []byte{0, 0x80, 1})
	assert.Equal(t, "8001", verifier.Salt())
	for range 20 {
		client, err := NewClient(rand.Reader)
		require.NoError(t, err)
		exchange, err := verifier.Challenge(rand.Reader, client.A())
		require.NoError(t, err)
		ch := Challenge{UserID: verifier.UserID(), Salt: verifier.Salt(), B: exchange.B(), SecretBlock: "c2VjcmV0"}
		proof, err := client.Prove("pool", "secret", ch, time.Now())
		require.NoError(t, err)
		require.NoError(t, exchange.Verify(ch.SecretBlock, proof.Timestamp, proof.Signature))

		proof, err = client.Prove("pool", "Secret", ch, time.Now())
		require.NoError(t, err)
		require.ErrorIs(t, exchange.Verify(ch.SecretBlock, proof.Timestamp, proof.Signature), ErrProof)
	}
}

func TestProveRefusesBadServerValues(t *testing.T) {
	good := Challenge{UserID: "user", Salt: "ab12", B: "2", SecretBlock: "c2VjcmV0"}
	twice := new(big.Int).Lsh(prime, 1).Text(16)
	tests := []struct {
		name   string
		change func(*Challenge)
		want   string
	}{
		{"no B", func(c *Challenge) { c.B = "" }, "SRP_B is empty"},
		{"B is 0", func(c *Challenge) { c.B = "0" }, "SRP_B is 0 mod N"},
		{"B is 000", func(c *Challenge) { c.B = "000" }, "SRP_B is 0 mod N"},
		{"B is N", func(c *Challenge) { c.B = primeHex }, "SRP_B is 0 mod N"},
		{"B is 2N", func(c *Challenge) { c.B = twice }, "SRP_B is 0 mod N"},
		{"B is negative", func(c *Challenge) { c.B = "-2" }, "SRP_B is not hex"},
		{"B has a prefix", func(c *Challenge) { c.B = "0x2" }, "SRP_B is not hex"},
		{"B has an underscore", func(c *Challenge) { c.B = "1_2" }, "SRP_B is not hex"},
		{"B is huge", func(c *Challenge) { c.B = strings.Repeat("f", 1<<20) }, "SRP_B has 1048576 characters"},
		{"no salt", func(c *Challenge) { c.Salt = "" }, "SALT is empty"},
		{"salt is not hex", func(c *Challenge) { c.Salt = "xyz" }, "SALT is not hex"},
		{"salt is huge", func(c *Challenge) { c.Salt = strings.Repeat("f", 1<<20) }, "SALT has 1048576 characters"},
		{"no secret block", func(c *Challenge) { c.SecretBlock = "" }, "SECRET_BLOCK is empty"},
		{"secret block is not base64", func(c *Challenge) { c.SecretBlock = "a" }, "SECRET_BLOCK is not base64"},
		{"secret block has a line break", func(c *Challenge) { c.SecretBlock = "c2Vj\ncmV0" }, "SECRET_BLOCK has a line break"},
		{"secret block is huge", func(c *Challenge) { c.SecretBlock = strings.Repeat("AAAA", 1<<20) }, "SECRET_BLOCK has"},
	}
	c, err := NewClient(rand.Reader)
	require.NoError(t, err)
	_, err = c.Prove("pool", "password", good, time.Now())
	require.NoError(t, err)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ch := good
			tt.change(&ch)
			_, err := c.Prove("pool", "password", ch, time.Now())
			require.ErrorContains(t, err, tt.want)
			assert.Less(t, len(err.Error()), 200)
		})
	}
}

func TestZeroScrambleIsRefused(t *testing.T) {
	_, err := checkScramble(new(big.Int))
	require.ErrorContains(t, err, "is 0")
	u, err := checkScramble(big.NewInt(1))
	require.NoError(t, err)
	assert.Equal(t, int64(1), u.Int64())
}

func TestChallengeRefusesBadClientValues(t *testing.T) {
	v := NewVerifier("pool", "user", "password", []byte{1})
	for _, a := range []string{"", "0", primeHex, "zz", "-1"} {
		_, err := v.Challenge(rand.Reader, a)
		require.ErrorContains(t, err, "SRP_A", "%q", a)
	}
}

func TestRandomSourceThatFails(t *testing.T) {
	_, err := NewClient(strings.NewReader("short"))
	require.ErrorContains(t, err, "random")
	_, err = NewClient(strings.NewReader(strings.Repeat("\x00", 100)))
	require.ErrorContains(t, err, "zero bytes")
	_, err = NewVerifier("pool", "user", "password", []byte{1}).Challenge(strings.NewReader(""), "2")
	require.ErrorContains(t, err, "random")
}

func TestPad(t *testing.T) {
	tests := []struct {
		n    int64
		want []byte
	}{
		{0, []byte{0}},
		{1, []byte{1}},
		{0x7f, []byte{0x7f}},
		{0x80, []byte{0, 0x80}},
		{0xff, []byte{0, 0xff}},
		{0x100, []byte{1, 0}},
		{0x7fff, []byte{0x7f, 0xff}},
		{0x8000, []byte{0, 0x80, 0}},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, pad(big.NewInt(tt.n)), "%#x", tt.n)
	}
}

func TestTimestamp(t *testing.T) {
	for _, v := range readVectors(t).Times {
		assert.Equal(t, v.Timestamp, Timestamp(v.Time))
		got, err := ParseTimestamp(v.Timestamp)
		require.NoError(t, err)
		assert.Equal(t, v.Time, got)
	}
	zone := time.FixedZone("", -5*3600)
	assert.Equal(t, "Sun Nov 8 01:05:09 UTC 2026", Timestamp(time.Date(2026, 11, 7, 20, 5, 9, 0, zone)))
}

func TestParseTimestampIsStrict(t *testing.T) {
	for _, s := range []string{
		"",
		"Sun Sep 05 07:08:09 UTC 2027",  // padded day
		"Sun Sep  5 07:08:09 UTC 2027",  // padded with a space
		"Mon Sep 5 07:08:09 UTC 2027",   // wrong weekday
		"Sun Sep 5 7:08:09 UTC 2027",    // no zero on the hour
		"Sun Sep 5 07:08:09 GMT 2027",   // another zone
		"Sun Sep 5 07:08:09 UTC 2027 ",  // something after it
		"sun sep 5 07:08:09 UTC 2027",   // case
		"So Sep 5 07:08:09 UTC 2027",    // language
		"Sun Sep 5 07:08:09.1 UTC 2027", // fraction
		"Sun Feb 30 07:08:09 UTC 2027",  // no such day
		"2027-09-05T07:08:09Z",
	} {
		_, err := ParseTimestamp(s)
		assert.Error(t, err, "%q", s)
	}
}

// FuzzProve gives the client what a hostile or broken server may send: it must answer or refuse, never panic.
func FuzzProve(f *testing.F) {
	for _, v := range readVectors(f).Proofs[:3] {
		f.Add(v.UserID, v.Salt, v.B, v.SecretBlock)
	}
	f.Add("", "", "", "")
	f.Add("u", "0", "0", "=")
	f.Add("u", "-1", "-1", "AA==")
	f.Add("u", "abc", primeHex, "AAAA")
	f.Add("\xff", "0x1", "1_0", "\r\nAAAA")
	c := newClient(big.NewInt(12345))
	f.Fuzz(func(t *testing.T, userID, salt, b, secretBlock string) {
		proof, err := c.Prove("pool", "password", Challenge{UserID: userID, Salt: salt, B: b, SecretBlock: secretBlock},
			time.Date(2026, 11, 7, 16, 5, 9, 0, time.UTC))
		if err != nil {
			if proof != (Proof{}) {
				t.Fatal("an error with a proof")
			}
			return
		}
		if n := number(t, b); new(big.Int).Mod(n, prime).Sign() == 0 {
			t.Fatal("accepted B = 0 mod N")
		}
		sig, err := base64.StdEncoding.DecodeString(proof.Signature)
		if err != nil || len(sig) != 32 || proof.Timestamp != "Sat Nov 7 16:05:09 UTC 2026" {
			t.Fatalf("bad proof %+v", proof)
		}
	})
}
