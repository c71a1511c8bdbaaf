// Command load calls a KMS plugin (or an echo service in its place) over a Unix socket, so many calls in flight on one
// connection, and prints one line of JSON for each combination of size and calls in flight:
//
//	load -socket /run/kms.sock -ca ca.pem -host kms-plugin.test -method encrypt -sizes 32,1024 -in-flight 1,8,64
//
// It stops by itself: every run has a number of seconds and of requests, every call a deadline.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	longest     = 10 * time.Minute
	mostAtOnce  = 1024
	largestSize = 3 << 20
)

type options struct {
	socket, ca, host string
	method           string
	sizes, inFlight  []int
	warmUp, measured time.Duration
	interval         time.Duration
	deadline         time.Duration
	maxRequests      int
}

func main() {
	options, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(options options) error {
	connection, err := dial(options.socket, options.ca, options.host)
	if err != nil {
		return err
	}
	defer connection.Close()
	for _, size := range options.sizes {
		ctx, cancel := context.WithTimeout(context.Background(), options.deadline)
		calls, err := prepare(ctx, connection, options.method, size)
		cancel()
		if err != nil {
			return err
		}
		for _, inFlight := range options.inFlight {
			result := measure(connection, calls, options, inFlight)
			result.Method, result.Size, result.InFlight, result.TLS = options.method, size, inFlight, options.ca != ""
			line, err := json.Marshal(result)
			if err != nil {
				return err
			}
			fmt.Println(string(line))
		}
	}
	return nil
}

func parse(arguments []string) (options, error) {
	var o options
	var sizes, inFlight string
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&o.socket, "socket", "", "path of the Unix socket, or @name of an abstract one")
	flags.StringVar(&o.ca, "ca", "", "CA certificate file: TLS, as CredHub; without it no TLS, as kube-apiserver")
	flags.StringVar(&o.host, "host", "", "name that the server's certificate must carry; with -ca")
	flags.StringVar(&o.method, "method", "encrypt", "encrypt, decrypt, echo (Encrypt of a service that answers what it got), or status (v2)")
	flags.StringVar(&sizes, "sizes", "32", "sizes of the value in bytes, separated by commas")
	flags.StringVar(&inFlight, "in-flight", "1", "calls in flight, separated by commas")
	flags.DurationVar(&o.warmUp, "warm-up", time.Second, "time before measuring begins")
	flags.DurationVar(&o.measured, "measured", 5*time.Second, "time that is measured")
	flags.DurationVar(&o.interval, "interval", 0, "pause after each answer, for probing beside another load")
	flags.DurationVar(&o.deadline, "deadline", 15*time.Second, "deadline of one call")
	flags.IntVar(&o.maxRequests, "max-requests", 2_000_000, "end of a run, whatever its time")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	var err error
	if o.sizes, err = numbers(sizes, 0, largestSize); err != nil {
		return o, fmt.Errorf("-sizes: %w", err)
	}
	if o.inFlight, err = numbers(inFlight, 1, mostAtOnce); err != nil {
		return o, fmt.Errorf("-in-flight: %w", err)
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	case o.socket == "":
		return o, errors.New("-socket is missing")
	case (o.ca == "") != (o.host == ""):
		return o, errors.New("-ca and -host belong together")
	case methods[o.method] == "":
		return o, fmt.Errorf("-method: %q is none of encrypt, decrypt, echo, status", o.method)
	case o.warmUp < 0 || o.interval < 0 || o.measured <= 0 || o.warmUp+o.measured > longest:
		return o, fmt.Errorf("a run takes more than no time and at most %s", longest)
	case o.deadline <= 0 || o.maxRequests < 1:
		return o, errors.New("-deadline and -max-requests must be positive")
	}
	return o, nil
}

func numbers(list string, least, most int) ([]int, error) {
	var all []int
	for _, text := range strings.Split(list, ",") {
		number, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || number < least || number > most {
			return nil, fmt.Errorf("%q is no number from %d to %d", text, least, most)
		}
		all = append(all, number)
	}
	return all, nil
}
