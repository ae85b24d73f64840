package awskms

import "strings"

// Policy is the IAM policy that an identity needs which uses the root store, in JSON: to
// make keys with the tag oubli=root, to use and to destroy keys with this tag, and no other
// keys. It forbids what takes a destruction back. Administrators rehearse, this identity
// can't.
func (c Config) Policy() string {
	origin, use := "EXTERNAL", []string{"Encrypt", "Decrypt", "ScheduleKeyDeletion"}
	if c.Made {
		origin = "AWS_KMS"
	} else {
		use = append(use, "GetParametersForImport", "ImportKeyMaterial", "DeleteImportedKeyMaterial", "ListKeyRotations")
	}
	never := []string{
		"CancelKeyDeletion", "EnableKey", "DisableKey", "CreateGrant", "PutKeyPolicy",
		"ReplicateKey", "RotateKeyOnDemand", "UntagResource",
	}
	return strings.NewReplacer(
		"KEYS", "arn:"+c.partition()+":kms:"+c.Region+":*:key/*",
		"REGION", c.Region,
		"ORIGIN", origin,
		"USE", actions(use),
		"NEVER", actions(never),
	).Replace(policy)
}

func actions(names []string) string { return `"kms:` + strings.Join(names, `", "kms:`) + `"` }

// DescribeKey has no condition on purpose, see Keys.Check. TagResource belongs to CreateKey:
// tags that come with a new key need both.
const policy = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "MakeRootKeys",
      "Effect": "Allow",
      "Action": "kms:CreateKey",
      "Resource": "*",
      "Condition": {
        "StringEquals": {
          "aws:RequestedRegion": "REGION",
          "aws:RequestTag/oubli": "root",
          "kms:KeyOrigin": "ORIGIN",
          "kms:KeySpec": "SYMMETRIC_DEFAULT"
        },
        "BoolIfExists": {"kms:MultiRegion": "false", "kms:BypassPolicyLockoutSafetyCheck": "false"}
      }
    },
    {
      "Sid": "TagThem",
      "Effect": "Allow",
      "Action": "kms:TagResource",
      "Resource": "KEYS",
      "Condition": {
        "StringEquals": {"aws:RequestTag/oubli": "root"},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["oubli", "oubli-store", "oubli-root"]}
      }
    },
    {
      "Sid": "UseAndDestroyThem",
      "Effect": "Allow",
      "Action": [USE],
      "Resource": "KEYS",
      "Condition": {"StringEquals": {"aws:ResourceTag/oubli": "root"}}
    },
    {
      "Sid": "TellDestroyedFromDenied",
      "Effect": "Allow",
      "Action": "kms:DescribeKey",
      "Resource": "KEYS"
    },
    {
      "Sid": "NeverTakeDestructionBack",
      "Effect": "Deny",
      "Action": [NEVER],
      "Resource": "KEYS",
      "Condition": {"StringEquals": {"aws:ResourceTag/oubli": "root"}}
    }
  ]
}
`
