// Package ciphertext reads and writes the plugin's ciphertexts from the raw key alone, with Go's standard cryptography
// and nothing of the plugin's own code: a second implementation of docs/ciphertext.md, so that a value can be recovered
// without the plugin by whoever holds the key, and so that a change of the format cannot go unnoticed.
package ciphertext

import "fmt"

// Lengths in bytes, as docs/ciphertext.md gives them.
const (
	KeyIDLength   = 16
	HeaderLength  = len(Magic) + 1 + 1 + KeyIDLength
	dataKeyLength = 32
	tagLength     = 16
	macLength     = 32
	blockLength   = 16
)

// Magic opens every ciphertext; its first byte has the high bit set and its last is a line feed, so that text and
// transfers that mend line ends are told apart.
const Magic = "\x8bHSMKMS\n"

// Version is the format version that this package reads and writes.
const Version = 0x01

// Scheme says how a body was made.
type Scheme byte

const (
	// GCM is AES-GCM in the token under a 12-byte IV.
	GCM Scheme = 1
	// GCMTokenIV is AES-GCM in the token under a 16-byte IV that the HSM made.
	GCMTokenIV Scheme = 2
	// CBCThenMAC is AES-CBC with PKCS #7 padding, then HMAC-SHA-256, under two keys.
	CBCThenMAC Scheme = 3
	// DataKey is AES-256-GCM under a fresh data key that one of the other schemes seals.
	DataKey Scheme = 4
)

// ID names a key without telling anything else of it.
type ID [KeyIDLength]byte

func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// ivLength is the length of a scheme's IV; 0 for a scheme that does not exist.
func (s Scheme) ivLength() int {
	switch s {
	case GCM, DataKey:
		return 12
	case GCMTokenIV, CBCThenMAC:
		return 16
	}
	return 0
}

// sealedLength is how long a value of n bytes becomes under one of the schemes 1 to 3: IV, ciphertext, tag or MAC.
func (s Scheme) sealedLength(n int) int {
	if s == CBCThenMAC {
		return s.ivLength() + (n/blockLength+1)*blockLength + macLength
	}
	return s.ivLength() + n + tagLength
}

// header is the first 26 bytes.
func header(scheme Scheme, id ID) []byte {
	bytes := append([]byte(Magic), Version, byte(scheme))
	return append(bytes, id[:]...)
}
