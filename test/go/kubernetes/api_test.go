// Package kubernetes holds the plugin against kube-apiserver's own code: the generated clients of k8s.io/kms, and
// k8s.io/apiserver's envelopes, configuration loader and health checks.
package kubernetes

import (
	"bytes"
	"context"
	"crypto/rand"
	"regexp"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/kms/apis/v1beta1"
	v2 "k8s.io/kms/apis/v2"

	"hsm-kms-plugin/test/plugin"
)

// callLimit bounds one call of the plugin. kube-apiserver's default is 3 s; a busy test machine gets more.
const callLimit = 10 * time.Second

func TestV1Beta1(t *testing.T) {
	t.Parallel()
	running := start(t)
	client := v1.NewKeyManagementServiceClient(plugin.Dial(t, running.Path))

	version, err := client.Version(limited(t), &v1.VersionRequest{Version: "v1beta1"})
	if err != nil || version.GetVersion() != "v1beta1" || version.GetRuntimeName() == "" || version.GetRuntimeVersion() == "" {
		t.Fatalf("Version: %v, %v", version, err)
	}

	for _, asked := range []string{"", "v1beta1"} {
		for _, size := range []int{0, 1, 32, 1 << 20} {
			value := random(t, size)
			encrypted, err := client.Encrypt(limited(t), &v1.EncryptRequest{Version: asked, Plain: value})
			if err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if longer := len(encrypted.GetCipher()) - size; longer <= 0 || longer > 535 {
				t.Errorf("%d bytes became %d", size, len(encrypted.GetCipher()))
			}
			decrypted, err := client.Decrypt(limited(t), &v1.DecryptRequest{Version: asked, Cipher: encrypted.GetCipher()})
			if err != nil || !bytes.Equal(decrypted.GetPlain(), value) {
				t.Fatalf("%d bytes came back as %d, %v", size, len(decrypted.GetPlain()), err)
			}
		}
	}

	_, err = client.Encrypt(limited(t), &v1.EncryptRequest{Version: "v1", Plain: []byte("x")})
	wantCode(t, "Encrypt with another version", err, codes.InvalidArgument)
	_, err = client.Decrypt(limited(t), &v1.DecryptRequest{Version: "v1", Cipher: []byte("x")})
	wantCode(t, "Decrypt with another version", err, codes.InvalidArgument)
	_, err = client.Encrypt(limited(t), &v1.EncryptRequest{Plain: random(t, 1<<20+1)})
	wantCode(t, "a value over the limit", err, codes.ResourceExhausted)
	for _, size := range []int{0, 1, 80, 144} {
		_, err = client.Decrypt(limited(t), &v1.DecryptRequest{Cipher: random(t, size)})
		wantCode(t, "bytes of someone else", err, codes.InvalidArgument)
	}
}

func TestV2(t *testing.T) {
	t.Parallel()
	running := start(t)
	for name, socket := range map[string]string{"path": running.Path, "abstract": running.Abstract} {
		t.Run(name, func(t *testing.T) {
			client := v2.NewKeyManagementServiceClient(plugin.Dial(t, socket))
			now, err := client.Status(limited(t), &v2.StatusRequest{})
			if err != nil || now.GetVersion() != "v2" || now.GetHealthz() != "ok" {
				t.Fatalf("Status: %v, %v", now, err)
			}
			if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(now.GetKeyId()) {
				t.Fatalf("key_id %q", now.GetKeyId())
			}

			seed := random(t, 32)
			encrypted, err := client.Encrypt(limited(t), &v2.EncryptRequest{Plaintext: seed, Uid: "a-uid"})
			if err != nil {
				t.Fatal(err)
			}
			if encrypted.GetKeyId() != now.GetKeyId() {
				t.Errorf("Encrypt says key_id %q, Status %q", encrypted.GetKeyId(), now.GetKeyId())
			}
			if n := len(encrypted.GetCiphertext()); n == 0 || n > 1024 {
				t.Errorf("the ciphertext of a seed has %d bytes", n)
			}
			request := func() *v2.DecryptRequest {
				return &v2.DecryptRequest{
					Ciphertext: encrypted.GetCiphertext(), KeyId: encrypted.GetKeyId(), Annotations: encrypted.GetAnnotations(), Uid: "another",
				}
			}
			decrypted, err := client.Decrypt(limited(t), request())
			if err != nil || !bytes.Equal(decrypted.GetPlaintext(), seed) {
				t.Fatalf("Decrypt: %v", err)
			}

			wrong := request()
			wrong.KeyId = "00000000000000000000000000000000"
			_, err = client.Decrypt(limited(t), wrong)
			wantCode(t, "another key_id", err, codes.InvalidArgument)
			wrong = request()
			wrong.Annotations = map[string][]byte{"stranger.example.com": []byte("x")}
			_, err = client.Decrypt(limited(t), wrong)
			wantCode(t, "annotations that Encrypt did not give", err, codes.InvalidArgument)
			wrong = request()
			wrong.Ciphertext = random(t, 86)
			_, err = client.Decrypt(limited(t), wrong)
			wantCode(t, "bytes of someone else", err, codes.InvalidArgument)
		})
	}
}

// start runs a plugin with one active key, "first".
func start(t *testing.T) *plugin.Plugin {
	t.Helper()
	token := plugin.NewToken(t)
	token.NewKey(t, "first")
	return plugin.Start(t, token, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "active"}}})
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
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

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: want %s, got %v", what, want, err)
	}
}
