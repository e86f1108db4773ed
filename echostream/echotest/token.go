package echotest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"sync"
)

// signingKey signs the JSON Web Tokens of all clouds in the process: making a key takes long, and no one relies on the
// signature but clients that want to see one. A cloud itself knows the tokens that it gave out.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("echotest: make a signing key: " + err.Error())
	}
	return key
})

const keyID = "echotest"

// signToken makes a JSON Web Token, signed with RS256.
func signToken(claims map[string]any) string {
	header, _ := json.Marshal(map[string]string{"alg": "RS256", "kid": keyID, "typ": "JWT"})
	payload, _ := json.Marshal(claims)
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, signingKey(), crypto.SHA256, sum[:])
	if err != nil {
		panic("echotest: sign a token: " + err.Error())
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// KeySet is the JSON Web Key Set that tokens can be verified with. It is also at .well-known/jwks.json.
func (c *Cloud) KeySet() []byte {
	public := signingKey().PublicKey
	set, _ := json.Marshal(map[string]any{"keys": []map[string]string{{
		"alg": "RS256", "kid": keyID, "kty": "RSA", "use": "sig",
		"n": base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
	}}})
	return set
}

func (c *Cloud) serveKeys(w http.ResponseWriter, r *http.Request) {
	c.handle(w, r, Cognito, "GetJwks", "", func(w http.ResponseWriter, e effect) {
		if e.refuse != "" {
			http.Error(w, "unavailable", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(c.KeySet())
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("echotest: write an answer: " + err.Error())
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
