// Package plugin starts the real plugin on a SoftHSM2 token of its own, in a directory of its own, and takes both away
// when the test ends.
package plugin

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Where distributions put SoftHSM2's module.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
}

const pin = "Gt7-kf3-pQ2"

// Token is a fresh SoftHSM2 token with the label "kms".
type Token struct {
	directory string
	objects   map[string]string
}

// NewToken makes a token in a new directory whose path is short enough for sockets in it.
func NewToken(t *testing.T) *Token {
	t.Helper()
	directory, err := os.MkdirTemp("/tmp", "kms-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	token := &Token{directory: directory, objects: map[string]string{}}
	if err := os.Mkdir(token.path("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	token.write(t, "softhsm2.conf", fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", token.path("tokens")))
	token.write(t, "pin", pin)
	token.softhsm(t, "--init-token", "--free", "--label", "kms", "--so-pin", "so-"+pin, "--pin", pin)
	return token
}

// Import puts an AES key of known value under a label, never to be read from there on. softhsm2-util reads the key's file as
// a line of text, so a key must hold neither a zero byte nor a line feed.
func (token *Token) Import(t *testing.T, label string, raw []byte) {
	t.Helper()
	if bytes.ContainsAny(raw, "\x00\n") {
		t.Fatal("softhsm2-util would cut this key short")
	}
	before := token.objectFiles(t)
	file := token.write(t, "import", string(raw))
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	token.softhsm(t, "--import", file, "--aes", "--token", "kms", "--pin", pin, "--label", label, "--id", fmt.Sprintf("%x", id))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for name := range token.objectFiles(t) {
		if !before[name] {
			token.objects[label] = name
		}
	}
}

// NewKey puts a random AES-256 key under a label and returns its value.
func (token *Token) NewKey(t *testing.T, label string) []byte {
	t.Helper()
	raw := make([]byte, 32)
	for bytes.ContainsAny(raw, "\x00\n") {
		if _, err := rand.Read(raw); err != nil {
			t.Fatal(err)
		}
	}
	token.Import(t, label, raw)
	return raw
}

// Destroy removes a key for good; a running plugin notices when it looks for keys again.
func (token *Token) Destroy(t *testing.T, label string) {
	t.Helper()
	if err := os.Remove(token.objects[label]); err != nil {
		t.Fatal(err)
	}
}

// Away hides the token from every process that starts from now on.
func (token *Token) Away(t *testing.T) {
	t.Helper()
	if err := os.Rename(token.path("tokens"), token.path("away")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(token.path("tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// Back undoes Away.
func (token *Token) Back(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(token.path("tokens")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(token.path("away"), token.path("tokens")); err != nil {
		t.Fatal(err)
	}
}

func (token *Token) path(name string) string { return filepath.Join(token.directory, name) }

func (token *Token) write(t *testing.T, name, contents string) string {
	t.Helper()
	if err := os.WriteFile(token.path(name), []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	return token.path(name)
}

func (token *Token) softhsm(t *testing.T, arguments ...string) {
	t.Helper()
	command := exec.Command("softhsm2-util", arguments...)
	command.Env = append(os.Environ(), "SOFTHSM2_CONF="+token.path("softhsm2.conf"))
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %s: %v\n%s", arguments[0], err, bytes.TrimSpace(output))
	}
}

func (token *Token) objectFiles(t *testing.T) map[string]bool {
	t.Helper()
	names, err := filepath.Glob(token.path("tokens/*/*.object"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range names {
		found[name] = true
	}
	return found
}

// module finds SoftHSM2 on this machine.
func module(t *testing.T) string {
	t.Helper()
	for _, path := range modules {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatalf("SoftHSM2's module is none of %v", modules)
	return ""
}
