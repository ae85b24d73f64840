// Package loopback serves a page to the person who sits at this machine, and to nobody
// else: it listens on loopback alone, answers under its own names alone, and lets in who
// has a link that works once. It has neither TLS nor a login. What others are to reach
// belongs into an application that has both.
package loopback

import (
	"fmt"
	"net"
	"strconv"

	"github.com/oubli/oubli/keystore"
)

// Listen listens on an address of loopback, host and port; port 0 is any that is free. It
// refuses every other with an error that wraps [keystore.ErrInvalid] before it listens.
func Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not HOST:PORT, as 127.0.0.1:8470", keystore.ErrInvalid, address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("%w: %q is not the number of a port", keystore.ErrInvalid, port)
	}
	if host == "localhost" {
		host = "127.0.0.1" // whatever else a resolver makes of it
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%w: %s is not an address of this machine's loopback, and there is neither TLS nor a login here for others to come in by", keystore.ErrInvalid, address)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}
