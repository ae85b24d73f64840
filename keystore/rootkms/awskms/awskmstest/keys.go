package awskmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// The states of a key.
const (
	enabled         = "Enabled"
	disabled        = "Disabled"
	pendingImport   = "PendingImport"
	pendingDeletion = "PendingDeletion"
)

type object = map[string]any

// do answers a request. The lock is held.
func (s *Service) do(op string, q *request) (any, error) {
	if op == "CreateKey" {
		return s.create(q)
	}
	k := s.keys[q.KeyId]
	if k == nil {
		return nil, refusal("NotFoundException")
	}
	switch op {
	case "DescribeKey", "ListKeyRotations", "Encrypt", "Decrypt", "GetParametersForImport", "ImportKeyMaterial":
		if k.late > 0 { // the news of the latest change has not arrived there
			k.late--
			if k = k.before; k == nil {
				return nil, refusal("NotFoundException")
			}
		}
	}
	switch op {
	case "DescribeKey":
		return object{"KeyMetadata": k.metadata()}, nil
	case "Encrypt":
		return k.encrypt(q)
	case "Decrypt":
		return k.decrypt(q)
	case "GetParametersForImport":
		return s.parameters(k, q)
	case "ImportKeyMaterial":
		return s.importMaterial(s.keys[q.KeyId], q)
	case "ListKeyRotations":
		return s.list(k, q)
	case "DeleteImportedKeyMaterial":
		return s.deleteMaterial(k, q)
	case "ScheduleKeyDeletion":
		return s.schedule(k, q)
	case "CancelKeyDeletion":
		if k.state != pendingDeletion {
			return nil, refusal("KMSInvalidStateException")
		}
		s.touch(k)
		k.state = disabled
		k.settle()
		return object{"KeyId": k.arn}, nil
	case "EnableKey":
		if k.state != enabled && k.state != disabled {
			return nil, refusal("KMSInvalidStateException")
		}
		s.touch(k)
		k.state = enabled
		return object{}, nil
	default:
		return nil, refusal("UnknownOperationException")
	}
}

func (s *Service) create(q *request) (any, error) {
	if q.KeySpec != "SYMMETRIC_DEFAULT" || q.KeyUsage != "ENCRYPT_DECRYPT" || q.MultiRegion {
		return nil, refusal("ValidationException")
	}
	id := make([]byte, 16)
	rand.Read(id)
	k := &key{id: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), origin: q.Origin, tags: map[string]string{}}
	k.arn = "arn:aws:kms:" + Region + ":" + Account + ":key/" + k.id
	for _, t := range q.Tags {
		k.tags[t.TagKey] = t.TagValue
	}
	switch k.origin {
	case "AWS_KMS":
		k.state, k.material = enabled, []*material{newMaterial()}
	case "EXTERNAL":
		k.state = pendingImport
	default:
		return nil, refusal("ValidationException")
	}
	k.late = s.lag
	s.keys[k.arn] = k
	s.order = append(s.order, k.arn)
	return object{"KeyMetadata": k.metadata()}, nil
}

// touch keeps what a key was, for the reads that see it late.
func (s *Service) touch(k *key) {
	if k.late > 0 {
		k.late = s.lag
		return
	}
	old := *k
	old.material = nil
	for _, m := range k.material {
		c := *m
		old.material = append(old.material, &c)
	}
	k.before, k.late = &old, s.lag
}

func (k *key) metadata() object {
	m := object{
		"KeyId": k.id, "Arn": k.arn, "AWSAccountId": Account, "Origin": k.origin, "KeyState": k.state,
		"Enabled": k.state == enabled, "KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT",
		"KeyManager": "CUSTOMER", "MultiRegion": k.multiRegion,
	}
	if k.state == pendingDeletion {
		m["DeletionDate"] = float64(k.deletion.Unix())
	}
	return m
}

func newMaterial() *material {
	b := make([]byte, 32)
	rand.Read(b)
	return &material{id: materialID(b), bytes: b}
}

func materialID(b []byte) string {
	sum := sha256.Sum256(append([]byte("material"), b...))
	return hex.EncodeToString(sum[:])
}

func (k *key) held() []*material {
	return slices.DeleteFunc(slices.Clone(k.material), func(m *material) bool { return m.bytes == nil })
}

// settle is the state of a key that has all its material, or not.
func (k *key) settle() {
	if k.origin == "EXTERNAL" && (len(k.material) == 0 || len(k.held()) < len(k.material)) {
		k.state = pendingImport
	}
}

func (k *key) usable() error {
	switch k.state {
	case enabled:
		return nil
	case disabled:
		return refusal("DisabledException")
	default:
		return refusal("KMSInvalidStateException")
	}
}

// The fake's ciphertext: key id, material id, nonce, sealed.
func (k *key) encrypt(q *request) (any, error) {
	if err := k.usable(); err != nil {
		return nil, err
	}
	if q.DryRun {
		return nil, refusal("DryRunOperationException")
	}
	m := k.material[len(k.material)-1]
	blob := k.id + m.id
	nonce := make([]byte, 12)
	rand.Read(nonce)
	blob += string(nonce)
	return object{"KeyId": k.arn, "CiphertextBlob": m.gcm().Seal([]byte(blob), nonce, q.Plaintext, additional(q))}, nil
}

