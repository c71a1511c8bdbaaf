package kubernetes

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"k8s.io/apiserver/pkg/storage/value"
	aestransformer "k8s.io/apiserver/pkg/storage/value/encrypt/aes"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	kmsservice "k8s.io/kms/pkg/service"

	"hsm-kms-plugin/test/plugin"
)

// place is where a secret is stored: its etcd key, which the API server binds to the value.
var place = value.DefaultContext("/registry/secrets/default/one")

// server is one life of an API server with respect to one plugin: nothing cached from an earlier one.
type server struct {
	service     kmsservice.Service
	transformer value.Transformer
	state       kmsv2.State
}

func newServer(t *testing.T, endpoint, name string) *server {
	t.Helper()
	service, err := kmsv2.NewGRPCService(t.Context(), endpoint, name, callLimit)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{service: service}
	s.fetchSeed(t, name)
	s.transformer = kmsv2.NewEnvelopeTransformer(service, name, func() (kmsv2.State, error) { return s.state, nil }, "test")
	return s
}

// fetchSeed does what the API server does at its start, and when Status tells another key_id.
func (s *server) fetchSeed(t *testing.T, name string) {
	t.Helper()
	now, err := s.service.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	transformer, object, cacheKey, err := kmsv2.GenerateTransformer(t.Context(), "seed", s.service, true)
	if err != nil {
		t.Fatal(err)
	}
	if object.KeyID != now.KeyID {
		t.Fatalf("Encrypt says key_id %q, Status %q", object.KeyID, now.KeyID)
	}
	s.state = kmsv2.State{
		Transformer:                           transformer,
		EncryptedObjectKeyID:                  object.KeyID,
		EncryptedObjectEncryptedDEKSource:     object.EncryptedDEKSource,
		EncryptedObjectAnnotations:            object.Annotations,
		EncryptedObjectEncryptedDEKSourceType: object.EncryptedDEKSourceType,
		ExpirationTimestamp:                   time.Now().Add(time.Hour),
		CacheKey:                              cacheKey,
		KMSProviderName:                       name,
	}
}

func (s *server) write(t *testing.T, secret string) []byte {
	t.Helper()
	stored, err := s.transformer.TransformToStorage(t.Context(), []byte(secret), place)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(stored, []byte(secret)) {
		t.Fatal("the secret is stored as it is")
	}
	return stored
}

func (s *server) read(t *testing.T, stored []byte, want string) (stale bool) {
	t.Helper()
	got, stale, err := s.transformer.TransformFromStorage(t.Context(), stored, place)
	if err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
	return stale
}

func TestEnvelopeV2(t *testing.T) {
	t.Parallel()
	running := start(t)
	endpoints := map[string]string{"path": "unix://" + running.Path, "abstract": "unix:///" + running.Abstract}
	for name, endpoint := range endpoints {
		t.Run(name, func(t *testing.T) {
			one := newServer(t, endpoint, "v2-"+name)
			stored := one.write(t, "a secret")
			if one.read(t, stored, "a secret") {
				t.Error("stale at once")
			}
			// Another API server, or the same after a restart: it asks the plugin for the seed.
			if newServer(t, endpoint, "v2-"+name).read(t, stored, "a secret") {
				t.Error("stale for another API server, with the same key")
			}

			running.Restart(t)
			if newServer(t, endpoint, "v2-"+name).read(t, stored, "a secret") {
				t.Error("stale after a restart of the plugin: key_id is not stable")
			}
			// The old connection of the first API server heals by itself.
			if _, err := one.service.Status(t.Context()); err != nil {
				t.Errorf("after a restart of the plugin: %v", err)
			}
		})
	}
}

func TestEnvelopeV2RefusesWhatDoesNotBelongTogether(t *testing.T) {
	t.Parallel()
	running := start(t)
	endpoint := "unix://" + running.Path
	stored := newServer(t, endpoint, "mixed").write(t, "a secret")
	changes := map[string]func(*kmstypes.EncryptedObject){
		"key_id":              func(o *kmstypes.EncryptedObject) { o.KeyID = "00000000000000000000000000000000" },
		"annotations":         func(o *kmstypes.EncryptedObject) { o.Annotations = map[string][]byte{"x.example.com": {1}} },
		"one bit of the seed": func(o *kmstypes.EncryptedObject) { o.EncryptedDEKSource[len(o.EncryptedDEKSource)-1] ^= 1 },
	}
	for name, change := range changes {
		var object kmstypes.EncryptedObject
		if err := proto.Unmarshal(stored, &object); err != nil {
			t.Fatal(err)
		}
		change(&object)
		changed, err := proto.Marshal(&object)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := newServer(t, endpoint, "mixed").transformer.TransformFromStorage(t.Context(), changed, place); err == nil {
			t.Errorf("%s: read all the same", name)
		}
	}
}

