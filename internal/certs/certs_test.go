package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

func openDir(t *testing.T) (*disk.OS, string) {
	t.Helper()
	dir := t.TempDir()
	fsys, err := disk.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { fsys.Close() })
	return fsys, dir
}

// pairOf makes a certificate for host, as the PEM of both.
func pairOf(t *testing.T, host string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	text, err := generate([]string{host}, key)
	require.NoError(t, err)
	return string(text)
}

func subject(t *testing.T, s *Source) string {
	t.Helper()
	c, err := s.Get(nil)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	require.NoError(t, err)
	return leaf.Subject.CommonName
}

func TestSelfSignedIsMadeOnceAndKept(t *testing.T) {
	fsys, dir := openDir(t)
	opts := Options{FS: fsys, Hosts: []string{"", "ftp.example.com", "192.0.2.10"}}
	a, err := New(opts)
	require.NoError(t, err)
	require.Equal(t, "ftp.example.com", subject(t, a))
	info, err := os.Stat(filepath.Join(dir, SelfSignedFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	var log bytes.Buffer
	opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	b, err := New(opts)
	require.NoError(t, err)
	require.Equal(t, a.Fingerprint(), b.Fingerprint())
	require.Len(t, a.Fingerprint(), 32*3-1)
	require.Contains(t, log.String(), a.Fingerprint())
	require.NotContains(t, log.String(), "PRIVATE")

	require.NoError(t, os.WriteFile(filepath.Join(dir, SelfSignedFile), []byte("torn"), 0o600))
	c, err := New(opts)
	require.NoError(t, err)
	require.NotEqual(t, a.Fingerprint(), c.Fingerprint())
}

// TestBothKinds: a client that knows RSA only gets the RSA certificate, others the ECDSA one, and both stay. A volume that has only the former
// keeps it.
func TestBothKinds(t *testing.T) {
	fsys, dir := openDir(t)
	opts := Options{FS: fsys, Hosts: []string{"ftp.example.com"}}
	old := pairOf(t, "old")
	require.NoError(t, os.WriteFile(filepath.Join(dir, SelfSignedFile), []byte(old), 0o600))
	serve := func(s *Source, name string, suites ...uint16) (x509.PublicKeyAlgorithm, []byte) {
		t.Helper()
		near, far := net.Pipe()
		defer near.Close()
		go func() { _ = tls.Server(far, &tls.Config{GetCertificate: s.Get}).Handshake(); far.Close() }()
		config := &tls.Config{InsecureSkipVerify: true, CipherSuites: suites, ServerName: name}
		if suites != nil {
			config.MaxVersion = tls.VersionTLS12
		}
		c := tls.Client(near, config)
		require.NoError(t, c.Handshake())
		leaf := c.ConnectionState().PeerCertificates[0]
		return leaf.PublicKeyAlgorithm, leaf.Raw
	}
	s, err := New(opts)
	require.NoError(t, err)
	require.Equal(t, "old", subject(t, s))
	kind, ecdsaCert := serve(s, "")
	require.Equal(t, x509.ECDSA, kind)
	kind, _ = serve(s, "another.example.com")
	require.Equal(t, x509.ECDSA, kind, "a name that is not the certificate's is no reason")
	kind, rsaCert := serve(s, "", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA)
	require.Equal(t, x509.RSA, kind)
	info, err := os.Stat(filepath.Join(dir, SelfSignedRSAFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())

	var log bytes.Buffer
	opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	s, err = New(opts)
	require.NoError(t, err)
	_, again := serve(s, "")
	require.Equal(t, ecdsaCert, again)
	_, again = serve(s, "", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA)
	require.Equal(t, rsaCert, again)
	require.Contains(t, log.String(), fingerprint(&tls.Certificate{Certificate: [][]byte{rsaCert}}))

	// A certificate of one's own is the only one.
	s, err = New(Options{Certificate: old, PrivateKey: old, FS: fsys})
	require.NoError(t, err)
	c, err := s.Get(&tls.ClientHelloInfo{})
	require.NoError(t, err)
	require.Equal(t, ecdsaCert, c.Certificate[0])
}

func TestFilesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "both.pem")
	require.NoError(t, os.WriteFile(path, []byte(pairOf(t, "one")), 0o600))
	var log bytes.Buffer
	s, err := New(Options{Certificate: path, PrivateKey: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Equal(t, "one", subject(t, s))

	require.NoError(t, os.WriteFile(path, []byte("half a fi"), 0o600))
	for range 3 {
		require.Equal(t, "one", subject(t, s))
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("level=WARN")))

	require.NoError(t, os.WriteFile(path, []byte(pairOf(t, "another")), 0o600))
	require.NoError(t, os.Chtimes(path, time.Now(), time.Now().Add(time.Minute)))
	require.Equal(t, "another", subject(t, s))
}

func TestFilesThatComeLater(t *testing.T) {
	dir := t.TempDir()
	volume, err := disk.Open(dir)
	require.NoError(t, err)
	defer volume.Close()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var log bytes.Buffer
	s, err := New(Options{Certificate: cert, PrivateKey: key, FS: volume, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Contains(t, log.String(), "a self-signed one is, until its files change")
	require.Equal(t, "ftpnode", subject(t, s))

	pair := pairOf(t, "late")
	require.NoError(t, os.WriteFile(key, []byte(pair), 0o600))
	for range 3 {
		require.Equal(t, "ftpnode", subject(t, s), "the certificate is still to come")
	}
	require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("level=WARN")), "told once")
	require.NoError(t, os.WriteFile(cert, []byte(pair), 0o600))
	require.Equal(t, "late", subject(t, s))
}

func TestPEMAndErrors(t *testing.T) {
	both := pairOf(t, "pem")
	s, err := New(Options{Certificate: both, PrivateKey: both})
	require.NoError(t, err)
	require.Equal(t, "pem", subject(t, s))

	for name, opts := range map[string]Options{
		"key alone":     {PrivateKey: both},
		"no such file":  {Certificate: "/no/such/file", PrivateKey: both},
		"not a pair":    {Certificate: both, PrivateKey: pairOf(t, "other")},
		"bare key":      {Certificate: both, PrivateKey: "MIGHAgEAMBMGByqGSM49"},
		"nowhere to be": {},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(opts)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "MIGHAg")
		})
	}
}
