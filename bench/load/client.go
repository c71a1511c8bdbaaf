package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Full names of the methods. An echo service stands in for the plugin, so it has the plugin's method.
var methods = map[string]string{
	"encrypt": "/v1beta1.KeyManagementService/Encrypt",
	"decrypt": "/v1beta1.KeyManagementService/Decrypt",
	"echo":    "/v1beta1.KeyManagementService/Encrypt",
	"status":  "/v2.KeyManagementService/Status",
}

// variants is how many different values a run goes through, so that no answer comes from a cache of one.
const variants = 16

// frames hands messages through as bytes: they are encoded once, before the measurement.
type frames struct{}

func (frames) Name() string                        { return "proto" }
func (frames) Marshal(message any) ([]byte, error) { return message.([]byte), nil }
func (frames) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append((*message.(*[]byte))[:0], data...)
	return nil
}

// call is a request with what its answer must be: equal to want, or, where that is nil, at least `atLeast` bytes long.
type call struct {
	method  string
	request []byte
	want    []byte
	atLeast int
}

func (c call) accepts(answer []byte) bool {
	if c.want != nil {
		return bytes.Equal(answer, c.want)
	}
	return len(answer) >= c.atLeast
}

func dial(socket, caFile, host string) (*grpc.ClientConn, error) {
	transport, authority := insecure.NewCredentials(), "localhost"
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
		transport, authority = credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: host}), host
	}
	return grpc.NewClient("passthrough:///plugin",
		grpc.WithTransportCredentials(transport),
		grpc.WithAuthority(authority),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(frames{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}))
}

// prepare makes the requests of a run; for decrypt by encrypting first.
func prepare(ctx context.Context, connection *grpc.ClientConn, method string, size int) ([]call, error) {
	calls := make([]call, variants)
	for i := range calls {
		value := make([]byte, size)
		if _, err := rand.Read(value); err != nil {
			return nil, err
		}
		calls[i] = call{method: methods[method]}
		switch method {
		case "status":
			calls[i].request, calls[i].atLeast = []byte{}, 1
		case "encrypt":
			calls[i].request, calls[i].atLeast = field(2, value), size+54
		case "echo":
			calls[i].request, calls[i].want = field(2, value), field(1, value)
		case "decrypt":
			var answer []byte
			if err := connection.Invoke(ctx, methods["encrypt"], field(2, value), &answer); err != nil {
				return nil, fmt.Errorf("encrypting a value of %d bytes: %w", size, err)
			}
			// The answer's only field is number 1; the request's is number 2, and encoded alike.
			if len(answer) == 0 || answer[0] != tag(1) {
				return nil, fmt.Errorf("unexpected answer to Encrypt")
			}
			answer[0] = tag(2)
			calls[i].request, calls[i].want = answer, field(1, value)
		}
	}
	return calls, nil
}

func tag(number byte) byte { return number<<3 | 2 }

// field encodes one bytes field; proto3 leaves an empty one out.
func field(number byte, value []byte) []byte {
	if len(value) == 0 {
		return []byte{}
	}
	message := binary.AppendUvarint([]byte{tag(number)}, uint64(len(value)))
	return append(message, value...)
}
