//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-telemetry/ingot/test/bench/meter"
)

// noisy is the share of the machine's CPU time that others may use before a round is marked.
const noisy = 0.10

// usage is what a collector used in the measured time.
type usage struct {
	window           time.Duration
	cpu              time.Duration
	rssMean, rssHigh int64   // Bytes.
	disk             int64   // Bytes.
	foreign          float64 // Share of the machine that neither collector nor load used.
	instructions     int64   // Outside the kernel; 0 where they cannot be counted.
}

// reading is the state of all counters at one time.
type reading struct {
	at        time.Time
	cpu, self time.Duration
	machine   meter.Machine
	disk      int64
}

func read(p *meter.Process) (r reading, err error) {
	r.at = time.Now()
	if r.cpu, err = p.CPU(); err != nil {
		return r, err
	}
	if r.self, err = meter.Self(); err != nil {
		return r, err
	}
	if r.machine, err = meter.ReadMachine(); err != nil {
		return r, err
	}
	r.disk, err = p.Written()
	return r, err
}

// measure measures a collector while during runs. The name is that of the run.
func (b *bench) measure(ctx context.Context, p *meter.Process, name string, during func() error) (u usage, err error) {
	stopPerf, err := b.recordPerf(p, name)
	if err != nil {
		return usage{}, err
	}
	defer stopPerf()
	instructions := func() int64 { return 0 }
	if b.instructions {
		instructions = p.Instructions()
	}
	defer func() { u.instructions = instructions() }()
	before, err := read(p)
	if err != nil {
		return usage{}, err
	}
	watch, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	p.Memory() // Forgets what was before.
	go func() {
		defer close(watched)
		p.Watch(watch)
	}()
	err = during()
	stop()
	<-watched
	if err != nil {
		return usage{}, err
	}
	after, err := read(p)
	if err != nil {
		return usage{}, err
	}
	u = usage{window: after.at.Sub(before.at), cpu: after.cpu - before.cpu, disk: after.disk - before.disk}
	u.rssMean, u.rssHigh = p.Memory()
	others := (after.machine.Busy - before.machine.Busy) - u.cpu - (after.self - before.self) + after.machine.Stole - before.machine.Stole
	u.foreign = max(0, others.Seconds()/u.window.Seconds()/float64(after.machine.CPUs))
	return u, nil
}

// recordPerf has perf record where a collector spends its time, if that is asked for, until
// the returned function is called.
func (b *bench) recordPerf(p *meter.Process, name string) (func(), error) {
	if b.opts.perf == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(b.opts.perf, 0o755); err != nil {
		return nil, fmt.Errorf("make folder for perf: %w", err)
	}
	file := filepath.Join(b.opts.perf, strings.ReplaceAll(name, "/", "-")+".perf")
	perf, err := meter.Start(b.loadCPU, io.Discard, "perf", "record", "-q", "-F", "1999", "-g", "-o", file, "-p", strconv.Itoa(p.Pid()))
	if err != nil {
		return nil, err
	}
	return func() { perf.Stop(30 * time.Second) }, nil
}

// machineText says what was measured on, without names.
func machineText() string {
	cpu, kernel := "unknown CPU", ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel, _, _ = strings.Cut(strings.TrimSpace(string(text)), "-")
	}
	cpus := 0
	if m, err := meter.ReadMachine(); err == nil {
		cpus = m.CPUs
	}
	return fmt.Sprintf("%d CPUs (%s), Linux %s", cpus, cpu, kernel)
}
