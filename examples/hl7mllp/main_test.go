package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ftpnode/ftpnode/echostream/echotest"
	"github.com/ftpnode/ftpnode/echostream/node/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m, main) }

var hl7 = echotest.MessageType{Name: "echo.hl7", SampleMessage: "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|1|P|2.5\r"}

func bridge(address, config string) nodetest.Bridge {
	return nodetest.Bridge{
		Data: "HL7MLLP_DATA", Config: config, Env: map[string]string{"HL7MLLP_ADDR": address}, MessageType: hl7,
		Item: func(n int, _ bool) nodetest.Item {
			id := fmt.Sprintf("M%05d", n)
			return nodetest.Item{Name: id, Content: []byte(message("LAB", id))}
		},
		Read: func(_ context.Context, _ *echotest.Cloud, m echotest.Received) (nodetest.Item, error) {
			return nodetest.Item{Content: []byte(m.Body)}, nil
		},
		Feed: func(ctx context.Context, _ string, item nodetest.Item) error {
			s, err := dial(ctx, address, nil)
			if err != nil {
				return err
			}
			defer s.Close()
			code, _, reason, err := s.send(string(item.Content))
			if err == nil && code != "AA" {
				err = fmt.Errorf("%s: %s", code, reason)
			}
			return err
		},
	}
}

func message(sender, id string) string {
	return `MSH|^~\&|` + sender + `|WARD|HIS|MAIN|20261126||ORU^R01|` + id + "|P|2.5.1|||||||UNICODE UTF-8\rPID|1||4711||Müller^Anna\r"
}

// sender is a system that sends messages.
type sender struct {
	net.Conn
	r *bufio.Reader
}

func dial(ctx context.Context, address string, secure *tls.Config) (*sender, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	return &sender{conn, bufio.NewReader(conn)}, nil
}

// send sends a message and reads its reply.
func (s *sender) send(text string) (code, controlID, reason string, err error) {
	if _, err := fmt.Fprintf(s, "\x0b%s\x1c\r", text); err != nil {
		return "", "", "", err
	}
	reply, err := readFrame(s.r, 1<<20, func() {})
	if err != nil {
		return "", "", "", err
	}
	segments := strings.Split(string(reply), "\r")
	if len(segments) < 2 || !strings.HasPrefix(segments[0], "MSH|") {
		return "", "", "", fmt.Errorf("the reply is %q", reply)
	}
	msa := append(strings.Split(segments[1], "|"), "", "", "")
	return msa[1], msa[2], msa[3], nil
}

func TestNode(t *testing.T) {
	t.Parallel()
	nodetest.Suite(t, func(t *testing.T) nodetest.Bridge { return bridge(nodetest.Address(t), "") })
}

// run starts a node and gives the way to dial it.
func run(t *testing.T, config string) (r *nodetest.Rig, connect func(*tls.Config) *sender) {
	address := nodetest.Address(t)
	r = nodetest.New(t, bridge(address, config))
	r.Start()
	return r, func(secure *tls.Config) *sender {
		r.WaitLog("MLLP is served")
		s, err := dial(t.Context(), address, secure)
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
}

func TestReplies(t *testing.T) {
	r, connect := run(t, "")
	s := connect(nil)
	for _, c := range []struct{ name, text, code, id, reason string }{
		{"well-formed", message("LAB", "1"), "AA", "1", ""},
		{"no HL7", "GET / HTTP/1.1\r\n", "AE", "", "this is no HL7 message"},
		{"empty", "", "AE", "", "this is no HL7 message"},
		{"no control id", "MSH|^~\\&|A|B|C|D|20260101||ADT^A01||P|2.5\r", "AE", "", "MSH-10 (control id)"},
		{"other delimiters", "MSH$%~\\&$A$B$C$D$20260101$$ADT%A01$7$P$2.5\r", "", "", ""},
		{"Latin-1 that says so", "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|2|P|2.5||||||8859/1\rPID|M\xfcller\r", "AA", "2", ""},
		{"Latin-1 that does not", "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|3|P|2.5\rPID|M\xfcller\r", "AE", "3", "not UTF-8"},
		{"a control character", "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|4|P|2.5\rPID|\x01\r", "AE", "4", "U+0001"},
		{"too long", message("LAB", "5") + "OBX|" + strings.Repeat("x", 262144), "AE", "5", "262144"},
		{"after all that", message("LAB", "6"), "AA", "6", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.code == "" { // its reply is in its own delimiters
				_, err := fmt.Fprintf(s, "\x0b%s\x1c\r", c.text)
				require.NoError(t, err)
				reply, err := readFrame(s.r, 1<<20, func() {})
				require.NoError(t, err)
				assert.Regexp(t, `^MSH\$%~\\&\$C\$D\$A\$B\$\d{14}\+0000\$\$ACK%A01\$\d{20}\$P\$2.5\rMSA\$AA\$7\r$`, string(reply))
				return
			}
			code, id, reason, err := s.send(c.text)
			require.NoError(t, err)
			assert.Equal(t, []string{c.code, c.id}, []string{code, id}, reason)
			assert.Contains(t, reason, c.reason)
		})
	}
	messages, err := r.Cloud.WaitMessages(t.Context(), "erp", 4)
	require.NoError(t, err)
	var bodies []string // each sender's in order, but not all of them
	for _, m := range messages {
		bodies = append(bodies, m.Body)
	}
	assert.Len(t, bodies, 4)
	assert.Contains(t, bodies, message("LAB", "1"))
	assert.Contains(t, bodies, "MSH|^~\\&|A|B|C|D|20260101||ADT^A01|2|P|2.5||||||8859/1\rPID|Müller\r")
	require.Eventually(t, func() bool { return len(r.Cloud.AuditRecords()) == 4 }, time.Minute, 10*time.Millisecond)
	var attributes []map[string]any
	for _, record := range r.Cloud.AuditRecords() {
		attributes = append(attributes, record.Attributes)
	}
	assert.Contains(t, attributes, map[string]any{"control_id": "1", "message_type": "ORU^R01", "sending_application": "LAB", "sending_facility": "WARD"})
}

