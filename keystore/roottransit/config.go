package roottransit

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Config says which keys of which Vault or OpenBao, and how to log in there. It holds no
// secret. Parse makes one from a URL.
type Config struct {
	Address   string // of the server, as https://vault.example.com:8200
	Namespace string // of Vault Enterprise or OpenBao; usually empty
	Mount     string // path of the transit engine, as transit
	Key       string // name of the key in it
	KV        string // path of the KV engine of version 2, as secret
	Path      string // where the documents stand in it, as oubli

	Auth         string        // AuthToken, AuthAppRole or AuthKubernetes; empty: AuthToken
	AuthMount    string        // path of the login; empty: the name of Auth
	Role         string        // role id of an AppRole, which Setup comes before; or name of a role for Kubernetes
	SecretIDFile string        // file with the secret id of an AppRole; else Options has it
	JWTFile      string        // file with the service account's token; empty: where Kubernetes puts it
	Copies       time.Duration // how long snapshots of Vault's storage are kept
}

// Ways to log in.
const (
	AuthToken      = "token"
	AuthAppRole    = "approle"
	AuthKubernetes = "kubernetes"
)

const scheme = "transit:"

// Parse reads a URL of the form
//
//	transit:https://HOST:PORT/MOUNT/KEY?kv=MOUNT/PATH
//
// with the parameters auth, auth_mount, role, secret_id_file, jwt_file, namespace and copies
// (a duration as 720h). MOUNT may have several segments in the path; in kv it is the first
// segment, or what stands before a colon (kv=team/secret:oubli). Errors wrap
// [keystore.ErrInvalid] and repeat no value of a parameter.
func Parse(text string) (*Config, error) {
	bad := func(format string, a ...any) (*Config, error) {
		return nil, fmt.Errorf("%w: root store transit: %s; write transit:https://HOST:PORT/MOUNT/KEY?kv=MOUNT/PATH", keystore.ErrInvalid, fmt.Sprintf(format, a...))
	}
	rest, ok := strings.CutPrefix(text, scheme)
	if !ok {
		return bad("the URL does not begin with transit:")
	}
	u, err := url.Parse(rest)
	switch {
	case err != nil:
		return bad("the address is not a URL") // err repeats it, which may hold a password
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Fragment != "":
		return bad("the address is not one of http or https")
	case u.User != nil:
		return bad("user and password do not belong in the address; Vault takes a token")
	}
	c := &Config{Address: canonical(u)}
	path := strings.Trim(u.Path, "/")
	cut := strings.LastIndexByte(path, '/')
	if cut < 0 {
		return bad("the path has to name the mount of the transit engine and the key")
	}
	c.Mount, c.Key = path[:cut], path[cut+1:]

	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return bad("the parameters can't be read")
	}
	for name, values := range q {
		if len(values) != 1 {
			return bad("the parameter %s is given %d times", name, len(values))
		}
		v := values[0]
		switch name {
		case "kv":
			kv := strings.Trim(v, "/")
			if c.KV, c.Path, ok = strings.Cut(kv, ":"); !ok {
				c.KV, c.Path, _ = strings.Cut(kv, "/")
			}
		case "auth":
			c.Auth = v
		case "auth_mount":
			c.AuthMount = strings.Trim(v, "/")
		case "role":
			c.Role = v
		case "secret_id_file":
			c.SecretIDFile = v
		case "jwt_file":
			c.JWTFile = v
		case "namespace":
			c.Namespace = strings.Trim(v, "/")
		case "copies":
			if c.Copies, err = time.ParseDuration(v); err != nil || c.Copies < 0 {
				return bad("copies is not a duration such as 720h")
			}
		default:
			return bad("the parameter %q is unknown", name)
		}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

// canonical is the one way to write the address of a server: a keystore's record names the
// place of its root, and must not find another in it.
func canonical(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host += ":" + port
	}
	return (&url.URL{Scheme: u.Scheme, Host: host}).String()
}

// check refuses what can't be right.
func (c *Config) check() error {
	bad := func(what string) error {
		return fmt.Errorf("%w: root store transit: %s", keystore.ErrInvalid, what)
	}
	if u, err := url.Parse(c.Address); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || canonical(u) != c.Address {
		return bad("the address is not of the form https://HOST:PORT, in lower case and without a port that goes without saying")
	}
	paths := map[string]string{"the mount of the transit engine": c.Mount, "the key": c.Key, "the mount of the KV engine": c.KV, "the path in the KV engine": c.Path}
	for what, path := range paths {
		if path == "" {
			return bad(what + " is missing; the KV engine is given as kv=MOUNT/PATH")
		}
	}
	paths["namespace"], paths["auth_mount"] = c.Namespace, c.AuthMount
	if c.auth() == AuthKubernetes {
		paths["role"] = c.Role
	}
	for what, path := range paths {
		if path == "" {
			continue
		}
		for _, r := range path {
			// What stands in paths of requests, in policies, where * and + are patterns, and in
			// commands for a shell.
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./", r) {
				return bad(what + " has a character other than letters, digits, - _ . and /")
			}
		}
		for _, part := range strings.Split(path, "/") {
			if part == "" || part == "." || part == ".." {
				return bad(what + " has an empty part, or one that is . or ..")
			}
		}
	}
	switch {
	case strings.Contains(c.Key, "/"):
		return bad("the name of the key has a slash")
	case c.auth() != AuthToken && c.auth() != AuthAppRole && c.auth() != AuthKubernetes:
		return bad("auth is none of token, approle and kubernetes")
	case c.auth() == AuthKubernetes && c.Role == "":
		return bad("logging in with kubernetes needs role")
	case c.auth() == AuthToken && (c.Role != "" || c.AuthMount != ""):
		return bad("role and auth_mount are for auth=approle and auth=kubernetes")
	case c.auth() != AuthAppRole && c.SecretIDFile != "":
		return bad("secret_id_file is for auth=approle")
	case c.auth() != AuthKubernetes && c.JWTFile != "":
		return bad("jwt_file is for auth=kubernetes")
	}
	return nil
}

func (c *Config) auth() string {
	if c.Auth == "" {
		return AuthToken
	}
	return c.Auth
}

func (c *Config) authMount() string {
	if c.AuthMount == "" {
		return c.auth()
	}
	return c.AuthMount
}

// URL is the canonical URL of the place: without what concerns logging in and copies.
// Parse reads it.
func (c *Config) URL() string {
	kv := c.KV + "/" + c.Path
	if strings.Contains(c.KV, "/") {
		kv = c.KV + ":" + c.Path
	}
	u := scheme + c.Address + "/" + c.Mount + "/" + c.Key + "?kv=" + kv
	if c.Namespace != "" {
		u += "&namespace=" + url.QueryEscape(c.Namespace)
	}
	return u
}
