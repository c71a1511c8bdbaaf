package ciphertext

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

var errNotAuthentic = errors.New("tag or MAC wrong")

// Seal makes a ciphertext of scheme 1, 2 or 3 under the given IV.
func Seal(scheme Scheme, key Key, iv, plaintext []byte) []byte {
	associated := header(scheme, key.ID())
	return append(associated, seal(scheme, key, iv, associated, plaintext)...)
}

// SealWithDataKey makes a ciphertext of scheme 4: inner seals the data key, the data key seals the value.
func SealWithDataKey(inner Scheme, key Key, dataKey, innerIV, iv, plaintext []byte) []byte {
	bytes := append(header(DataKey, key.ID()), byte(inner))
	sealed := seal(inner, key, innerIV, bytes, dataKey)
	bytes = binary.BigEndian.AppendUint16(bytes, uint16(len(sealed)))
	bytes = append(bytes, sealed...)
	return append(bytes, seal(GCM, Key{AES: dataKey}, iv, bytes, plaintext)...)
}

// seal makes IV, ciphertext and tag or MAC.
func seal(scheme Scheme, key Key, iv, associated, plaintext []byte) []byte {
	if len(iv) != scheme.ivLength() {
		panic("wrong IV length")
	}
	body := append([]byte(nil), iv...)
	if scheme != CBCThenMAC {
		return gcm(key.AES, len(iv)).Seal(body, iv, plaintext, associated)
	}
	pad := blockLength - len(plaintext)%blockLength
	padded := append([]byte(nil), plaintext...)
	for range pad {
		padded = append(padded, byte(pad))
	}
	block, err := aes.NewCipher(key.AES)
	if err != nil {
		panic(err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
	body = append(body, padded...)
	return append(body, mac(key, associated, body)...)
}

// open is the reverse of seal; body is at least as long as an empty value's.
func open(scheme Scheme, key Key, associated, body []byte) ([]byte, error) {
	iv, rest := body[:scheme.ivLength()], body[scheme.ivLength():]
	if scheme != CBCThenMAC {
		plaintext, err := gcm(key.AES, len(iv)).Open(nil, iv, rest, associated)
		if err != nil {
			return nil, errNotAuthentic
		}
		return plaintext, nil
	}
	maced := body[:len(body)-macLength]
	if !hmac.Equal(body[len(maced):], mac(key, associated, maced)) {
		return nil, errNotAuthentic
	}
	block, err := aes.NewCipher(key.AES)
	if err != nil {
		return nil, err
	}
	padded := append([]byte(nil), maced[len(iv):]...)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(padded, padded)
	pad := int(padded[len(padded)-1])
	if pad < 1 || pad > blockLength {
		return nil, errNotAuthentic
	}
	return padded[:len(padded)-pad], nil
}

func mac(key Key, associated, body []byte) []byte {
	mac := hmac.New(sha256.New, key.MAC)
	mac.Write(associated)
	mac.Write(body)
	return mac.Sum(nil)
}

func gcm(key []byte, ivLength int) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, ivLength)
	if err != nil {
		panic(err)
	}
	return aead
}
