package kubernetes

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"hsm-kms-plugin/test/plugin"
)

// What operators copy: the static pod, and EncryptionConfigurations.
const (
	staticPod = "../../../manifests/kubernetes/kms-plugin.pod.yaml"
	manifests = "../../../manifests/kubernetes/encryption"
)

var endpoints = regexp.MustCompile(`unix:///[^\s]+`)

// loadManifest starts an API server on one of them, with the test's sockets in place of the cluster's. All of its health
// checks must pass.
func loadManifest(t *testing.T, running *plugin.Plugin, name string) *apiServer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(manifests, name))
	if err != nil {
		t.Fatal(err)
	}
	here := endpoints.ReplaceAllStringFunc(string(text), func(endpoint string) string {
		if bytes.Contains([]byte(endpoint), []byte("@")) {
			return "unix:///" + running.Abstract
		}
		return "unix://" + running.Path
	})
	loaded := loadText(t, here, false)
	loaded.healthy(t)
	return loaded
}

func (s *apiServer) healthy(t *testing.T) {
	t.Helper()
	if len(s.config.HealthChecks) == 0 {
		t.Error("no health check")
	}
	for _, check := range s.config.HealthChecks {
		if err := check.Check(httptest.NewRequest("GET", "/readyz", nil)); err != nil {
			t.Errorf("%s: %v", check.Name(), err)
		}
	}
}

// Kubernetes knows every field of the static pod, at the place where it stands.
func TestStaticPodIsWhatKubernetesKnows(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(staticPod)
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(text, &pod); err != nil {
		t.Fatal(err)
	}
	if pod.APIVersion != "v1" || pod.Kind != "Pod" || len(pod.Spec.Containers) != 1 {
		t.Errorf("not one pod with one container: %s %s, %d", pod.APIVersion, pod.Kind, len(pod.Spec.Containers))
	}
	if limit := pod.Spec.Containers[0].Resources.Limits.Memory(); limit.Value() != 384<<20 {
		t.Errorf("the limit of memory is %s, docs/kubernetes.md says 384Mi", limit)
	}
}

// Nobody finds a file here that no test holds against the API server's own loader.
func TestEveryManifestLoads(t *testing.T) {
	t.Parallel()
	running := start(t)
	entries, err := os.ReadDir(manifests)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d manifests, %v", len(entries), err)
	}
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			loaded := loadManifest(t, running, entry.Name())
			if !bytes.Equal(loaded.writeAny(t), []byte("a secret")) && loaded.read(t, loaded.writeAny(t)) {
				t.Error("stale as soon as it is written")
			}
		})
	}
}

// writeAny writes the secret, encrypted or not.
func (s *apiServer) writeAny(t *testing.T) []byte {
	t.Helper()
	stored, err := s.secrets.TransformToStorage(t.Context(), []byte("a secret"), place)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// Into KMS and out of it again, one API server after the other: at every step each reads what any of them wrote, and what a
// storage migration must rewrite is stale.
func TestManifestsInAndOut(t *testing.T) {
	t.Parallel()
	running := start(t)
	plain := []byte("a secret")
	for version, prefix := range map[string]string{"v2": "k8s:enc:kms:v2:hsm:", "v1": "k8s:enc:kms:v1:hsm-v1:"} {
		t.Run(version, func(t *testing.T) {
			prepared := loadManifest(t, running, version+"-read-only.yaml")
			if written := prepared.writeAny(t); !bytes.Equal(written, plain) || prepared.read(t, written) {
				t.Errorf("before KMS is used, %q is written", written)
			}
			using := loadManifest(t, running, version+".yaml")
			stored := using.write(t, prefix)
			if using.read(t, stored) || !using.read(t, plain) {
				t.Error("not what is encrypted, or what is not, is stale")
			}
			// The other API servers, still to be changed, or already on the way out.
			if !prepared.read(t, stored) {
				t.Error("a migration would leave what is encrypted")
			}
		})
	}
}

// v1's envelope does not tell the key: after a rotation in the HSM nothing is stale until the provider has another name.
// The names of v1.yaml are exchanged at each rotation, and at every step every file reads what is there under either.
func TestManifestsRotateV1(t *testing.T) {
	t.Parallel()
	running := start(t)
	stored := loadManifest(t, running, "v1.yaml").write(t, "k8s:enc:kms:v1:hsm-v1:")

	running.Token.NewKey(t, "second")
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "decrypt"}, {Label: "second", State: "active"}}})
	running.Restart(t)
	if loadManifest(t, running, "v1.yaml").read(t, stored) {
		t.Error("stale under the same name: the documentation says otherwise")
	}
	rotating := loadManifest(t, running, "v1-rotate.yaml")
	if !rotating.read(t, stored) {
		t.Error("not stale under another name")
	}
	rewritten := rotating.write(t, "k8s:enc:kms:v1:hsm-v1-2:")
	if rotating.read(t, rewritten) {
		t.Error("stale after it was written again")
	}
	for name, stale := range map[string]bool{"v1.yaml": true, "v1-read-only.yaml": true, "v1-to-v2.yaml": true} {
		loaded := loadManifest(t, running, name)
		if loaded.read(t, rewritten) != stale {
			t.Errorf("%s: what was written after the rotation is not stale", name)
		}
		// Half of a migration is done: what it has not reached is read too.
		loaded.read(t, stored)
	}

	// The next rotation, with the old key gone and what was migrated.
	running.Token.NewKey(t, "third")
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "second", State: "decrypt"}, {Label: "third", State: "active"}}})
	running.Restart(t)
	again := loadManifest(t, running, "v1.yaml")
	if !again.read(t, rewritten) {
		t.Error("not stale after the names were exchanged once more")
	}
	again.read(t, again.write(t, "k8s:enc:kms:v1:hsm-v1:"))
}

func TestManifestsFromV1ToV2(t *testing.T) {
	t.Parallel()
	running := start(t)
	stored := loadManifest(t, running, "v1.yaml").write(t, "k8s:enc:kms:v1:hsm-v1:")
	moving := loadManifest(t, running, "v1-to-v2.yaml")
	if !moving.read(t, stored) {
		t.Error("what v1 wrote is not stale")
	}
	rewritten := moving.write(t, "k8s:enc:kms:v2:hsm:")
	if loadManifest(t, running, "v2.yaml").read(t, rewritten) {
		t.Error("stale after it was written again")
	}
}

// An API server that follows its file has one health check for all its plugins, of either version.
func TestHealthChecksWithReload(t *testing.T) {
	t.Parallel()
	running := start(t)
	for _, name := range []string{"v1.yaml", "v2.yaml", "v1-to-v2.yaml"} {
		text, err := os.ReadFile(filepath.Join(manifests, name))
		if err != nil {
			t.Fatal(err)
		}
		loaded := loadText(t, endpoints.ReplaceAllString(string(text), "unix://"+running.Path), true)
		if err := loaded.health(t, "kms-providers"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
