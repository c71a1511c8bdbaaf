package plugin

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v2 "k8s.io/kms/apis/v2"
)

// startLimit bounds every wait: the plugin is ready within a second, kube-apiserver keeps an answer for 20 s, and the
// machine may be busy.
const startLimit = 60 * time.Second

// Key is one entry of the configuration's keys.
type Key struct {
	Label string
	State string
	// Bits is the key's size; 0: 256.
	Bits int
}

// Config is what differs from test to test.
type Config struct {
	Keys    []Key
	Retired []string
	// Scheme is the section "scheme" as a YAML flow mapping; empty leaves it out.
	Scheme string
}

// Plugin is a running plugin with two listeners without TLS, a path and an abstract one, each with both APIs.
type Plugin struct {
	Token *Token
	// Path is the socket's path, Abstract the abstract socket's name with its leading @.
	Path, Abstract string
	healthPort     int
	process        *exec.Cmd
	ended          chan struct{}
}

// Start starts the plugin and waits until its Status is ok.
func Start(t *testing.T, token *Token, config Config) *Plugin {
	t.Helper()
	plugin := &Plugin{
		Token: token, Path: token.path("kms.sock"), Abstract: "@" + filepath.Base(token.directory), healthPort: freePort(t),
	}
	plugin.Configure(t, config)
	t.Cleanup(func() {
		plugin.kill()
		if t.Failed() {
			t.Logf("the plugin's log:\n%s", plugin.log())
		}
	})
	plugin.launch(t)
	plugin.AwaitStatus(t, func(healthz string) bool { return healthz == "ok" })
	return plugin
}

// Configure writes the configuration file; a running plugin takes it at Reload, or Restart.
func (p *Plugin) Configure(t *testing.T, config Config) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "state_dir: state\nlisteners:\n")
	fmt.Fprintf(&text, "  - { name: path, endpoint: %s, apis: [v1beta1, v2] }\n", p.Path)
	fmt.Fprintf(&text, "  - { name: abstract, endpoint: \"unix:///%s\", apis: [v1beta1, v2], allow_unprotected: true }\n", p.Abstract)
	fmt.Fprintf(&text, "token:\n  module: %s\n  partition: { label: kms }\n  pin_file: pin\n", module(t))
	fmt.Fprintf(&text, "  environment: { SOFTHSM2_CONF: %s }\nkeys:\n", p.Token.path("softhsm2.conf"))
	for _, key := range config.Keys {
		fmt.Fprintf(&text, "  - { label: %s, state: %s, size: %d }\n", key.Label, key.State, cmp.Or(key.Bits, 256))
	}
	fmt.Fprintf(&text, "retired_keys: [%s]\n", strings.Join(config.Retired, ", "))
	if config.Scheme != "" {
		fmt.Fprintf(&text, "scheme: %s\n", config.Scheme)
	}
	fmt.Fprintf(&text, "health: { address: 127.0.0.1, port: %d }\n", p.healthPort)
	p.Token.write(t, "kms-plugin.yml", text.String())
}

// Reload makes the running plugin read its configuration again; the test waits for what it expects of it.
func (p *Plugin) Reload(t *testing.T) {
	t.Helper()
	if err := p.process.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// Restart ends the plugin by SIGTERM, which must succeed, and starts it again on the configuration as it is now.
func (p *Plugin) Restart(t *testing.T) {
	t.Helper()
	if err := p.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(startLimit):
		t.Fatal("the plugin does not end on SIGTERM")
	}
	if code := p.process.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("the plugin ended with %d on SIGTERM", code)
	}
	p.launch(t)
	p.AwaitStatus(t, func(healthz string) bool { return healthz == "ok" })
}

// Await asks until the answer is yes.
func (p *Plugin) Await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for !done() {
		select {
		case <-p.ended:
			t.Fatalf("the plugin ended while waiting: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s; Status says %q", startLimit, what, p.status())
		}
	}
}

// AwaitStatus asks v2's Status until its healthz is what the test waits for.
func (p *Plugin) AwaitStatus(t *testing.T, wanted func(healthz string) bool) {
	t.Helper()
	p.Await(t, "Status changes", func() bool { return wanted(p.status()) })
}

// Dial connects to one of the sockets as kube-apiserver's v2 client does.
func Dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	connection, err := dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///kms", grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}))
}

// status is v2's healthz, or why there is none.
func (p *Plugin) status() string {
	connection, err := dial(p.Path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	answer, err := v2.NewKeyManagementServiceClient(connection).Status(ctx, &v2.StatusRequest{})
	if err != nil {
		return err.Error()
	}
	return answer.GetHealthz()
}

// freePort is one that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

func (p *Plugin) log() string {
	contents, err := os.ReadFile(p.Token.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(contents)
}
