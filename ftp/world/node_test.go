//go:build world

package world

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/ftpnode/ftpnode/echostream/disk"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
)

// role makes a process of this test's program a server or a client.
const role = "FTPNODE_WORLD_ROLE"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "node":
		err = serve(os.Args[1], os.Args[2])
	case "client":
		err = upload(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		slog.Error("failed", "role", os.Getenv(role), "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is the node: an FTP server on a volume in dir whose syncs take as long as said. It logs to standard output, in JSON, and runs until it is killed.
func serve(dir, sync string) error {
	took, err := time.ParseDuration(sync)
	if err != nil {
		return err
	}
	volume, err := disk.Open(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug}))
	box, err := outbox.Open(outbox.Options{FS: slowDisk{volume, took}, Deliverer: nowhere{}, Log: log})
	if err != nil {
		return err
	}
	describe := func(drop.File) (string, json.RawMessage) { return "", nil }
	files, err := drop.Open(drop.Options{FS: slowDisk{volume, took}, Outbox: box, Describe: describe, Log: log, Settle: settle, MinFree: -1})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", nodeAddress+":2121")
	if err != nil {
		return err
	}
	s, err := ftp.New(ftp.Options{
		Listener: listener, Backend: newMaildrop(files, nil), Log: log, TLS: ftp.TLSOptional, CertificateFS: volume, Settle: settle,
		Users:          []ftp.User{{Name: "dock", Password: "pass"}},
		PassivePorts:   ftp.PortRange{First: passivePort, Last: passivePort + passivePorts - 1},
		MaxConnections: 10_000, MaxConnectionsPerAddress: 10_000, StallTimeout: stall,
	})
	if err != nil {
		return err
	}
	log.Info("ready")
	return s.Serve(context.Background())
}

// nowhere has no target: what is finished stays.
type nowhere struct{}

func (nowhere) Targets() []string { return nil }
func (nowhere) Prepare(context.Context, outbox.Entry, func() (disk.File, error)) (any, error) {
	return nil, nil
}
func (nowhere) Send(context.Context, string, []outbox.Prepared) []error { return nil }
func (nowhere) Audit(context.Context, []outbox.Prepared) []error        { return nil }

// slowDisk has syncs that take the same time always, whatever the machine's disk needs.
type slowDisk struct {
	disk.FS
	sync time.Duration
}

func (d slowDisk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return slowFile{f, d.sync}, nil
}

func (d slowDisk) SyncDir(string) error {
	time.Sleep(d.sync)
	return nil
}

type slowFile struct {
	disk.File
	sync time.Duration
}

func (f slowFile) Sync() error {
	time.Sleep(f.sync)
	return nil
}
