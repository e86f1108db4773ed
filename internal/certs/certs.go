// Package certs gives the server its TLS certificate.
//
// It comes from PEM texts, from files that are read again when they change (a broken new pair is reported
// once and the old one stays), or, without either and until the files can be used, from self-signed certificates that are
// made once and kept, each with its key in one file of mode 0600: an ECDSA one, and an RSA one for clients that know no other.
//
//	source, err := certs.New(certs.Options{FS: volume, Hosts: []string{"ftp.example.com"}})
//	config := &tls.Config{GetCertificate: source.Get}
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
)

// The names that the self-signed certificates and their keys are kept under.
const (
	SelfSignedFile    = "ftp-certificate.pem"
	SelfSignedRSAFile = "ftp-certificate-rsa.pem"
)

const rsaBits = 2048 // what devices that know RSA only can do

// Options of a source.
type Options struct {
	Certificate, PrivateKey string   // PEM, or the paths of PEM files. By default, a self-signed certificate
	FS                      disk.FS  // where the self-signed one is kept
	Hosts                   []string // the names and addresses in the self-signed one
	Log                     *slog.Logger
}

// Source is safe for concurrent use.
type Source struct {
	log                 *slog.Logger
	certPath, keyPath   string       // "" if the PEM was given
	reload              func() error // nil if there are no files
	mu                  sync.Mutex
	current             *tls.Certificate
	rsa                 *tls.Certificate // self-signed, for clients that cannot use current; nil if that is of files
	certStamp, keyStamp stamp
}

// stamp tells a file's state apart from later ones.
type stamp struct {
	size  int64
	mtime time.Time
	ino   uint64
}

// New loads or makes the certificate, and logs its fingerprint. Files that cannot be used are an error only if there is no FS
// for a self-signed one. Its errors hold nothing of the key.
func New(opts Options) (*Source, error) {
	s := &Source{log: opts.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	switch {
	case opts.Certificate == "" && opts.PrivateKey == "":
		if err := s.selfSigned(opts); err != nil {
			return nil, fmt.Errorf("self-signed certificate: %w", err)
		}
	case opts.Certificate == "" || opts.PrivateKey == "":
		return nil, errors.New("certificate and privateKey belong together; expected both or none")
	default:
		if !isPEM(opts.Certificate) {
			s.certPath = opts.Certificate
		}
		if !isPEM(opts.PrivateKey) {
			s.keyPath = opts.PrivateKey
		}
		load := func() error { return s.load(opts.Certificate, opts.PrivateKey) }
		err := load()
		if s.certPath != "" || s.keyPath != "" {
			s.reload = load
			if err != nil && opts.FS != nil {
				// A mount may come late, or the two files may just be being renewed.
				s.log.Error("the certificate cannot be used; a self-signed one is, until its files change", "path", "ftp.certificate", "error", err)
				err = s.selfSigned(opts)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	s.report("TLS certificate")
	return s, nil
}

// Get is for tls.Config.GetCertificate.
func (s *Source) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reload != nil && (stampOf(s.certPath) != s.certStamp || stampOf(s.keyPath) != s.keyStamp) {
		if err := s.reload(); err != nil {
			s.log.Warn("the changed TLS certificate cannot be used, the former one stays", "error", err)
		} else {
			s.report("TLS certificate changed")
		}
	}
	if s.rsa != nil && hello != nil {
		unnamed := *hello
		unnamed.ServerName = "" // both are for the same names, which may not be those that clients use
		if unnamed.SupportsCertificate(s.current) != nil {
			return s.rsa, nil
		}
	}
	return s.current, nil
}

// Fingerprint is the SHA-256 of the certificate, as clients show it.
func (s *Source) Fingerprint() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fingerprint(s.current)
}

func (s *Source) report(message string) {
	attrs := []any{"sha256", fingerprint(s.current)}
	if s.rsa != nil {
		attrs = append(attrs, "sha256OfRSA", fingerprint(s.rsa))
	}
	if leaf := s.current.Leaf; leaf != nil {
		attrs = append(attrs, "subject", leaf.Subject.String(), "notAfter", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	s.log.Info(message, attrs...)
}

// load reads the pair. The stamps are taken first, so that a change while reading is seen next time, and kept
// even if it fails, so that a broken pair is reported once.
func (s *Source) load(cert, key string) error {
	if s.certPath != "" {
		s.certStamp = stampOf(cert)
	}
	if s.keyPath != "" {
		s.keyStamp = stampOf(key)
	}
	var certPEM, keyPEM []byte
	var err error
	if s.certPath == "" {
		certPEM = []byte(cert)
	} else if certPEM, err = os.ReadFile(cert); err != nil {
		return fmt.Errorf("certificate: expected PEM or the path of a PEM file: %w", err)
	}
	if s.keyPath == "" {
		keyPEM = []byte(key)
	} else if keyPEM, err = os.ReadFile(key); err != nil {
		return fmt.Errorf("privateKey: expected PEM or the path of a PEM file: %w", cause(err))
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("certificate and privateKey: %w", err)
	}
	s.current, s.rsa = &pair, nil
	return nil
}

// cause leaves out the path: a key that was pasted without its PEM lines would be taken for one.
func cause(err error) error {
	if e := new(fs.PathError); errors.As(err, &e) {
		return e.Err
	}
	return err
}

func isPEM(text string) bool { return strings.Contains(text, "-----BEGIN ") }

func fingerprint(c *tls.Certificate) string {
	sum := sha256.Sum256(c.Certificate[0])
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// making has the FTP server and the status page, which start together, make one pair of certificates.
var making sync.Mutex

// selfSigned loads the self-signed certificates, and makes those that are not there or have expired.
func (s *Source) selfSigned(opts Options) error {
	if opts.FS == nil {
		return errors.New("there is no directory to keep it in")
	}
	making.Lock()
	defer making.Unlock()
	var err error
	if s.current, err = kept(opts, SelfSignedFile, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }); err != nil {
		return err
	}
	s.rsa, err = kept(opts, SelfSignedRSAFile, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, rsaBits) })
	return err
}

// kept is the certificate that the file holds, or a new one with a key by newKey.
func kept(opts Options, name string, newKey func() (crypto.Signer, error)) (*tls.Certificate, error) {
	text, err := disk.ReadFile(opts.FS, name, 1<<20)
	if err == nil {
		pair, err := tls.X509KeyPair(text, text)
		if err == nil && time.Now().Before(pair.Leaf.NotAfter) {
			return &pair, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	if text, err = generate(opts.Hosts, key); err != nil {
		return nil, err
	}
	if err := disk.WriteFile(opts.FS, name, text, 0o600); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(text, text)
	return &pair, err
}

// generate makes a certificate, as the PEM of it and its key.
func generate(hosts []string, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "ftpnode"},
		NotBefore:             now.Add(-24 * time.Hour), // devices' clocks
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if a, err := netip.ParseAddr(h); err == nil {
			template.IPAddresses = append(template.IPAddresses, a.AsSlice())
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	for _, h := range hosts {
		if h != "" {
			template.Subject.CommonName = h
			break
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return b.Bytes(), nil
}
