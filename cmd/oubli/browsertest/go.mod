module github.com/oubli/oubli/cmd/oubli/browsertest

go 1.26

require (
	github.com/chromedp/cdproto v0.159.0
	github.com/chromedp/chromedp v0.23.0
	github.com/oubli/oubli v0.0.0
	github.com/oubli/oubli/cmd/oubli v0.0.0
	github.com/stretchr/testify v1.11.1
)

require (
	github.com/maypok86/otter/v2 v2.3.0 // indirect
	github.com/tink-crypto/tink-go/v2 v2.9.0 // indirect
	golang.org/x/crypto v0.54.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace (
	github.com/oubli/oubli => ../../..
	github.com/oubli/oubli/cmd/oubli => ..
	github.com/oubli/oubli/keystore/rootkms/awskms => ../../../keystore/rootkms/awskms
	github.com/oubli/oubli/keystore/rootkms/gcpkms => ../../../keystore/rootkms/gcpkms
	github.com/oubli/oubli/keystore/rootkms/pkcs11 => ../../../keystore/rootkms/pkcs11
	github.com/oubli/oubli/keystore/roottransit => ../../../keystore/roottransit
)
