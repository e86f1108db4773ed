package ftp

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOptionsAreChecked(t *testing.T) {
	valid := func() Options {
		return Options{Listener: &net.TCPListener{}, Backend: newMemory(), Users: []User{{Name: "dock", Password: "s3cret"}}}
	}
	for want, change := range map[string]func(*Options){
		"Listener is missing":                      func(o *Options) { o.Listener = nil },
		"Backend is missing":                       func(o *Options) { o.Backend = nil },
		"user 2 has no name":                       func(o *Options) { o.Users = append(o.Users, User{Password: "s3cret"}) },
		`user "dock" is there twice`:               func(o *Options) { o.Users = append(o.Users, o.Users[0]) },
		`PublicAddress "::1": expected an IPv4`:    func(o *Options) { o.PublicAddress = "::1" },
		`PublicAddress "a b": expected an IPv4`:    func(o *Options) { o.PublicAddress = "a b" },
		"PassivePorts 5-4: expected two ports":     func(o *Options) { o.PassivePorts = PortRange{5, 4} },
		"PassivePorts 1-70000: expected two ports": func(o *Options) { o.PassivePorts = PortRange{1, 70000} },
		`TLS "yes": expected off, optional`:        func(o *Options) { o.TLS = "yes" },
		"IdleTimeout -1ns: expected a duration":    func(o *Options) { o.IdleTimeout = -1 },
		"MaxConnections -1: expected a number":     func(o *Options) { o.MaxConnections = -1 },
		"control characters in the name":           func(o *Options) { o.Users[0].Name = "a\nb" },
		`user "a\u0085b": control characters`:      func(o *Options) { o.Users[0].Name = "a\u0085b" },
	} {
		opts := valid()
		change(&opts)
		err := opts.complete()
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "s3cret")
	}
	opts := valid()
	require.NoError(t, opts.complete())
	require.Equal(t, TLSOff, opts.TLS)

	opts = valid()
	opts.Users, opts.Backend = nil, nil
	require.NoError(t, opts.complete(), "nobody can log in, so nobody needs a backend")

	opts = valid()
	opts.Users[0].PasswordHash = "x"
	opts.Users = append(opts.Users, User{Name: "b"})
	opts.TLS = "yes"
	err := opts.complete()
	require.ErrorContains(t, err, "TLS")
}
