package ciphertext

import (
	"encoding/binary"
	"slices"
)

// Refusal says why a ciphertext was not decrypted, with the gRPC status name that the plugin answers.
type Refusal struct {
	Status string
	Reason string
}

func (r Refusal) Error() string { return r.Status + ": " + r.Reason }

const (
	notOurs = "INVALID_ARGUMENT"
	notNow  = "FAILED_PRECONDITION"
)

// Ring is what an operator lists: the keys, and the ids of those that are gone for good.
type Ring struct {
	Keys    []Key
	Retired []ID
}

// Open decrypts with the key that the header names; every failure is a Refusal. The checks stand in the order of
// docs/ciphertext.md: the first that fails decides.
func (ring Ring) Open(bytes []byte) ([]byte, error) {
	if len(bytes) < len(Magic) || string(bytes[:len(Magic)]) != Magic {
		return nil, Refusal{notOurs, "not a ciphertext of this plugin"}
	}
	if len(bytes) == len(Magic) {
		return nil, Refusal{notOurs, "no version"}
	}
	if bytes[8] != Version {
		return nil, Refusal{notNow, "unknown version"}
	}
	if len(bytes) == len(Magic)+1 {
		return nil, Refusal{notOurs, "no scheme"}
	}
	scheme := Scheme(bytes[9])
	if scheme.ivLength() == 0 {
		return nil, Refusal{notNow, "unknown scheme"}
	}
	if len(bytes) < HeaderLength {
		return nil, Refusal{notOurs, "header too short"}
	}
	parts, err := split(scheme, bytes)
	if err != nil {
		return nil, err
	}
	key, err := ring.find(ID(bytes[10:HeaderLength]), parts.tokenScheme)
	if err != nil {
		return nil, err
	}
	plaintext, err := parts.open(key)
	if err != nil {
		return nil, Refusal{notOurs, err.Error()}
	}
	return plaintext, nil
}

// parts is a ciphertext whose lengths have been checked.
type parts struct {
	// tokenScheme is what the token does: the scheme itself, or scheme 4's inner one.
	tokenScheme Scheme
	associated  []byte
	sealed      []byte
	// outerAssociated and outer are scheme 4's alone.
	outerAssociated []byte
	outer           []byte
}

func split(scheme Scheme, bytes []byte) (parts, error) {
	body := bytes[HeaderLength:]
	if scheme != DataKey {
		if !fits(scheme, len(body)) {
			return parts{}, Refusal{notOurs, "lengths do not add up"}
		}
		return parts{tokenScheme: scheme, associated: bytes[:HeaderLength], sealed: body}, nil
	}
	if len(body) == 0 {
		return parts{}, Refusal{notOurs, "no inner scheme"}
	}
	inner := Scheme(body[0])
	if inner.ivLength() == 0 || inner == DataKey {
		return parts{}, Refusal{notNow, "unknown inner scheme"}
	}
	if len(body) < 3 {
		return parts{}, Refusal{notOurs, "no length of the sealed data key"}
	}
	length := int(binary.BigEndian.Uint16(body[1:]))
	end := HeaderLength + 3 + length
	if length != inner.sealedLength(dataKeyLength) || len(bytes) < end+GCM.sealedLength(0) {
		return parts{}, Refusal{notOurs, "lengths do not add up"}
	}
	return parts{
		tokenScheme:     inner,
		associated:      bytes[:HeaderLength+1],
		sealed:          bytes[HeaderLength+3 : end],
		outerAssociated: bytes[:end],
		outer:           bytes[end:],
	}, nil
}

// fits says whether a body of that length can be one of scheme's.
func fits(scheme Scheme, length int) bool {
	if scheme == CBCThenMAC {
		return length >= scheme.sealedLength(0) && (length-scheme.ivLength()-macLength)%blockLength == 0
	}
	return length >= scheme.sealedLength(0)
}

func (ring Ring) find(id ID, scheme Scheme) (Key, error) {
	at := slices.IndexFunc(ring.Keys, func(key Key) bool { return key.ID() == id })
	if at < 0 && slices.Contains(ring.Retired, id) {
		return Key{}, Refusal{notOurs, "retired key"}
	}
	if at < 0 {
		return Key{}, Refusal{notNow, "key not listed"}
	}
	if !ring.Keys[at].can(scheme) {
		return Key{}, Refusal{notNow, "the key cannot do this scheme"}
	}
	return ring.Keys[at], nil
}

func (p parts) open(key Key) ([]byte, error) {
	value, err := open(p.tokenScheme, key, p.associated, p.sealed)
	if err != nil || p.outer == nil {
		return value, err
	}
	if len(value) != dataKeyLength {
		return nil, errNotAuthentic
	}
	return open(GCM, Key{AES: value}, p.outerAssociated, p.outer)
}
