package awskms

import (
	"context"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// Timeout is that of requests.
func (k *Keys) Timeout() time.Duration {
	return k.kms.Options().HTTPClient.(*awshttp.BuildableClient).GetTimeout()
}

// Hurry makes the waiting for KMS's news short, and counts how often it waited.
func (k *Keys) Hurry() (waits *int) {
	waits = new(int)
	k.pause = func(ctx context.Context, _ time.Duration) error {
		*waits++
		return ctx.Err()
	}
	return waits
}
