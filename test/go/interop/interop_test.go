// Package interop holds the plugin's ciphertexts against the second implementation: what the plugin makes is read from
// the raw key alone, and what is made from the raw key alone the plugin reads.
package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/kms/apis/v1beta1"
	v2 "k8s.io/kms/apis/v2"

	"hsm-kms-plugin/test/ciphertext"
	"hsm-kms-plugin/test/plugin"
	"hsm-kms-plugin/test/vectors"
)

// sizes in bytes: around the block, CredHub's canaries, a column's limit, the plugin's limit.
var sizes = []int{0, 1, 15, 16, 17, 20, 32, 64, 128, 4096, 20_480, 65_000, 1 << 20}

func TestGoReadsWhatThePluginMakes(t *testing.T) {
	t.Parallel()
	key, client, running := start(t)
	answer, err := v2.NewKeyManagementServiceClient(plugin.Dial(t, running.Path)).Status(limited(t), &v2.StatusRequest{})
	if err != nil || answer.GetKeyId() != key.ID().String() {
		t.Fatalf("key id %v, %v; computed from the raw key %s", answer, err, key.ID())
	}
	seen := map[string]bool{}
	for _, size := range sizes {
		value := random(t, size)
		encrypted, err := client.Encrypt(limited(t), &v1.EncryptRequest{Plain: value})
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		whole := encrypted.GetCipher()
		if want := 26 + 12 + size + 16; ciphertext.Scheme(whole[9]) != ciphertext.GCM || len(whole) != want {
			t.Fatalf("%d bytes: scheme %d, %d bytes", size, whole[9], len(whole))
		}
		opened, err := ciphertext.Ring{Keys: []ciphertext.Key{key}}.Open(whole)
		if err != nil || !bytes.Equal(opened, value) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		iv := string(whole[26:38])
		if seen[iv] {
			t.Fatal("an IV was used twice")
		}
		seen[iv] = true
	}
}

// Both ways to use data keys: with reuse all values have the same sealed key, with per-value each has its own.
func TestGoReadsWhatThePluginMakesWithDataKeys(t *testing.T) {
	t.Parallel()
	for mode, perValue := range map[string]bool{"reuse": false, "per-value": true} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			key, client, _ := startWith(t, "{ name: envelope, data_key: "+mode+" }")
			sealed, ivs := map[string]bool{}, map[string]bool{}
			for _, size := range sizes {
				value := random(t, size)
				encrypted, err := client.Encrypt(limited(t), &v1.EncryptRequest{Plain: value})
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				whole := encrypted.GetCipher()
				if want := 26 + 3 + 60 + 12 + size + 16; ciphertext.Scheme(whole[9]) != ciphertext.DataKey || len(whole) != want {
					t.Fatalf("%d bytes: scheme %d, %d bytes", size, whole[9], len(whole))
				}
				opened, err := ciphertext.Ring{Keys: []ciphertext.Key{key}}.Open(whole)
				if err != nil || !bytes.Equal(opened, value) {
					t.Fatalf("%d bytes: %v", size, err)
				}
				sealed[string(whole[29:89])] = true
				ivs[string(whole[89:101])] = true
				decrypted, err := client.Decrypt(limited(t), &v1.DecryptRequest{Cipher: whole})
				if err != nil || !bytes.Equal(decrypted.GetPlain(), value) {
					t.Fatalf("%d bytes, by the plugin itself: %v", size, err)
				}
			}
			if want := map[bool]int{false: 1, true: len(sizes)}[perValue]; len(sealed) != want {
				t.Errorf("%d data keys, want %d", len(sealed), want)
			}
			if len(ivs) != len(sizes) {
				t.Error("an IV was used twice")
			}
		})
	}
}

