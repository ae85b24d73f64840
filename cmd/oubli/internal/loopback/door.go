package loopback

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// enter is the path of the link, below the room's.
const enter = "enter"

// Door is an http.Handler before another one. Who comes with its link, and is the first to
// do so, gets a cookie, and whoever has that gets through, until the process ends. It is
// safe for concurrent use.
type Door struct {
	next   http.Handler
	logger *slog.Logger
	hosts  []string // under which it is reached
	name   string   // of the cookie: cookies do not know ports, and another door may have one
	room   string   // path below which all is: a browser sends the cookie there alone, and not to whatever else listens on this host
	link   string
	key    [sha256.Size]byte // digest of the link's key, and of the session's below
	pass   string
	digest [sha256.Size]byte
	used   atomic.Bool
}

// NewDoor makes a door for what is served at an address. logger hears of those who are
// turned away, without what they came with.
func NewDoor(at net.Addr, next http.Handler, logger *slog.Logger) (*Door, error) {
	tcp, ok := at.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("%s is not an address of TCP", at)
	}
	key := secret()
	d := &Door{logger: logger, pass: secret(), room: "/" + secret() + "/"}
	d.next = http.StripPrefix(strings.TrimSuffix(d.room, "/"), next)
	d.key, d.digest = sha256.Sum256([]byte(key)), sha256.Sum256([]byte(d.pass))
	var name [8]byte
	rand.Read(name[:])
	d.name = "oubli-" + hex.EncodeToString(name[:])
	port := strconv.Itoa(tcp.Port)
	own := tcp.IP.String()
	for _, host := range []string{own, "127.0.0.1", "::1", "localhost"} {
		d.hosts = append(d.hosts, net.JoinHostPort(host, port))
		if tcp.Port == 80 { // which browsers leave out
			d.hosts = append(d.hosts, host, "["+host+"]")
		}
	}
	d.link = "http://" + net.JoinHostPort(own, port) + d.room + enter + "?" + url.Values{"key": {key}}.Encode()
	return d, nil
}

// secret is a random text of 256 bits.
func secret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Link is the way in. It works once.
func (d *Door) Link() string { return d.link }

// ServeHTTP lets a request through, or turns it away. A request under a name that is not
// this machine's is one of a page elsewhere, whose name was made to lead here (DNS
// rebinding).
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, found := strings.CutPrefix(r.URL.Path, d.room)
	switch {
	case !slices.Contains(d.hosts, r.Host):
		d.turnAway(w, r, http.StatusMisdirectedRequest, "under another name", "This page answers under the address of its link alone.")
	case found && path == enter:
		d.letIn(w, r)
	case !found || !d.known(r):
		d.turnAway(w, r, http.StatusForbidden, "without a session", "Open this page with the link that the terminal shows. It works once, for one browser: if that was closed, start the command again for a new one.")
	default:
		d.next.ServeHTTP(w, r)
	}
}

// letIn exchanges the link's key for the cookie, once.
func (d *Door) letIn(w http.ResponseWriter, r *http.Request) {
	key := sha256.Sum256([]byte(r.URL.Query().Get("key")))
	right := subtle.ConstantTimeCompare(key[:], d.key[:]) == 1
	switch {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		d.turnAway(w, r, http.StatusMethodNotAllowed, "with a link that was not opened", "The link is to be opened in a browser.")
	case !right:
		d.turnAway(w, r, http.StatusForbidden, "with a wrong link", "This link is not the one that the terminal shows.")
	case d.used.Swap(true) && !d.known(r):
		d.turnAway(w, r, http.StatusForbidden, "with a link that was used before", "This link has been used. Start the command again for a new one: what was begun goes on. If it was not you who used it, do so at once, for that ends the other's session.")
	default:
		http.SetCookie(w, &http.Cookie{Name: d.name, Value: d.pass, Path: d.room, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		headers(w)
		w.Header().Set("Location", d.room)
		w.WriteHeader(http.StatusSeeOther)
	}
}

// known tells whether a request has the cookie.
func (d *Door) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(d.name) {
		digest := sha256.Sum256([]byte(c.Value))
		if subtle.ConstantTimeCompare(digest[:], d.digest[:]) == 1 {
			return true
		}
	}
	return false
}

func (d *Door) turnAway(w http.ResponseWriter, r *http.Request, code int, why, words string) {
	d.logger.Warn("somebody was turned away who came "+why, "from", r.RemoteAddr)
	headers(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, page, code, http.StatusText(code), words)
	}
}

// page is one that nobody is let in by: it has no style, which would be one more path to
// leave open.
const page = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>%d %[2]s</title>
</head>
<body>
<main>
<h1>%[2]s</h1>
<p>%[3]s</p>
</main>
</body>
</html>
`

// headers keep an answer out of caches, frames and the sight of others.
func headers(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}