func TestManySenders(t *testing.T) {
	r, connect := run(t, "")
	const senders, each = 20, 10
	var group sync.WaitGroup
	for n := range senders {
		s := connect(nil)
		group.Go(func() {
			for i := range each {
				code, id, reason, err := s.send(message(fmt.Sprint("LAB", n), fmt.Sprint(i)))
				assert.NoError(t, err)
				assert.Equal(t, []string{"AA", fmt.Sprint(i)}, []string{code, id}, reason)
			}
		})
	}
	group.Wait()
	messages, err := r.Cloud.WaitMessages(t.Context(), "archive", senders*each)
	require.NoError(t, err)
	order := map[string]int{}
	for _, m := range messages {
		h, _, err := parse([]byte(m.Body))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(order[h.field(3)]), h.field(10), "each sender's messages come in order")
		order[h.field(3)]++
	}
	assert.Len(t, order, senders)
}

// Where the volume goes with the container, AA says that EchoStream has the message.
func TestDelivered(t *testing.T) {
	r, connect := run(t, `{"acknowledge": "delivered", "acknowledgeTimeout": "1s"}`)
	s := connect(nil)
	r.WaitLog("stored=false")
	send := func(id string) (string, string) {
		code, _, reason, err := s.send(message("LAB", id))
		require.NoError(t, err)
		return code, reason
	}
	require.Eventually(t, func() bool { code, _ := send("1"); return code == "AA" }, time.Minute, 10*time.Millisecond, "as soon as the definition is read")
	assert.Len(t, r.Cloud.Messages("archive"), 1, "it is there before its AA")
	assert.Len(t, r.Cloud.Messages("erp"), 1)

	r.Cloud.Fault(echotest.Fault{Service: echotest.SQS, Edge: "erp", Kind: echotest.ServerError})
	code, reason := send("2")
	assert.Equal(t, "AR", code, "nobody knows whether it will arrive")
	assert.NotEmpty(t, reason)
	r.Cloud.ClearFaults()
	require.Eventually(t, func() bool { code, _ := send("2"); return code == "AA" }, time.Minute, 10*time.Millisecond, "sent again")
	for _, edge := range []string{"archive", "erp"} {
		var bodies []string
		for _, m := range r.Cloud.Messages(edge) {
			bodies = append(bodies, m.Body)
		}
		assert.Equal(t, []string{message("LAB", "1"), message("LAB", "2")}, bodies, "the second try joins the first")
	}
}

func TestTLS(t *testing.T) {
	address := nodetest.Address(t)
	r := nodetest.New(t, bridge(address, `{"tls": {"certificate": "tls/cert.pem", "privateKey": "tls/key.pem"}}`))
	pool := certificate(t, filepath.Join(r.Dir, "tls"))
	r.Start()
	r.WaitLog("MLLP is served", "tls=true")
	s, err := dial(t.Context(), address, &tls.Config{RootCAs: pool, ServerName: "hl7.example.com"})
	require.NoError(t, err)
	defer s.Close()
	code, _, reason, err := s.send(message("LAB", "1"))
	require.NoError(t, err)
	assert.Equal(t, "AA", code, reason)

	plain, err := dial(t.Context(), address, nil)
	require.NoError(t, err)
	defer plain.Close()
	_, _, _, err = plain.send(message("LAB", "2"))
	require.Error(t, err, "nothing is taken in the clear")
	_, err = r.Cloud.WaitMessages(t.Context(), "erp", 1)
	require.NoError(t, err)
}

func certificate(t *testing.T, dir string) *x509.CertPool {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"hl7.example.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// A frame may come in pieces, behind noise, and without the carriage return at its end.
func TestFrames(t *testing.T) {
	r := bufio.NewReaderSize(bytes.NewReader([]byte("\r\nnoise\x0bone\x1c\r\x0btwo\x1c\x0b"+strings.Repeat("x", 100)+"\x1c\r\x0bcut")), 16)
	for _, want := range []string{"one", "two", strings.Repeat("x", 11)} {
		got, err := readFrame(r, 10, func() {})
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
	_, err := readFrame(r, 10, func() {})
	require.ErrorContains(t, err, "unexpected EOF")
}
