package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/ingot-telemetry/ingot/test/kit"
)

// pods writes the logs of a few pods all the time, as a container runtime and the kubelet do.
type pods struct {
	writer     *kit.PodLogWriter
	containers []string // namespace/container, the job label of the streams
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// program is what runs in one container.
type program struct {
	namespace, pod, container string
	every                     time.Duration // between lines
	line                      func(n int, rnd *rand.Rand) (stream, text string)
	restarts                  bool // crashes now and then
}

// programs returns the containers of the demo.
func programs() []program {
	return []program{
		{"shop", "frontend-6c9f7d5b8-x2vkq", "nginx", 50 * time.Millisecond, accessLine, false},
		{"shop", "frontend-6c9f7d5b8-x2vkq", "metrics", 2 * time.Second, klogLine, false},
		{"shop", "cart-7f8d9c6b5-9qmzt", "cart", 120 * time.Millisecond, jsonLine, false},
		{"shop", "payment-5b6c7d8f9-kk2lp", "payment", 400 * time.Millisecond, traceLine, true},
		{"kube-system", "coredns-668d6bf9bc-7wq5n", "coredns", 500 * time.Millisecond, dnsLine, false},
		{"monitoring", "report-29101234-hd8sx", "report", time.Second, longLine, false},
	}
}

// startPods starts to write until stop is called. A write that fails ends the demo by fail.
func startPods(ctx context.Context, dir string, fail context.CancelCauseFunc) *pods {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &pods{cancel: cancel}
	p.writer = kit.NewPodLogWriterFunc(dir, func(err error) {
		fail(err)
		runtime.Goexit()
	})
	byName := make(map[string]*kit.LoggedPod)
	for i, prog := range programs() {
		pod := byName[prog.pod]
		if pod == nil {
			pod = p.writer.Pod(prog.namespace, prog.pod)
			byName[prog.pod] = pod
		}
		c := pod.Container(prog.container)
		p.containers = append(p.containers, prog.namespace+"/"+prog.container)
		p.wg.Go(func() { prog.run(ctx, c, rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	return p
}

// stop ends all writing; it may be called twice.
func (p *pods) stop() {
	p.cancel()
	p.wg.Wait()
}

// run writes lines, rotates the file often enough to be seen, and restarts where the program
// is one that crashes.
func (prog program) run(ctx context.Context, c *kit.LoggedContainer, rnd *rand.Rand) {
	const linesAFile, keep = 200, 5
	n := 0
	every(ctx, prog.every, func() {
		n++
		stream, text := prog.line(n, rnd)
		c.Long(stream, text)
		if n%linesAFile == 0 {
			c.Rotate(keep)
		}
		if prog.restarts && n%40 == 0 {
			c.Restart()
		}
	})
}

// pick returns one of the words.
func pick(rnd *rand.Rand, words ...string) string { return words[rnd.IntN(len(words))] }

func accessLine(n int, rnd *rand.Rand) (stream, text string) {
	code := pick(rnd, "200", "200", "200", "200", "304", "404", "500")
	return "stdout", fmt.Sprintf(`10.42.0.%d - - [%s] "GET %s HTTP/1.1" %s %d "-" "Mozilla/5.0" req=%d`, rnd.IntN(250)+1,
		time.Now().Format("02/Jan/2006:15:04:05 -0700"), pick(rnd, "/", "/cart", "/search?q=tiles", "/static/app.js"), code, rnd.IntN(9000), n)
}

func klogLine(n int, rnd *rand.Rand) (stream, text string) {
	return "stderr", fmt.Sprintf(`I%s       1 scrape.go:%d] "Scrape finished" run=%d samples=%d`, time.Now().Format("0102 15:04:05.000000"), 100+rnd.IntN(9), n, rnd.IntN(900))
}

func jsonLine(n int, rnd *rand.Rand) (stream, text string) {
	return "stdout", fmt.Sprintf(`{"level":%q,"msg":%q,"customer":%d,"took_ms":%d,"n":%d}`,
		pick(rnd, "info", "info", "info", "warn", "error"), pick(rnd, "added to cart", "removed from cart", "stock is low", "grüße 🧱"), rnd.IntN(1000), rnd.IntN(250), n)
}

func traceLine(n int, rnd *rand.Rand) (stream, text string) {
	if n%10 < 3 {
		return "stderr", fmt.Sprintf("\tat com.example.payment.Provider.%s(Provider.java:%d) #%d", pick(rnd, "charge", "refund", "connect"), rnd.IntN(400), n)
	}
	return "stdout", fmt.Sprintf("level=%s msg=\"payment %s\" order=%d", pick(rnd, "info", "info", "error"), pick(rnd, "accepted", "refused"), n)
}

func dnsLine(n int, rnd *rand.Rand) (stream, text string) {
	return "stdout", fmt.Sprintf("[INFO] 10.42.0.%d:%d - %d \"A IN %s.shop.svc.cluster.local. udp 48 false 512\" NOERROR", rnd.IntN(250)+1, 30000+rnd.IntN(9999), n, pick(rnd, "cart", "payment", "database"))
}

// longLine writes every fifth line longer than a runtime writes in one piece.
func longLine(n int, rnd *rand.Rand) (stream, text string) {
	text = fmt.Sprintf("report %d: %d rows", n, rnd.IntN(100_000))
	if n%5 == 0 {
		text += strings.Repeat(" | a very long row of a report", 1000)
	}
	return "stdout", text
}