// The rotation that operators are told: list the new key as decrypt everywhere, then make it active everywhere.
func TestEnvelopeV2RotatesInTwoSteps(t *testing.T) {
	t.Parallel()
	running := start(t)
	endpoint := "unix://" + running.Path
	one := newServer(t, endpoint, "rotation")
	stored := one.write(t, "a secret")
	first := one.state.EncryptedObjectKeyID

	running.Token.NewKey(t, "second")
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "active"}, {Label: "second", State: "decrypt"}}})
	running.Restart(t)
	if now, err := one.service.Status(t.Context()); err != nil || now.KeyID != first {
		t.Fatalf("listing a key for decryption changed Status: %v, %v", now, err)
	}
	if newServer(t, endpoint, "rotation").read(t, stored, "a secret") {
		t.Error("stale before the new key is active")
	}

	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "decrypt"}, {Label: "second", State: "active"}}})
	running.Reload(t)
	running.Await(t, "Status tells the second key", func() bool {
		now, err := one.service.Status(t.Context())
		return err == nil && now.KeyID != first && now.Healthz == "ok"
	})
	one.fetchSeed(t, "rotation")
	if !one.read(t, stored, "a secret") {
		t.Error("not stale under the old key: a storage migration would leave it there")
	}
	rewritten := one.write(t, "a secret")
	if newServer(t, endpoint, "rotation").read(t, rewritten, "a secret") {
		t.Error("stale after it was written again")
	}

	// The old key leaves the list: what was migrated is readable, what was not fails, and not as someone else's bytes.
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "second", State: "active"}}})
	running.Restart(t)
	last := newServer(t, endpoint, "rotation")
	last.read(t, rewritten, "a secret")
	_, _, err := last.transformer.TransformFromStorage(t.Context(), stored, place)
	wantCode(t, "a seed under a key that is not listed", err, codes.FailedPrecondition)

	// Its owner says that it is gone for good.
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "second", State: "active"}}, Retired: []string{first}})
	running.Restart(t)
	_, _, err = newServer(t, endpoint, "rotation").transformer.TransformFromStorage(t.Context(), stored, place)
	wantCode(t, "a seed under a retired key", err, codes.InvalidArgument)
}

func v1Transformer(t *testing.T, endpoint string) (envelope.Service, value.Transformer) {
	t.Helper()
	service, err := envelope.NewGRPCService(t.Context(), endpoint, callLimit)
	if err != nil {
		t.Fatal(err)
	}
	// No cache: every read and every write goes to the plugin.
	return service, envelope.NewEnvelopeTransformer(service, 0, func(block cipher.Block) (value.Transformer, error) {
		if block.BlockSize() != aes.BlockSize {
			t.Errorf("the data key gives blocks of %d bytes", block.BlockSize())
		}
		return aestransformer.NewGCMTransformer(block)
	})
}

func TestEnvelopeV1(t *testing.T) {
	t.Parallel()
	running := start(t)
	service, transformer := v1Transformer(t, "unix://"+running.Path)
	stored, err := transformer.TransformToStorage(t.Context(), []byte("a secret"), place)
	if err != nil {
		t.Fatal(err)
	}
	reads := func(transformer value.Transformer) {
		t.Helper()
		got, stale, err := transformer.TransformFromStorage(t.Context(), stored, place)
		if err != nil || stale || string(got) != "a secret" {
			t.Fatalf("read %q, stale %v, %v", got, stale, err)
		}
	}
	reads(transformer)

	running.Restart(t)
	reads(transformer)
	_, other := v1Transformer(t, "unix://"+running.Path)
	reads(other)

	running.Token.NewKey(t, "second")
	running.Configure(t, plugin.Config{Keys: []plugin.Key{{Label: "first", State: "decrypt"}, {Label: "second", State: "active"}}})
	running.Restart(t)
	reads(transformer)
	again, err := service.Encrypt([]byte("a data key"))
	if err != nil {
		t.Fatal(err)
	}
	// The header's bytes 10 to 25 name the key; the first two bytes of what is stored are the envelope's own.
	if bytes.Equal(again[10:26], stored[2+10:2+26]) {
		t.Error("still encrypting under the first key")
	}
}

// The module's crash: no call fails, those in flight included.
func TestEnvelopesSurviveTheTokenProcess(t *testing.T) {
	t.Parallel()
	running := start(t)
	_, transformer := v1Transformer(t, "unix://"+running.Path)
	const workers, rounds = 8, 60
	var group sync.WaitGroup
	halfway := make(chan struct{}, workers)
	for range workers {
		group.Go(func() {
			for round := range rounds {
				if round == rounds/3 {
					halfway <- struct{}{}
				}
				stored, err := transformer.TransformToStorage(t.Context(), []byte("a secret"), place)
				if err != nil {
					t.Errorf("write %d: %v", round, err)
					return
				}
				got, _, err := transformer.TransformFromStorage(t.Context(), stored, place)
				if err != nil || !slices.Equal(got, []byte("a secret")) {
					t.Errorf("read %d: %q, %v", round, got, err)
					return
				}
			}
		})
	}
	<-halfway
	running.KillTokenProcess(t)
	group.Wait()
}
