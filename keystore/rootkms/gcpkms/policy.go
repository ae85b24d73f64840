package gcpkms

import "strings"

// Policy is what an administrator runs to make the CryptoKey and to let an identity use it
// as a root store: to make, use and destroy versions, not to restore them.
func (c Config) Policy() string {
	m := keyForm.FindStringSubmatch(c.Key)
	if m == nil {
		return ""
	}
	return strings.NewReplacer("PROJECT", m[1], "LOCATION", m[2], "RING", m[3], "CRYPTOKEY", m[4]).Replace(policy)
}

const policy = `# The CryptoKey. Its duration can't be changed later: an erasure is final that long after
# its grace. A day is the least that Google allows.
gcloud kms keyrings create RING --project=PROJECT --location=LOCATION
gcloud kms keys create CRYPTOKEY --project=PROJECT --location=LOCATION --keyring=RING \
  --purpose=encryption --protection-level=software --skip-initial-version-creation \
  --destroy-scheduled-duration=1d

# What the application may do, and no more. Give it this role on the CryptoKey only, and
# nobody cloudkms.cryptoKeyVersions.restore but administrators.
gcloud iam roles create oubliRoot --project=PROJECT --title="oubli root store" \
  --permissions=cloudkms.cryptoKeys.get,cloudkms.cryptoKeyVersions.create,cloudkms.cryptoKeyVersions.get,cloudkms.cryptoKeyVersions.useToEncrypt,cloudkms.cryptoKeyVersions.useToDecrypt,cloudkms.cryptoKeyVersions.destroy
gcloud kms keys add-iam-policy-binding CRYPTOKEY --project=PROJECT --location=LOCATION --keyring=RING \
  --role=projects/PROJECT/roles/oubliRoot --member=serviceAccount:APPLICATION@PROJECT.iam.gserviceaccount.com

# The Cloud KMS API must be on.
gcloud services enable cloudkms.googleapis.com --project=PROJECT
`
