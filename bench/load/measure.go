package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// result is one line of output. Times are milliseconds, of good answers alone.
type result struct {
	Method   string         `json:"method"`
	Size     int            `json:"size"`
	InFlight int            `json:"inFlight"`
	TLS      bool           `json:"tls"`
	Requests int            `json:"requests"`
	Seconds  float64        `json:"seconds"`
	Rate     float64        `json:"rate"`
	P50      float64        `json:"p50Ms"`
	P99      float64        `json:"p99Ms"`
	Max      float64        `json:"maxMs"`
	Errors   map[string]int `json:"errors"`
	// ClientCPU is what this process used while measuring: were it near the machine's, it would be the bottleneck.
	ClientCPU float64 `json:"clientCpuSeconds"`
}

// wrongAnswer is counted like a status: a call that succeeded with the wrong bytes.
const wrongAnswer = "WrongAnswer"

type worker struct {
	times  []time.Duration
	errors map[string]int
}

// measure keeps inFlight calls under way, first for the warm-up, then for the measured time; both on warm connections.
func measure(connection *grpc.ClientConn, calls []call, options options, inFlight int) result {
	if options.warmUp > 0 {
		loop(connection, calls, options, inFlight, options.warmUp)
	}
	before, start := cpu(), time.Now()
	workers := loop(connection, calls, options, inFlight, options.measured)
	seconds := time.Since(start).Seconds()
	out := result{Seconds: seconds, ClientCPU: cpu() - before, Errors: map[string]int{}}
	var times []time.Duration
	for _, w := range workers {
		times = append(times, w.times...)
		for name, count := range w.errors {
			out.Errors[name] += count
		}
	}
	out.Requests = len(times)
	out.Rate = float64(len(times)) / seconds
	slices.Sort(times)
	if n := len(times); n > 0 {
		out.P50, out.P99, out.Max = ms(times[n/2]), ms(times[n*99/100]), ms(times[n-1])
	}
	return out
}

func loop(connection *grpc.ClientConn, calls []call, options options, inFlight int, lasting time.Duration) []worker {
	workers := make([]worker, inFlight)
	var left atomic.Int64
	left.Store(int64(options.maxRequests))
	end := time.Now().Add(lasting)
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() {
			w := &workers[i]
			w.errors = map[string]int{}
			var answer []byte
			for n := i; time.Now().Before(end) && left.Add(-1) >= 0; n++ {
				w.one(connection, calls[n%len(calls)], options.deadline, &answer)
				if options.interval > 0 {
					time.Sleep(options.interval)
				}
			}
		})
	}
	group.Wait()
	return workers
}

func (w *worker) one(connection *grpc.ClientConn, call call, deadline time.Duration, answer *[]byte) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	start := time.Now()
	*answer = (*answer)[:0]
	err := connection.Invoke(ctx, call.method, call.request, answer)
	switch {
	case err != nil:
		w.errors[status.Code(err).String()]++
		// A service that refuses at once would otherwise be asked as fast as the machine can.
		time.Sleep(time.Millisecond)
	case !call.accepts(*answer):
		w.errors[wrongAnswer]++
	default:
		w.times = append(w.times, time.Since(start))
	}
}

// cpu is the processor time of this process so far, in seconds.
func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
