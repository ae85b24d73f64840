package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// How long a version is waited for that is being made: half a second to a minute, doubling.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 32 * time.Second
)

// Destroy implements [rootkms.Keys].
func (k *Keys) Destroy(ctx context.Context, names []string) error {
	return each(names, func(name string) error {
		s, err := k.state(ctx, name)
		if err != nil || s.Fate == rootkms.Gone || s.Fate == rootkms.Dying {
			return err
		}
		v, err := k.kms.DestroyCryptoKeyVersion(ctx, &kmspb.DestroyCryptoKeyVersionRequest{Name: name})
		if err != nil {
			// Somebody else may have done it meanwhile.
			if now, stateErr := k.state(ctx, name); stateErr == nil && (now.Fate == rootkms.Gone || now.Fate == rootkms.Dying) {
				return nil
			}
			return k.failed("destroy", "cryptoKeyVersions.destroy", name, err)
		}
		if f := fate(v).Fate; v.GetName() != name || f != rootkms.Dying && f != rootkms.Gone {
			return fmt.Errorf("GCP KMS was told to destroy %s, and answers that it is %s: %w", name, v.GetState(), keystore.ErrUnavailable)
		}
		return nil
	})
}

// State implements [rootkms.Keys].
func (k *Keys) State(ctx context.Context, names []string) ([]rootkms.KeyState, error) {
	states := make([]rootkms.KeyState, len(names))
	for i, name := range names {
		s, err := k.state(ctx, name)
		if err != nil {
			return nil, err
		}
		states[i] = s
	}
	return states, nil
}

func (k *Keys) state(ctx context.Context, name string) (rootkms.KeyState, error) {
	if err := k.ours(name); err != nil {
		return rootkms.KeyState{}, err
	}
	v, err := k.version(ctx, name)
	switch {
	case code(err) == codes.NotFound:
		// A destroyed version can be deleted. That the CryptoKey itself is not there is
		// something else: a wrong project, or another one.
		if _, err := k.kms.GetCryptoKey(ctx, &kmspb.GetCryptoKeyRequest{Name: k.config.Key}); err != nil {
			return rootkms.KeyState{}, k.failed("look for", "cryptoKeys.get", k.config.Key, err)
		}
		return rootkms.KeyState{Fate: rootkms.Gone}, nil
	case err != nil:
		return rootkms.KeyState{}, k.failed("get", "cryptoKeyVersions.get", name, err)
	}
	return fate(v), nil
}

func fate(v *kmspb.CryptoKeyVersion) rootkms.KeyState {
	switch v.GetState() {
	case kmspb.CryptoKeyVersion_ENABLED:
		return rootkms.KeyState{Fate: rootkms.Living}
	case kmspb.CryptoKeyVersion_DESTROY_SCHEDULED:
		return rootkms.KeyState{Fate: rootkms.Dying, Until: v.GetDestroyTime().AsTime()}
	case kmspb.CryptoKeyVersion_DESTROYED:
		if v.GetReimportEligible() { // its material was imported, and whoever has it can bring it back
			return rootkms.KeyState{Fate: rootkms.Barred}
		}
		return rootkms.KeyState{Fate: rootkms.Gone}
	case kmspb.CryptoKeyVersion_GENERATION_FAILED, kmspb.CryptoKeyVersion_IMPORT_FAILED:
		return rootkms.KeyState{Fate: rootkms.Gone}
	default:
		return rootkms.KeyState{Fate: rootkms.Barred}
	}
}

// Undo implements [rootkms.Keys]: it restores versions that wait for their destruction, and
// enables them.
func (k *Keys) Undo(ctx context.Context, names []string) error {
	return each(names, func(name string) error {
		s, err := k.state(ctx, name)
		if err != nil {
			return err
		}
		if s.Fate != rootkms.Barred {
			if _, err := k.kms.RestoreCryptoKeyVersion(ctx, &kmspb.RestoreCryptoKeyVersionRequest{Name: name}); err != nil {
				return k.failed("restore", "cryptoKeyVersions.restore", name, err)
			}
		}
		_, err = k.kms.UpdateCryptoKeyVersion(ctx, &kmspb.UpdateCryptoKeyVersionRequest{
			CryptoKeyVersion: &kmspb.CryptoKeyVersion{Name: name, State: kmspb.CryptoKeyVersion_ENABLED},
			UpdateMask:       &fieldmaskpb.FieldMask{Paths: []string{"state"}},
		})
		if err != nil {
			return k.failed("enable", "cryptoKeyVersions.update", name, err)
		}
		return nil
	})
}

func each(names []string, do func(name string) error) error {
	var all []error
	for _, name := range names {
		if err := do(name); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}
