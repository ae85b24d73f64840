package gcpkmstest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	enabled   = kmspb.CryptoKeyVersion_ENABLED
	disabled  = kmspb.CryptoKeyVersion_DISABLED
	pending   = kmspb.CryptoKeyVersion_PENDING_GENERATION
	scheduled = kmspb.CryptoKeyVersion_DESTROY_SCHEDULED
	destroyed = kmspb.CryptoKeyVersion_DESTROYED
)

// server answers requests. The interceptor holds the lock.
type server struct {
	kmspb.UnimplementedKeyManagementServiceServer
	s *Service
}

func (r *server) GetCryptoKey(_ context.Context, q *kmspb.GetCryptoKeyRequest) (*kmspb.CryptoKey, error) {
	if q.GetName() != r.s.key.GetName() {
		return nil, refuse(codes.NotFound)
	}
	return proto.CloneOf(r.s.key), nil
}

func (r *server) CreateCryptoKeyVersion(_ context.Context, q *kmspb.CreateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	switch {
	case q.GetParent() != r.s.key.GetName():
		return nil, refuse(codes.NotFound)
	case r.s.key.GetImportOnly():
		return nil, refuse(codes.FailedPrecondition)
	}
	v := &version{material: make([]byte, 32), CryptoKeyVersion: &kmspb.CryptoKeyVersion{
		Name:            fmt.Sprintf("%s/cryptoKeyVersions/%d", r.s.key.GetName(), len(r.s.made)+1),
		State:           enabled,
		ProtectionLevel: r.s.key.GetVersionTemplate().GetProtectionLevel(),
		Algorithm:       r.s.key.GetVersionTemplate().GetAlgorithm(),
		CreateTime:      timestamppb.New(r.s.now),
	}}
	rand.Read(v.material)
	if r.s.slow > 0 {
		v.State = pending
	}
	r.s.versions[v.Name] = v
	r.s.made = append(r.s.made, v.Name)
	return proto.CloneOf(v.CryptoKeyVersion), nil
}

func (r *server) find(name string) (*version, error) {
	v := r.s.versions[name]
	if v == nil {
		return nil, refuse(codes.NotFound)
	}
	return v, nil
}

func (r *server) GetCryptoKeyVersion(_ context.Context, q *kmspb.GetCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	v, err := r.find(q.GetName())
	if err != nil {
		return nil, err
	}
	if v.State == pending {
		if v.asked++; v.asked > r.s.slow {
			v.State = enabled
		}
	}
	return proto.CloneOf(v.CryptoKeyVersion), nil
}

func (r *server) DestroyCryptoKeyVersion(_ context.Context, q *kmspb.DestroyCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	v, err := r.find(q.GetName())
	if err != nil {
		return nil, err
	}
	if v.State != enabled && v.State != disabled {
		return nil, refuse(codes.FailedPrecondition)
	}
	v.State = scheduled
	v.DestroyTime = timestamppb.New(r.s.now.Add(r.s.key.GetDestroyScheduledDuration().AsDuration()))
	return proto.CloneOf(v.CryptoKeyVersion), nil
}

func (r *server) RestoreCryptoKeyVersion(_ context.Context, q *kmspb.RestoreCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	v, err := r.find(q.GetName())
	if err != nil {
		return nil, err
	}
	if v.State != scheduled {
		return nil, refuse(codes.FailedPrecondition)
	}
	v.State, v.DestroyTime = disabled, nil
	return proto.CloneOf(v.CryptoKeyVersion), nil
}

func (r *server) UpdateCryptoKeyVersion(_ context.Context, q *kmspb.UpdateCryptoKeyVersionRequest) (*kmspb.CryptoKeyVersion, error) {
	v, err := r.find(q.GetCryptoKeyVersion().GetName())
	if err != nil {
		return nil, err
	}
	to := q.GetCryptoKeyVersion().GetState()
	switch {
	case !slices.Equal(q.GetUpdateMask().GetPaths(), []string{"state"}), to != enabled && to != disabled:
		return nil, refuse(codes.InvalidArgument)
	case v.State != enabled && v.State != disabled:
		return nil, refuse(codes.FailedPrecondition)
	}
	v.State = to
	return proto.CloneOf(v.CryptoKeyVersion), nil
}

func sum(b []byte) int64 { return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))) }

// arrived tells whether bytes have the checksum that was sent with them.
func arrived(b []byte, s *wrapperspb.Int64Value) bool { return s == nil || s.GetValue() == sum(b) }

// The fake's ciphertext: number of the version in 4 bytes, nonce, sealed.
func (r *server) Encrypt(_ context.Context, q *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	v, err := r.find(q.GetName())
	switch {
	case err != nil:
		return nil, err
	case v.State != enabled:
		return nil, refuse(codes.FailedPrecondition)
	case !arrived(q.GetPlaintext(), q.GetPlaintextCrc32C()), !arrived(q.GetAdditionalAuthenticatedData(), q.GetAdditionalAuthenticatedDataCrc32C()):
		return nil, refuse(codes.InvalidArgument)
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(slices.Index(r.s.made, v.Name)))
	nonce := make([]byte, 12)
	rand.Read(nonce)
	out = v.gcm().Seal(append(out, nonce...), nonce, q.GetPlaintext(), q.GetAdditionalAuthenticatedData())
	return &kmspb.EncryptResponse{
		Name:                    v.Name,
		Ciphertext:              out,
		CiphertextCrc32C:        wrapperspb.Int64(sum(out)),
		VerifiedPlaintextCrc32C: q.GetPlaintextCrc32C() != nil,
		VerifiedAdditionalAuthenticatedDataCrc32C: q.GetAdditionalAuthenticatedDataCrc32C() != nil,
		ProtectionLevel: v.ProtectionLevel,
	}, nil
}

func (r *server) Decrypt(_ context.Context, q *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	c := q.GetCiphertext()
	switch {
	case q.GetName() != r.s.key.GetName():
		return nil, refuse(codes.NotFound)
	case !arrived(c, q.GetCiphertextCrc32C()), !arrived(q.GetAdditionalAuthenticatedData(), q.GetAdditionalAuthenticatedDataCrc32C()),
		len(c) < 16, int(binary.BigEndian.Uint32(c)) >= len(r.s.made):
		return nil, refuse(codes.InvalidArgument)
	}
	v, err := r.find(r.s.made[binary.BigEndian.Uint32(c)])
	if err != nil {
		return nil, err
	}
	if v.State != enabled {
		return nil, refuse(codes.FailedPrecondition)
	}
	plain, err := v.gcm().Open(nil, c[4:16], c[16:], q.GetAdditionalAuthenticatedData())
	if err != nil {
		return nil, refuse(codes.InvalidArgument)
	}
	return &kmspb.DecryptResponse{Plaintext: plain, PlaintextCrc32C: wrapperspb.Int64(sum(plain)), ProtectionLevel: v.ProtectionLevel}, nil
}

func (v *version) gcm() cipher.AEAD {
	block, err := aes.NewCipher(v.material)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}
