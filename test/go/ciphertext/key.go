package ciphertext

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/sha256"
)

// Key is the raw key: AES alone for schemes 1, 2 and 4 over them; with MAC besides for schemes 3 and 4 over 3.
type Key struct {
	AES []byte
	MAC []byte
}

// ID computes the key id: a hash of what the key makes of a fixed block, so that every host computes the same one and
// another key under the same label has another.
func (k Key) ID() ID {
	check := sha256.Sum256([]byte("hsm-kms-plugin key check"))
	block := check[:blockLength]
	cipher, err := aes.NewCipher(k.AES)
	if err != nil {
		panic(err)
	}
	proof := make([]byte, blockLength)
	cipher.Encrypt(proof, block)
	hashed := append([]byte("hsm-kms-plugin key id v1"), proof...)
	if k.MAC != nil {
		mac := hmac.New(sha256.New, k.MAC)
		mac.Write(block)
		hashed = mac.Sum(hashed)
	}
	sum := sha256.Sum256(hashed)
	return ID(sum[:KeyIDLength])
}

// can says whether the key does one of the schemes 1 to 3: the id of a pair of keys stands for scheme 3 alone.
func (k Key) can(scheme Scheme) bool {
	if k.MAC != nil {
		return scheme == CBCThenMAC
	}
	return scheme == GCM || scheme == GCMTokenIV
}

// IDFromAttribute is the key id on a token that forbids every mechanism the usual one needs: a hash of CKA_ID.
func IDFromAttribute(ckaID []byte) ID {
	sum := sha256.Sum256(append([]byte("hsm-kms-plugin key id cka v1"), ckaID...))
	return ID(sum[:KeyIDLength])
}
