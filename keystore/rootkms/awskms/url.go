package awskms

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/oubli/oubli/keystore"
)

// Config says where the keys are and how they are made. The zero value of all but Region
// is the default.
type Config struct {
	// Region holds the keys, as eu-central-1. The key material never leaves it.
	Region string

	// Made lets KMS make the key material. Such a key is destroyed on a schedule, of Window
	// at least, and an administrator can stop that. Default: material is made here,
	// imported and forgotten, and destroyed at once.
	Made bool

	// Window is how long KMS waits before it destroys a key whose material it made: whole
	// days, 7 to 30. Default 7 days. Without Made it means nothing.
	Window time.Duration
}

const day = 24 * time.Hour

// Parse reads the URL of keys: awskms:REGION, with the parameters imported=false for keys
// that KMS makes, and window=240h for how long it waits before it destroys one.
// Errors wrap [keystore.ErrInvalid].
func Parse(s string) (Config, error) {
	rest, ok := strings.CutPrefix(s, "awskms:")
	if !ok {
		return Config{}, fmt.Errorf("%w: a place in AWS KMS is named awskms:REGION", keystore.ErrInvalid)
	}
	region, query, _ := strings.Cut(rest, "?")
	c := Config{Region: region}
	params, err := url.ParseQuery(query)
	if err != nil {
		return Config{}, fmt.Errorf("%w: the parameters of awskms:%s cannot be read", keystore.ErrInvalid, region)
	}
	for name, values := range params {
		if len(values) != 1 {
			return Config{}, fmt.Errorf("%w: %s stands twice in awskms:%s", keystore.ErrInvalid, name, region)
		}
		switch name {
		case "imported":
			if values[0] != "true" && values[0] != "false" {
				return Config{}, fmt.Errorf("%w: imported= is true or false", keystore.ErrInvalid)
			}
			c.Made = values[0] == "false"
		case "window":
			if c.Window, err = time.ParseDuration(values[0]); err != nil || c.Window == 0 {
				return Config{}, fmt.Errorf("%w: window= is a duration such as 168h", keystore.ErrInvalid)
			}
		default:
			return Config{}, fmt.Errorf("%w: awskms: knows the parameters imported and window, not %q", keystore.ErrInvalid, name)
		}
	}
	if !c.Made && c.Window != 0 {
		return Config{}, fmt.Errorf("%w: window= goes with imported=false: imported material is destroyed at once", keystore.ErrInvalid)
	}
	return c, c.check()
}

// regionName is what AWS calls its regions: eu-central-1, us-gov-west-1.
var regionName = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{2,12}){1,3}-[0-9]{1,2}$`)

func (c Config) check() error {
	if !regionName.MatchString(c.Region) {
		return fmt.Errorf("%w: awskms: is followed by a region of AWS, as awskms:eu-central-1", keystore.ErrInvalid)
	}
	if w := c.window(); w%day != 0 || w < 7*day || w > 30*day {
		return fmt.Errorf("%w: AWS KMS destroys keys 7 to 30 whole days after it is told to (168h to 720h), not %s", keystore.ErrInvalid, w)
	}
	return nil
}

func (c Config) window() time.Duration {
	if c.Window == 0 {
		return 7 * day
	}
	return c.Window
}

// URL is the canonical form of what Parse reads, without the window, which may change in the
// lifetime of a place.
func (c Config) url() string {
	if c.Made {
		return "awskms:" + c.Region + "?imported=false"
	}
	return "awskms:" + c.Region
}

// partition is the part of the AWS world that the region belongs to; ARNs begin with it.
func (c Config) partition() string {
	switch {
	case strings.HasPrefix(c.Region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(c.Region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(c.Region, "eusc-"):
		return "aws-eusc"
	default:
		return "aws"
	}
}
