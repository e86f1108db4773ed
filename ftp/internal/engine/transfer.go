package engine

import (
	"errors"
	"io"
	"net"
)

// The library could do STOR, APPE and RETR, too. It would open a listener of its own for each, and leaves to its driver all that is
// more than copying: see doc.go.

// receive is STOR and APPE.
func (s *Session) receive(name string, appending bool, open func() (net.Conn, error)) error {
	var u Upload
	err := guarded(func() (err error) { u, err = s.files.Create(name, appending); return err })
	if err != nil {
		return err
	}
	var conn net.Conn
	broken := guarded(func() (err error) {
		if conn, err = open(); err != nil {
			return errors.Join(ErrNoData, err)
		}
		_, err = u.ReadFrom(conn)
		return err
	})
	err = guarded(func() error { return u.End(broken) })
	if conn != nil {
		_ = conn.Close()
	}
	if errors.Is(broken, ErrNoData) || errors.Is(broken, ErrInternal) {
		return broken
	}
	return err
}

// send is RETR.
func (s *Session) send(name string, open func() (net.Conn, error)) error {
	return guarded(func() error {
		file, err := s.files.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		conn, err := open()
		if err != nil {
			return errors.Join(ErrNoData, err)
		}
		defer conn.Close()
		from := &source{Reader: file}
		if _, err := io.Copy(conn, from); err != nil && from.err == nil {
			return errors.Join(ErrBroken, err)
		}
		return from.err
	})
}

// source notes its own error.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