func (k *key) decrypt(q *request) (any, error) {
	if err := k.usable(); err != nil {
		return nil, err
	}
	blob := string(q.CiphertextBlob)
	if len(blob) < 36+64+12 {
		return nil, refusal("InvalidCiphertextException")
	}
	if !strings.HasPrefix(blob, k.id) {
		return nil, refusal("IncorrectKeyException")
	}
	for _, m := range k.held() {
		if m.id != blob[36:100] {
			continue
		}
		if plain, err := m.gcm().Open(nil, []byte(blob[100:112]), []byte(blob[112:]), additional(q)); err == nil {
			return object{"KeyId": k.arn, "Plaintext": plain}, nil
		}
	}
	return nil, refusal("InvalidCiphertextException")
}

func (m *material) gcm() cipher.AEAD {
	block, err := aes.NewCipher(m.bytes)
	if err != nil {
		panic(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return gcm
}

func additional(q *request) []byte {
	b, err := json.Marshal(q.EncryptionContext) // sorts
	if err != nil {
		panic(err)
	}
	return b
}

// importKey is the same for all fakes of a process: making one takes seconds.
var importKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		panic(err)
	}
	return k
})

func (s *Service) parameters(k *key, q *request) (any, error) {
	switch {
	case k.origin != "EXTERNAL":
		return nil, refusal("UnsupportedOperationException")
	case k.state == pendingDeletion:
		return nil, refusal("KMSInvalidStateException")
	case q.WrappingAlgorithm != "RSAES_OAEP_SHA_256" || q.WrappingKeySpec != "RSA_4096":
		return nil, refusal("ValidationException")
	}
	der, err := x509.MarshalPKIXPublicKey(&s.wrapping.PublicKey)
	if err != nil {
		panic(err)
	}
	token := rand.Text()
	s.tokens[token] = k.arn
	return object{"KeyId": k.arn, "PublicKey": der, "ImportToken": []byte(token),
		"ParametersValidTo": float64(s.now.Add(24 * time.Hour).Unix())}, nil
}

func (s *Service) importMaterial(k *key, q *request) (any, error) {
	switch {
	case k.origin != "EXTERNAL":
		return nil, refusal("UnsupportedOperationException")
	case k.state == pendingDeletion:
		return nil, refusal("KMSInvalidStateException")
	case s.tokens[string(q.ImportToken)] != k.arn:
		return nil, refusal("InvalidImportTokenException")
	case q.ExpirationModel != "KEY_MATERIAL_DOES_NOT_EXPIRE":
		return nil, refusal("ValidationException")
	}
	b, err := rsa.DecryptOAEP(sha256.New(), nil, s.wrapping, q.EncryptedKeyMaterial, nil)
	if err != nil || len(b) != 32 {
		return nil, refusal("InvalidCiphertextException")
	}
	id := materialID(b)
	at := slices.IndexFunc(k.material, func(m *material) bool { return m.id == id })
	switch {
	case len(k.material) == 0:
		s.touch(k)
		k.material = []*material{{id: id, bytes: b}}
	case at < 0: // once there was material, only the same comes back
		return nil, refusal("IncorrectKeyMaterialException")
	default:
		s.touch(k)
		k.material[at].bytes = b
	}
	k.state = enabled
	k.settle()
	return object{"KeyId": k.arn, "KeyMaterialId": id}, nil
}

func (s *Service) list(k *key, q *request) (any, error) {
	if s.noList || k.origin != "EXTERNAL" && k.origin != "AWS_KMS" {
		return nil, refusal("UnsupportedOperationException")
	}
	if q.IncludeKeyMaterial != "ALL_KEY_MATERIAL" {
		return object{"Rotations": []object{}, "Truncated": false}, nil
	}
	entries := []object{}
	for _, m := range k.material {
		e := object{"KeyId": k.arn, "KeyMaterialId": m.id}
		if k.origin == "EXTERNAL" {
			e["ImportState"] = "IMPORTED"
			if m.bytes == nil {
				e["ImportState"] = "PENDING_IMPORT"
			}
		}
		entries = append(entries, e)
	}
	return object{"Rotations": entries, "Truncated": false}, nil
}

func (s *Service) deleteMaterial(k *key, q *request) (any, error) {
	if k.origin != "EXTERNAL" {
		return nil, refusal("UnsupportedOperationException")
	}
	if len(k.material) == 0 {
		return object{"KeyId": k.arn}, nil
	}
	s.touch(k)
	m := k.material[len(k.material)-1]
	if q.KeyMaterialId != "" {
		at := slices.IndexFunc(k.material, func(m *material) bool { return m.id == q.KeyMaterialId })
		if at < 0 {
			return nil, refusal("NotFoundException")
		}
		m = k.material[at]
	}
	m.bytes = nil
	if k.state != pendingDeletion {
		k.settle()
	}
	return object{"KeyId": k.arn, "KeyMaterialId": m.id}, nil
}

func (s *Service) schedule(k *key, q *request) (any, error) {
	if k.state == pendingDeletion {
		return nil, refusal("KMSInvalidStateException")
	}
	days := 30
	if q.PendingWindowInDays != nil {
		days = *q.PendingWindowInDays
	}
	if days < 7 || days > 30 {
		return nil, refusal("ValidationException")
	}
	s.touch(k)
	k.state = pendingDeletion
	k.deletion = s.now.Add(time.Duration(days) * 24 * time.Hour)
	return object{"KeyId": k.arn, "KeyState": k.state, "PendingWindowInDays": days, "DeletionDate": float64(k.deletion.Unix())}, nil
}
