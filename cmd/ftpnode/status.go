package main

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/ftpnode/ftpnode/echostream/node"
	"github.com/ftpnode/ftpnode/echostream/outbox"
	"github.com/ftpnode/ftpnode/ftp"
	"github.com/ftpnode/ftpnode/ftp/drop"
	"github.com/ftpnode/ftpnode/internal/status"
)

// watch is what the status tells of devices. It outlives the server and the drop of a config.
type watch struct {
	devices status.Devices

	mu    sync.Mutex
	drop  *drop.Drop // nil: there is none
	users []string   // who may log in
}

// serves notes what devices find from now on.
func (w *watch) serves(d *drop.Drop, users []ftp.User) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop, w.users = d, nil
	for _, u := range users {
		w.users = append(w.users, u.Name)
	}
}

func (w *watch) now() (*drop.Drop, []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drop, w.users
}

// tried notes what a device tried in vain.
func (w *watch) tried(a ftp.Attempt) {
	w.devices.Tried(node.Attempt{From: addressText(a.From), User: a.User, Tried: a.Tried, Advice: a.Advice})
}

func (w *watch) tell(n *node.Node, c Config) node.Devices {
	d, users := w.now()
	told := node.Devices{Senders: w.devices.Senders(users), Attempts: w.devices.Attempts(), MinFree: int64(c.Files.MinFree)}
	if len(users) == 0 {
		told.Refuses = "the config has no valid user; look at ftp.users"
	}
	if d == nil {
		return told
	}
	for _, u := range d.Uploading() {
		told.Uploads = append(told.Uploads, node.Upload{User: u.User, Name: u.Name, Bytes: u.Size, Since: u.Since, From: addressText(u.RemoteAddr)})
	}
	list, err := d.Interrupted()
	if err != nil {
		n.Log.Warn("the interrupted uploads cannot be listed for the status", "error", err)
	}
	for _, u := range list {
		told.Interrupted = append(told.Interrupted, node.Interrupted{ID: u.ID, User: u.User, Name: u.Name, Bytes: u.Size, Since: u.Since})
	}
	return told
}

// accept sends an interrupted upload that was whole.
func (w *watch) accept(_ *node.Node, id string) error {
	d, _ := w.now()
	if d == nil {
		return errors.New("the node knows no user yet, and so no upload")
	}
	return d.Accept(id)
}

// senderOf is the user that an entry came from.
func senderOf(e outbox.Entry) string {
	from, _ := receivedOf(e)
	return from.User
}

func statusPage(c Config) node.Page {
	return node.Page{
		Port: c.Status.Port, Password: c.Status.Password,
		Certificate: c.FTP.Certificate, PrivateKey: c.FTP.PrivateKey, Hosts: []string{c.FTP.PublicAddress},
	}
}

// watched is a maildrop whose log-ins and uploads are noted.
type watched struct {
	*maildrop
	devices *status.Devices
}

func (w watched) Login(user string, remote netip.Addr) (ftp.Session, error) {
	session, err := w.maildrop.Login(user, remote)
	if err != nil {
		return nil, err
	}
	w.devices.LoggedIn(user, addressText(remote))
	return watchedSession{session.(maildropSession), user, w.devices}, nil
}

type watchedSession struct {
	maildropSession
	user    string
	devices *status.Devices
}

func (s watchedSession) Create(name string, how ftp.Start) (ftp.Upload, error) {
	u, err := s.maildropSession.Create(name, how)
	if err != nil {
		return nil, err
	}
	return watchedUpload{u, s}, nil
}

type watchedUpload struct {
	ftp.Upload
	session watchedSession
}

func (u watchedUpload) Commit() error {
	err := u.Upload.Commit()
	if err == nil {
		u.session.devices.Uploaded(u.session.user)
	}
	return err
}
