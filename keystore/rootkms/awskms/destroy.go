package awskms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/oubli/oubli/keystore"
	"github.com/oubli/oubli/keystore/rootkms"
)

// Destroy implements [rootkms.Keys]. It goes by what a key is, not by what the Config says
// of new ones. It returns when KMS itself says that the keys can't be used any more.
func (k *Keys) Destroy(ctx context.Context, names []string) error {
	var all []error
	for _, name := range names {
		if err := k.destroy(ctx, name); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func (k *Keys) destroy(ctx context.Context, name string) error {
	if err := k.ours(name); err != nil {
		return err
	}
	m, err := k.find(ctx, name)
	if m == nil || err != nil {
		return err
	}
	if m.Origin == types.OriginTypeExternal {
		return k.empty(ctx, name)
	}
	if err := k.schedule(ctx, name, k.config.window()); err != nil {
		return k.failed("ScheduleKeyDeletion", name, err)
	}
	return k.confirm(ctx, name)
}

// empty deletes the material of a key, at once and for good, and then has the empty key
// deleted, which costs a dollar a month while it stands.
func (k *Keys) empty(ctx context.Context, name string) error {
	_, err := k.kms.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: &name})
	if err != nil && !is[*types.NotFoundException](err) && !is[*types.KMSInvalidStateException](err) {
		return k.failed("DeleteImportedKeyMaterial", name, err)
	}
	// That deleted the current material. If somebody imported more and rotated to it, ours
	// is not the current one.
	held, _, err := k.held(ctx, name)
	if err != nil {
		return err
	}
	for _, id := range held {
		_, err := k.kms.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: &name, KeyMaterialId: &id})
		if err != nil && !is[*types.NotFoundException](err) && !is[*types.KMSInvalidStateException](err) {
			return k.failed("DeleteImportedKeyMaterial", name, err)
		}
	}
	if err := k.confirm(ctx, name); err != nil {
		return err
	}
	// Housekeeping: the material is gone whether or not this is allowed.
	_ = k.schedule(ctx, name, 7*day)
	return nil
}

// schedule has KMS delete a key. One that waits for its deletion already stays as it is.
func (k *Keys) schedule(ctx context.Context, name string, window time.Duration) error {
	_, err := k.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{
		KeyId:               &name,
		PendingWindowInDays: aws.Int32(int32(window / day)),
	})
	if is[*types.NotFoundException](err) || is[*types.KMSInvalidStateException](err) {
		return nil
	}
	return err
}

// confirm waits until KMS itself says that a key is gone, or waits for its deletion.
func (k *Keys) confirm(ctx context.Context, name string) error {
	pending := errors.New("pending")
	err := k.settle(ctx, func() error {
		s, err := k.state(ctx, name)
		if err == nil && s.Fate != rootkms.Gone && s.Fate != rootkms.Dying {
			err = pending
		}
		return err
	}, func(err error) bool { return err == pending })
	if err == pending {
		return fmt.Errorf("AWS KMS does not say yet that key %s is destroyed; try again: %w", name, keystore.ErrUnavailable)
	}
	return err
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
	m, err := k.find(ctx, name)
	if m == nil || err != nil {
		return rootkms.KeyState{Fate: rootkms.Gone}, err
	}
	pending := m.KeyState == types.KeyStatePendingDeletion
	if m.Origin == types.OriginTypeExternal && (pending || m.KeyState == types.KeyStatePendingImport) {
		held, told, err := k.held(ctx, name)
		if err != nil {
			return rootkms.KeyState{}, err
		}
		if told && len(held) == 0 || !told && !pending {
			return rootkms.KeyState{Fate: rootkms.Gone}, nil
		}
	}
	switch {
	case m.KeyState == types.KeyStateEnabled:
		return rootkms.KeyState{Fate: rootkms.Living}, nil
	case pending:
		return rootkms.KeyState{Fate: rootkms.Dying, Until: aws.ToTime(m.DeletionDate).UTC()}, nil
	default:
		return rootkms.KeyState{Fate: rootkms.Barred}, nil
	}
}

// held are the ids of the imported material that a key still has. Only KMS's own list of it
// counts: a key that waits for its deletion looks the same with its material and without.
// told is false where KMS does not list material; there a key has no more than one, and one
// that waits for an import has none.
func (k *Keys) held(ctx context.Context, name string) (ids []string, told bool, err error) {
	pages := kms.NewListKeyRotationsPaginator(k.kms, &kms.ListKeyRotationsInput{
		KeyId:              &name,
		IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		switch {
		case is[*types.NotFoundException](err):
			return nil, true, nil
		case is[*types.UnsupportedOperationException](err), is[*types.KMSInvalidStateException](err):
			return nil, false, nil
		case err != nil:
			return nil, false, k.failed("ListKeyRotations", name, err)
		}
		for _, m := range page.Rotations {
			if m.ImportState != types.ImportStatePendingImport {
				ids = append(ids, aws.ToString(m.KeyMaterialId))
			}
		}
	}
	return ids, true, nil
}

// Undo implements [rootkms.Keys]: it cancels the deletion of the keys and enables them, and
// gives one that lost its material other material, the only one that there is to give, which
// KMS refuses.
func (k *Keys) Undo(ctx context.Context, names []string) error {
	var all []error
	for _, name := range names {
		if err := k.undo(ctx, name); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func (k *Keys) undo(ctx context.Context, name string) error {
	m, err := k.describe(ctx, name)
	if err != nil {
		return k.failed("DescribeKey", name, err)
	}
	if m.KeyState == types.KeyStatePendingDeletion {
		if _, err := k.kms.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &name}); err != nil {
			return k.failed("CancelKeyDeletion", name, err)
		}
	}
	if m.Origin == types.OriginTypeExternal {
		s, err := k.state(ctx, name)
		if err == nil && s.Fate == rootkms.Gone {
			err = k.material(ctx, name)
			if err != nil {
				_ = k.schedule(ctx, name, 7*day) // the empty key, as it was
			}
			return err
		}
		if err != nil {
			return err
		}
	}
	if _, err := k.kms.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &name}); err != nil {
		return k.failed("EnableKey", name, err)
	}
	return nil
}

// find is describe, and nil without an error where there is no such key. KMS may not know
// of a new key for a while, and this must not read as its end: it is asked several times.
func (k *Keys) find(ctx context.Context, name string) (*types.KeyMetadata, error) {
	for d := 250 * time.Millisecond; ; d *= 2 {
		m, err := k.describe(ctx, name)
		switch {
		case err == nil:
			return m, nil
		case !is[*types.NotFoundException](err):
			return nil, k.failed("DescribeKey", name, err)
		case d > 2*time.Second:
			return nil, nil
		}
		if err := k.pause(ctx, d); err != nil {
			return nil, k.failed("DescribeKey", name, err)
		}
	}
}

// describe refuses keys that have replicas in other regions: those live on when this one is
// destroyed.
func (k *Keys) describe(ctx context.Context, name string) (*types.KeyMetadata, error) {
	out, err := k.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &name})
	if err != nil {
		return nil, err
	}
	if out.KeyMetadata == nil || aws.ToString(out.KeyMetadata.Arn) != name || aws.ToBool(out.KeyMetadata.MultiRegion) {
		return nil, errAnother
	}
	return out.KeyMetadata, nil
}
