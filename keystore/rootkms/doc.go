// Package rootkms keeps root keys wrapped by keys of a key management service, in which
// destroying a key is real.
package rootkms
