// Command peer is the plainest KMS plugin in Go: crypto11 behind Google's gRPC server, in one process, each call on a
// session of crypto11's pool. It serves to compare with, and is not part of what ships: it has no key ids, no retries, no
// supervision, and crypto11 panics where the HSM fails.
//
//	peer -module libsofthsm2.so -token label -pin-file pin -key label -tls a.sock -cert c -cert-key k -plain b.sock
package main

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"flag"
	"log"
	"net"
	"os"

	"github.com/ThalesGroup/crypto11"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	kms "k8s.io/kms/apis/v1beta1"
)

const ivBytes = 12

type service struct {
	kms.UnimplementedKeyManagementServiceServer
	aead cipher.AEAD
}

func (s service) Version(context.Context, *kms.VersionRequest) (*kms.VersionResponse, error) {
	return &kms.VersionResponse{Version: "v1beta1", RuntimeName: "peer", RuntimeVersion: "0"}, nil
}

func (s service) Encrypt(_ context.Context, request *kms.EncryptRequest) (*kms.EncryptResponse, error) {
	// Room for as many bytes as the plugin's header has, so that answers are of one length.
	out := make([]byte, 26+ivBytes, 26+ivBytes+len(request.Plain)+16)
	if _, err := rand.Read(out[26:]); err != nil {
		return nil, err
	}
	return &kms.EncryptResponse{Cipher: s.aead.Seal(out, out[26:], request.Plain, out[:26])}, nil
}

func (s service) Decrypt(_ context.Context, request *kms.DecryptRequest) (*kms.DecryptResponse, error) {
	in := request.Cipher
	if len(in) < 26+ivBytes+16 {
		return nil, errors.New("too short")
	}
	plain, err := s.aead.Open(nil, in[26:26+ivBytes], in[26+ivBytes:], in[:26])
	return &kms.DecryptResponse{Plain: plain}, err
}

func main() {
	module := flag.String("module", "", "PKCS#11 module")
	token := flag.String("token", "", "label of the token")
	pinFile := flag.String("pin-file", "", "file with the PIN")
	keyLabel := flag.String("key", "", "label of the AES key")
	tls := flag.String("tls", "", "socket with TLS")
	certificate := flag.String("cert", "", "its certificate")
	privateKey := flag.String("cert-key", "", "its private key")
	plain := flag.String("plain", "", "socket without TLS")
	flag.Parse()
	pin, err := os.ReadFile(*pinFile)
	check(err)
	hsm, err := crypto11.Configure(&crypto11.Config{Path: *module, TokenLabel: *token, Pin: string(pin)})
	check(err)
	key, err := hsm.FindKey(nil, []byte(*keyLabel))
	check(err)
	if key == nil {
		log.Fatalf("no key %q", *keyLabel)
	}
	aead, err := key.NewGCM()
	check(err)
	secured, err := credentials.NewServerTLSFromFile(*certificate, *privateKey)
	check(err)
	go serve(*plain, service{aead: aead})
	serve(*tls, service{aead: aead}, grpc.Creds(secured))
}

func serve(socket string, s service, options ...grpc.ServerOption) {
	listener, err := net.Listen("unix", socket)
	check(err)
	server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(4<<20))...)
	kms.RegisterKeyManagementServiceServer(server, s)
	check(server.Serve(listener))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
