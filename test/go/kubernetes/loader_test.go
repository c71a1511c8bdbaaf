package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/features"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	utilfeature "k8s.io/apiserver/pkg/util/feature"

	"hsm-kms-plugin/test/plugin"
)

func TestMain(m *testing.M) {
	// KMS v1 is off by default since 1.29.
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{string(features.KMSv1): true}); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// apiServer is what one start of an API server makes of an EncryptionConfiguration.
type apiServer struct {
	config  *encryptionconfig.EncryptionConfiguration
	secrets value.Transformer
}

// load starts an API server, as far as encryption goes, on a provider of that name with identity as fall-back.
func load(t *testing.T, version, name, endpoint string) *apiServer {
	t.Helper()
	text := fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - kms: { apiVersion: %s, name: %s, endpoint: %q, timeout: 10s }
      - identity: {}
`, version, name, endpoint)
	return loadText(t, text, false)
}

// loadText starts an API server on an EncryptionConfiguration; reload says whether it follows changes of the file by itself.
func loadText(t *testing.T, text string, reload bool) *apiServer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "encryption.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, file, reload, "test")
	if err != nil {
		t.Fatal(err)
	}
	resource := schema.GroupResource{Resource: "secrets"}
	return &apiServer{config: config, secrets: encryptionconfig.StaticTransformers(config.Transformers).TransformerForResource(resource)}
}

// health is the API server's own check of the plugin.
func (s *apiServer) health(t *testing.T, name string) error {
	t.Helper()
	if len(s.config.HealthChecks) != 1 || s.config.HealthChecks[0].Name() != name {
		t.Fatalf("want one health check named %s, got %v", name, s.config.HealthChecks)
	}
	return s.config.HealthChecks[0].Check(httptest.NewRequest("GET", "/readyz", nil))
}

func (s *apiServer) write(t *testing.T, prefix string) []byte {
	t.Helper()
	stored, err := s.secrets.TransformToStorage(t.Context(), []byte("a secret"), place)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(stored, []byte(prefix)) || bytes.Contains(stored, []byte("a secret")) {
		t.Fatalf("stored as %q", stored)
	}
	return stored
}

func (s *apiServer) read(t *testing.T, stored []byte) (stale bool) {
	t.Helper()
	got, stale, err := s.secrets.TransformFromStorage(t.Context(), stored, place)
	if err != nil || string(got) != "a secret" {
		t.Fatalf("read %q, %v", got, err)
	}
	return stale
}

func TestLoaderV2(t *testing.T) {
	t.Parallel()
	running := start(t)
	for name, endpoint := range map[string]string{"path": "unix://" + running.Path, "abstract": "unix:///" + running.Abstract} {
		t.Run(name, func(t *testing.T) {
			loaded := load(t, "v2", "hsm-"+name, endpoint)
			if err := loaded.health(t, "kms-providers"); err != nil {
				t.Fatal(err)
			}
			stored := loaded.write(t, "k8s:enc:kms:v2:hsm-"+name+":")
			if loaded.read(t, stored) || load(t, "v2", "hsm-"+name, endpoint).read(t, stored) {
				t.Error("stale under the same key")
			}
			// What was written before KMS was configured is read, and rewritten by the next update.
			if !loaded.read(t, []byte("a secret")) {
				t.Error("what is not encrypted is not stale")
			}
		})
	}
}

func TestLoaderV1(t *testing.T) {
	t.Parallel()
	running := start(t)
	endpoint := "unix://" + running.Path
	loaded := load(t, "v1", "hsm", endpoint)
	if err := loaded.health(t, "kms-provider-0"); err != nil {
		t.Fatal(err)
	}
	stored := loaded.write(t, "k8s:enc:kms:v1:hsm:")
	running.Restart(t)
	if loaded.read(t, stored) || load(t, "v1", "hsm", endpoint).read(t, stored) {
		t.Error("stale under the same key")
	}
}

// A running API server learns of a rotation from Status: its health check fetches a new seed.
func TestLoaderV2FollowsARotation(t *testing.T) {
	t.Parallel()
	running := start(t)
	loaded := load(t, "v2", "rotated", "unix://"+running.Path)
	stored := loaded.write(t, "k8s:enc:kms:v2:rotated:")

	running.Token.NewKey(t, "second")
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "active"}, {Label: "second", State: "decrypt"}}})
	running.Restart(t)
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "decrypt"}, {Label: "second", State: "active"}}})
	running.Reload(t)
	// The API server keeps a good answer for 20 seconds.
	running.Await(t, "the API server sees the new key", func() bool {
		return loaded.health(t, "kms-providers") == nil && loaded.read(t, stored)
	})
	if loaded.read(t, loaded.write(t, "k8s:enc:kms:v2:rotated:")) {
		t.Error("stale after it was written again")
	}
}

// The HSM is out of reach: reads go on from the seed in memory, writes for three minutes, a new API server says why it
// is not ready, and all is well again without a restart of anything.
func TestLoaderV2InAnOutage(t *testing.T) {
	t.Parallel()
	running := start(t)
	endpoint := "unix://" + running.Path
	before := load(t, "v2", "outage", endpoint)
	stored := before.write(t, "k8s:enc:kms:v2:outage:")

	running.Token.Away(t)
	running.KillTokenProcess(t)
	running.AwaitStatus(t, func(healthz string) bool { return healthz != "ok" })

	before.read(t, stored)
	before.read(t, before.write(t, "k8s:enc:kms:v2:outage:"))
	undo := kmsv2.SetNowFuncForTests("outage", func() time.Time { return time.Now().Add(4 * time.Minute) })
	_, err := before.secrets.TransformToStorage(t.Context(), []byte("a secret"), place)
	undo()
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a write four minutes into an outage: %v", err)
	}

	during := load(t, "v2", "outage-2", endpoint)
	if err := during.health(t, "kms-providers"); err == nil || !strings.Contains(err.Error(), "got unexpected healthz status") {
		t.Errorf("the health check of an API server that starts in an outage: %v", err)
	}

	running.Token.Back(t)
	running.AwaitStatus(t, func(healthz string) bool { return healthz == "ok" })
	// The API server keeps a bad answer for 3 seconds.
	running.Await(t, "the API server is ready", func() bool { return during.health(t, "kms-providers") == nil })
	during.read(t, during.write(t, "k8s:enc:kms:v2:outage-2:"))
	before.read(t, stored)
}

// v1 asks the plugin for every write: they fail in an outage, at once and with a reason, and work again after it.
func TestLoaderV1InAnOutage(t *testing.T) {
	t.Parallel()
	running := start(t)
	endpoint := "unix://" + running.Path
	before := load(t, "v1", "outage", endpoint)
	stored := before.write(t, "k8s:enc:kms:v1:outage:")

	running.Token.Away(t)
	running.KillTokenProcess(t)
	running.AwaitStatus(t, func(healthz string) bool { return healthz != "ok" })
	if _, err := before.secrets.TransformToStorage(t.Context(), []byte("a secret"), place); err == nil {
		t.Error("written without the HSM")
	}
	during := load(t, "v1", "outage", endpoint)
	if err := during.health(t, "kms-provider-0"); err == nil {
		t.Error("healthy without the HSM")
	}

	running.Token.Back(t)
	running.AwaitStatus(t, func(healthz string) bool { return healthz == "ok" })
	running.Await(t, "the API server is ready", func() bool { return during.health(t, "kms-provider-0") == nil })
	during.read(t, stored)
	during.read(t, during.write(t, "k8s:enc:kms:v1:outage:"))
}
