// Command make writes test/vectors/ciphertext.json anew: `go run ./vectors/make` in test/go.
package main

import (
	"log"
	"os"

	"hsm-kms-plugin/test/vectors"
)

func main() {
	contents, err := vectors.JSON()
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("../vectors/ciphertext.json", contents, 0o644); err != nil {
		log.Fatal(err)
	}
}
