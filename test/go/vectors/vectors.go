// Package vectors makes test/vectors/ciphertext.json: fixed keys, IVs and values with the ciphertexts that belong to
// them, and ciphertexts that must be refused with the status of each. Nothing in it is random.
package vectors

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"hsm-kms-plugin/test/ciphertext"
)

// File is the whole document; every byte string is lower-case hex.
type File struct {
	Comment string    `json:"comment"`
	Keys    []Key     `json:"keys"`
	Retired []Key     `json:"retired"`
	Vectors []Vector  `json:"vectors"`
	Refused []Refused `json:"refused"`
}

// Key is one key that is listed, or retired: AES alone, or a pair for scheme 3.
type Key struct {
	Name  string `json:"name"`
	AES   string `json:"aes"`
	MAC   string `json:"mac,omitempty"`
	KeyID string `json:"key_id"`
}

// Vector is a value and its ciphertext. Scheme 4 has the data key and the IV under which it is sealed besides.
type Vector struct {
	Name        string `json:"name"`
	Key         string `json:"key"`
	Scheme      int    `json:"scheme"`
	InnerScheme int    `json:"inner_scheme,omitempty"`
	DataKey     string `json:"data_key,omitempty"`
	InnerIV     string `json:"inner_iv,omitempty"`
	IV          string `json:"iv"`
	Plaintext   string `json:"plaintext"`
	Ciphertext  string `json:"ciphertext"`
}

// Refused is a ciphertext that must not be decrypted. NeedsKey: only the key itself tells (tag or MAC); all others are
// refused from the header and the lists alone.
type Refused struct {
	Name       string `json:"name"`
	Ciphertext string `json:"ciphertext"`
	Status     string `json:"status"`
	NeedsKey   bool   `json:"needs_key,omitempty"`
}

// Sizes of the values in bytes.
var Sizes = []int{0, 1, 16, 20}

const value = "a 20-byte password!!"

// No key has a zero byte or a line feed, at which softhsm2-util would end it.
var keys = []struct {
	name string
	key  ciphertext.Key
}{
	{"aes-256", ciphertext.Key{AES: counting(0x10, 32)}},
	{"aes-256-and-hmac", ciphertext.Key{AES: counting(0x10, 32), MAC: counting(0x30, 32)}},
	{"aes-192", ciphertext.Key{AES: counting(0x50, 24)}},
	{"aes-128", ciphertext.Key{AES: counting(0x70, 16)}},
}

var (
	unlisted = ciphertext.Key{AES: counting(0x80, 32)}
	retired  = ciphertext.Key{AES: counting(0xa0, 32)}
	dataKey  = counting(0xc0, 32)
)

// JSON is the file's contents.
func JSON() ([]byte, error) {
	file := File{
		Comment: "Test vectors of docs/ciphertext.md, made by `go run ./vectors/make` in test/go; never edited by hand.",
		Retired: []Key{{Name: "retired", AES: hex.EncodeToString(retired.AES), KeyID: retired.ID().String()}},
		Vectors: vectors(),
		Refused: refused(),
	}
	for _, k := range keys {
		file.Keys = append(file.Keys, Key{k.name, hex.EncodeToString(k.key.AES), hex.EncodeToString(k.key.MAC), k.key.ID().String()})
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(file)
	return out.Bytes(), err
}

func vectors() []Vector {
	var all []Vector
	direct := func(at int, scheme ciphertext.Scheme, ivLength int) {
		for _, size := range Sizes {
			iv, plaintext := counting(0xd0, ivLength), []byte(value[:size])
			all = append(all, Vector{
				Name: fmt.Sprintf("scheme %d, %s, %d bytes", scheme, keys[at].name, size), Key: keys[at].name, Scheme: int(scheme),
				IV: hex.EncodeToString(iv), Plaintext: hex.EncodeToString(plaintext),
				Ciphertext: hex.EncodeToString(ciphertext.Seal(scheme, keys[at].key, iv, plaintext)),
			})
		}
	}
	withDataKey := func(at int, inner ciphertext.Scheme, innerIVLength int) {
		for _, size := range Sizes {
			innerIV, iv, plaintext := counting(0xe0, innerIVLength), counting(0xf0, 12), []byte(value[:size])
			all = append(all, Vector{
				Name: fmt.Sprintf("scheme 4 over %d, %s, %d bytes", inner, keys[at].name, size), Key: keys[at].name,
				Scheme: int(ciphertext.DataKey), InnerScheme: int(inner), DataKey: hex.EncodeToString(dataKey),
				InnerIV: hex.EncodeToString(innerIV), IV: hex.EncodeToString(iv), Plaintext: hex.EncodeToString(plaintext),
				Ciphertext: hex.EncodeToString(ciphertext.SealWithDataKey(inner, keys[at].key, dataKey, innerIV, iv, plaintext)),
			})
		}
	}
	direct(0, ciphertext.GCM, 12)
	direct(2, ciphertext.GCM, 12)
	direct(3, ciphertext.GCM, 12)
	direct(0, ciphertext.GCMTokenIV, 16)
	direct(1, ciphertext.CBCThenMAC, 16)
	withDataKey(0, ciphertext.GCM, 12)
	withDataKey(0, ciphertext.GCMTokenIV, 16)
	withDataKey(1, ciphertext.CBCThenMAC, 16)
	return all
}

// counting is n bytes that count up from first.
func counting(first byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = first + byte(i)
	}
	return out
}
