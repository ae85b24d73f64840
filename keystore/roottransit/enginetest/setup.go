package enginetest

import (
	"bufio"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/oubli/oubli/keystore/roottransit"
)

// Config names a root store in this engine: key oubli of the mount transit, documents in
// secret/oubli. Setup makes it.
func (e *Engine) Config() *roottransit.Config {
	return &roottransit.Config{Address: e.URL(), Mount: "transit", Key: "oubli", KV: "secret", Path: "oubli"}
}

// Setup does what the administrator's commands of c say, and returns the token that they
// print, if they make one. Mounts that are there already are left alone.
func (e *Engine) Setup(c *roottransit.Config) (token string, err error) {
	lines := bufio.NewScanner(strings.NewReader(c.Setup()))
	for lines.Scan() {
		line, body := lines.Text(), ""
		if command, here := strings.CutSuffix(line, " - <<'EOF'"); here {
			line = command
			for lines.Scan() && lines.Text() != "EOF" {
				body += lines.Text() + "\n"
			}
		}
		got, err := e.run(strings.Fields(line), body)
		if err != nil {
			return "", fmt.Errorf("%s: %w", line, err)
		}
		if got != "" {
			token = got
		}
	}
	return token, nil
}

// run runs a command line of vault, as far as Config.Setup uses them.
func (e *Engine) run(words []string, body string) (token string, err error) {
	flags, args := map[string]string{}, []string{}
	for _, w := range words {
		if f, ok := strings.CutPrefix(w, "-"); ok {
			name, value, _ := strings.Cut(f, "=")
			flags[name] = value
		} else {
			args = append(args, w)
		}
	}
	admin := e.Admin()
	switch command := strings.Join(args[:min(3, len(args))], " "); {
	case command == "vault secrets enable":
		mount := &api.MountInput{Type: args[3]}
		if v, ok := flags["version"]; ok {
			mount.Options = map[string]string{"version": v}
		}
		return "", present(admin.Sys().Mount(flags["path"], mount))
	case command == "vault auth enable":
		return "", present(admin.Sys().EnableAuthWithOptions(args[3], &api.EnableAuthOptions{Type: args[3]}))
	case command == "vault policy write":
		return "", admin.Sys().PutPolicy(args[3], body)
	case command == "vault token create":
		secret, err := admin.Auth().Token().CreateOrphan(&api.TokenCreateRequest{Policies: []string{flags["policy"]}, Period: flags["period"]})
		if err != nil {
			return "", err
		}
		return secret.Auth.ClientToken, nil
	case strings.HasPrefix(command, "vault read"):
		_, err := admin.Logical().Read(args[2])
		return "", err
	case strings.HasPrefix(command, "vault write"):
		data := map[string]any{}
		for _, kv := range args[3:] {
			name, value, _ := strings.Cut(kv, "=")
			data[name] = value
		}
		_, err := admin.Logical().Write(args[2], data)
		return "", err
	}
	return "", fmt.Errorf("not a command that is known here: %q", words)
}

// present lets pass that something is mounted already.
func present(err error) error {
	if err != nil && strings.Contains(err.Error(), "in use") {
		return nil
	}
	return err
}

// Token makes a token with the policy of c that lives for ttl, and can be renewed up to
// max. max 0: as long as somebody renews it.
func (e *Engine) Token(c *roottransit.Config, ttl, max time.Duration) (string, error) {
	renewable := true
	r := &api.TokenCreateRequest{Policies: []string{c.PolicyName()}, TTL: ttl.String(), Renewable: &renewable}
	if max > 0 {
		r.ExplicitMaxTTL = max.String()
	} else {
		r.Period = ttl.String()
	}
	secret, err := e.Admin().Auth().Token().CreateOrphan(r)
	if err != nil {
		return "", err
	}
	return secret.Auth.ClientToken, nil
}

// AppRole makes an AppRole with the policy of c whose tokens live for ttl and are renewed
// up to max, and returns c with its role id, and a secret id.
func (e *Engine) AppRole(c *roottransit.Config, ttl, max time.Duration) (*roottransit.Config, string, error) {
	with := *c
	with.Auth = roottransit.AuthAppRole
	if _, err := e.Setup(&with); err != nil {
		return nil, "", err
	}
	admin, role := e.Admin().Logical(), "auth/approle/role/"+c.PolicyName()
	if _, err := admin.Write(role, map[string]any{"token_ttl": ttl.String(), "token_max_ttl": max.String(), "token_policies": c.PolicyName()}); err != nil {
		return nil, "", err
	}
	id, err := admin.Read(role + "/role-id")
	if err != nil {
		return nil, "", err
	}
	secret, err := admin.Write(role+"/secret-id", nil)
	if err != nil {
		return nil, "", err
	}
	with.Role = id.Data["role_id"].(string)
	return &with, secret.Data["secret_id"].(string), nil
}

// RevokeLogins revokes every token that a login gave, at once.
func (e *Engine) RevokeLogins(c *roottransit.Config) error {
	return e.Admin().Sys().RevokePrefix("auth/" + c.Auth + "/login")
}

// Open opens the root store of c, as an application does that has the token or, for an
// AppRole, the secret id.
func (e *Engine) Open(c *roottransit.Config, token, secretID string) (*roottransit.Store, error) {
	return roottransit.Open(e.Client(token), c, &roottransit.Options{SecretID: secretID})
}
