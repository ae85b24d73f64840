package enginetest

import (
	"context"
	"crypto/subtle"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// kubernetesFactory makes a stand-in for Vault's Kubernetes login, which would ask a
// cluster: role/NAME is written with the one service account token that it accepts, the
// policies and the lifetime in seconds. What the client sends and gets is the same.
func kubernetesFactory(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
	b := &framework.Backend{
		BackendType:  logical.TypeCredential,
		PathsSpecial: &logical.Paths{Unauthenticated: []string{"login"}},
		AuthRenew: func(_ context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
			return &logical.Response{Auth: req.Auth}, nil
		},
		Paths: []*framework.Path{{
			Pattern: "role/" + framework.GenericNameRegex("name"),
			Fields: map[string]*framework.FieldSchema{
				"name":     {Type: framework.TypeString},
				"jwt":      {Type: framework.TypeString},
				"policies": {Type: framework.TypeCommaStringSlice},
				"ttl":      {Type: framework.TypeDurationSecond},
			},
			Callbacks: map[logical.Operation]framework.OperationFunc{logical.UpdateOperation: writeRole},
		}, {
			Pattern: "login",
			Fields: map[string]*framework.FieldSchema{
				"role": {Type: framework.TypeString},
				"jwt":  {Type: framework.TypeString},
			},
			Callbacks: map[logical.Operation]framework.OperationFunc{logical.UpdateOperation: login},
		}},
	}
	return b, b.Setup(ctx, config)
}

// role is what role/NAME holds.
type role struct {
	JWT      string        `json:"jwt"`
	Policies []string      `json:"policies"`
	TTL      time.Duration `json:"ttl"`
}

func writeRole(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	entry, err := logical.StorageEntryJSON("role/"+d.Get("name").(string), role{
		JWT:      d.Get("jwt").(string),
		Policies: d.Get("policies").([]string),
		TTL:      time.Duration(d.Get("ttl").(int)) * time.Second,
	})
	if err != nil {
		return nil, err
	}
	return nil, req.Storage.Put(ctx, entry)
}

func login(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	entry, err := req.Storage.Get(ctx, "role/"+d.Get("role").(string))
	if err != nil {
		return nil, err
	}
	var r role
	if entry == nil {
		return logical.ErrorResponse("invalid role name"), nil
	}
	if err := entry.DecodeJSON(&r); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(r.JWT), []byte(d.Get("jwt").(string))) != 1 {
		return nil, logical.ErrPermissionDenied
	}
	return &logical.Response{Auth: &logical.Auth{
		Policies:     r.Policies,
		DisplayName:  "kubernetes",
		LeaseOptions: logical.LeaseOptions{TTL: r.TTL, MaxTTL: 2 * r.TTL, Renewable: true},
		Alias:        &logical.Alias{Name: d.Get("role").(string)},
	}}, nil
}