func TestThePluginReadsWhatGoMakes(t *testing.T) {
	t.Parallel()
	key, client, _ := start(t)
	for _, size := range sizes {
		value := random(t, size)
		for name, made := range map[string][]byte{
			"scheme 1":        ciphertext.Seal(ciphertext.GCM, key, random(t, 12), value),
			"scheme 4 over 1": ciphertext.SealWithDataKey(ciphertext.GCM, key, random(t, 32), random(t, 12), random(t, 12), value),
		} {
			decrypted, err := client.Decrypt(limited(t), &v1.DecryptRequest{Cipher: made})
			if err != nil || !bytes.Equal(decrypted.GetPlain(), value) {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
		}
	}
}

// The checked-in vectors against the running plugin, keys of every size: those that a SoftHSM2 token can do.
func TestThePluginReadsAndRefusesTheVectors(t *testing.T) {
	t.Parallel()
	contents, err := os.ReadFile("../../vectors/ciphertext.json")
	if err != nil {
		t.Fatal(err)
	}
	var file vectors.File
	if err := json.Unmarshal(contents, &file); err != nil {
		t.Fatal(err)
	}
	token := plugin.NewToken(t)
	config := plugin.Config{Retired: []string{file.Retired[0].KeyID}}
	listed := map[string]bool{}
	for _, key := range file.Keys {
		// Scheme 3's second key is no AES key, and its profile another one's.
		if key.MAC != "" {
			continue
		}
		token.Import(t, key.Name, unhex(t, key.AES))
		state := "decrypt"
		if len(config.Keys) == 0 {
			state = "active"
		}
		config.Keys = append(config.Keys, plugin.Key{Label: key.Name, State: state, Bits: 4 * len(key.AES)})
		listed[key.Name] = true
	}
	running := plugin.Start(t, token, config)
	client := v1.NewKeyManagementServiceClient(plugin.Dial(t, running.Path))

	opened := 0
	for _, vector := range file.Vectors {
		if !listed[vector.Key] || vector.Scheme == 2 || vector.InnerScheme == 2 {
			continue
		}
		decrypted, err := client.Decrypt(limited(t), &v1.DecryptRequest{Cipher: unhex(t, vector.Ciphertext)})
		if err != nil || !bytes.Equal(decrypted.GetPlain(), unhex(t, vector.Plaintext)) {
			t.Errorf("%s: %v", vector.Name, err)
		}
		opened++
	}
	if want := (3 + 1) * len(vectors.Sizes); opened != want {
		t.Errorf("%d vectors tried, want %d", opened, want)
	}
	for _, refused := range file.Refused {
		if refused.NeedsKey && !needsOnlyGCM(refused.Name) {
			continue
		}
		_, err := client.Decrypt(limited(t), &v1.DecryptRequest{Cipher: unhex(t, refused.Ciphertext)})
		if got := statusName(status.Code(err)); got != refused.Status {
			t.Errorf("%s: want %s, got %v", refused.Name, refused.Status, err)
		}
	}
}

// needsOnlyGCM tells the refused vectors of schemes 1 and 4, which a token with AES-GCM under a given IV can judge.
func needsOnlyGCM(name string) bool {
	return (strings.HasPrefix(name, "scheme 1") || strings.HasPrefix(name, "scheme 4")) && !strings.Contains(name, "relabelled")
}

// statusName is a code under the name that the vectors give it.
func statusName(code codes.Code) string {
	return map[codes.Code]string{codes.InvalidArgument: "INVALID_ARGUMENT", codes.FailedPrecondition: "FAILED_PRECONDITION"}[code]
}

// start runs a plugin on one key of known value.
func start(t *testing.T) (ciphertext.Key, v1.KeyManagementServiceClient, *plugin.Plugin) {
	t.Helper()
	return startWith(t, "")
}

// startWith has the section "scheme" as well.
func startWith(t *testing.T, scheme string) (ciphertext.Key, v1.KeyManagementServiceClient, *plugin.Plugin) {
	t.Helper()
	token := plugin.NewToken(t)
	key := ciphertext.Key{AES: token.NewKey(t, "known")}
	running := plugin.Start(t, token, plugin.Config{Keys: []plugin.Key{{Label: "known", State: "active"}}, Scheme: scheme})
	return key, v1.NewKeyManagementServiceClient(plugin.Dial(t, running.Path)), running
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func random(t *testing.T, size int) []byte {
	t.Helper()
	out := make([]byte, size)
	if _, err := rand.Read(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	out, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
