package vectors

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"hsm-kms-plugin/test/ciphertext"
)

// A released format never changes: the file is made the same again, byte for byte.
func TestTheFileIsWhatIsMadeToday(t *testing.T) {
	checkedIn, err := os.ReadFile("../../vectors/ciphertext.json")
	if err != nil {
		t.Fatal(err)
	}
	made, err := JSON()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(checkedIn, made) {
		t.Fatal("test/vectors/ciphertext.json differs from what `go run ./vectors/make` makes")
	}
}

func TestEveryVectorOpens(t *testing.T) {
	file, ring := read(t)
	if len(file.Vectors) < 32 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	for _, vector := range file.Vectors {
		t.Run(vector.Name, func(t *testing.T) {
			plaintext, err := ring.Open(unhex(t, vector.Ciphertext))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(plaintext, unhex(t, vector.Plaintext)) {
				t.Fatalf("got %x", plaintext)
			}
		})
	}
}

func TestEveryRefusedOneIsRefusedWithItsStatus(t *testing.T) {
	file, ring := read(t)
	for _, refused := range file.Refused {
		t.Run(refused.Name, func(t *testing.T) {
			_, err := ring.Open(unhex(t, refused.Ciphertext))
			var refusal ciphertext.Refusal
			if !errors.As(err, &refusal) || refusal.Status != refused.Status {
				t.Fatalf("want %s, got %v", refused.Status, err)
			}
		})
	}
}

// Every prefix of every vector is refused, whatever the length at which it is cut.
func TestEveryTruncationIsRefused(t *testing.T) {
	file, ring := read(t)
	for _, vector := range file.Vectors {
		whole := unhex(t, vector.Ciphertext)
		for n := range whole {
			if _, err := ring.Open(whole[:n]); err == nil {
				t.Fatalf("%s: %d of %d bytes were decrypted", vector.Name, n, len(whole))
			}
		}
	}
}

// Every bit is under a check: magic, version, scheme, key id, lengths, tag or MAC.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	file, ring := read(t)
	for _, vector := range file.Vectors {
		whole := unhex(t, vector.Ciphertext)
		for bit := range len(whole) * 8 {
			flipped := bytes.Clone(whole)
			flipped[bit/8] ^= 1 << (bit % 8)
			if _, err := ring.Open(flipped); err == nil {
				t.Fatalf("%s: decrypted with bit %d flipped", vector.Name, bit)
			}
		}
	}
}

// docs/ciphertext.md shows some of the vectors, their hex broken into lines.
func TestTheDocumentShowsTheSameVectors(t *testing.T) {
	file, _ := read(t)
	document, err := os.ReadFile("../../../docs/ciphertext.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(document)), "")
	shown := map[int]bool{}
	for _, vector := range file.Vectors {
		if strings.Contains(text, vector.IV+"value"+cmp.Or(vector.Plaintext, "(empty)")+"ciphertext"+vector.Ciphertext) {
			shown[vector.Scheme] = true
		}
	}
	for scheme := 1; scheme <= 4; scheme++ {
		if !shown[scheme] {
			t.Errorf("docs/ciphertext.md shows no vector of scheme %d", scheme)
		}
	}
	for _, key := range file.Keys[:2] {
		if !strings.Contains(text, key.KeyID) {
			t.Errorf("docs/ciphertext.md does not show the key id of %s", key.Name)
		}
	}
}

func read(t *testing.T) (File, ciphertext.Ring) {
	t.Helper()
	contents, err := os.ReadFile("../../vectors/ciphertext.json")
	if err != nil {
		t.Fatal(err)
	}
	var file File
	if err := json.Unmarshal(contents, &file); err != nil {
		t.Fatal(err)
	}
	var ring ciphertext.Ring
	for _, key := range file.Keys {
		raw := ciphertext.Key{AES: unhex(t, key.AES)}
		if key.MAC != "" {
			raw.MAC = unhex(t, key.MAC)
		}
		if raw.ID().String() != key.KeyID {
			t.Fatalf("%s: key id %s, want %s", key.Name, raw.ID(), key.KeyID)
		}
		ring.Keys = append(ring.Keys, raw)
	}
	for _, key := range file.Retired {
		ring.Retired = append(ring.Retired, ciphertext.ID(unhex(t, key.KeyID)))
	}
	return file, ring
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	bytes, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}
