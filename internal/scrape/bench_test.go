package scrape

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-telemetry/ingot/internal/model"
)

// discard takes everything and keeps nothing.
type discard struct{ samples int }

func (d *discard) Appender(uint64) model.Appender { return d }
func (d *discard) Append(b *model.Batch)          { d.samples += len(b.Samples) }
func (d *discard) Commit() error                  { return nil }
func (d *discard) Rollback()                      {}

// exposition is [replaced] at the beginning.
func exposition(kind string, n int) []byte { return replaced(kind, n, 0) }

// replaced writes n samples in the manner of a node exporter, of cAdvisor (long labels,
// timestamps), of kube-state-metrics, of an application with histograms, or of one with exemplars.
// Of the pods of the second and the third one in 60 is another one at each step.
func replaced(kind string, n, step int) []byte {
	var b strings.Builder
	pod := func(i int) int { return i + (step+i%60)/60*1_000_000 }
	for i := range n {
		switch kind {
		case "node":
			if i%16 == 0 {
				fmt.Fprintf(&b, "# HELP node_metric_%d_bytes Some text that explains the metric.\n# TYPE node_metric_%d_bytes gauge\n", i/16, i/16)
			}
			fmt.Fprintf(&b, "node_metric_%d_bytes{device=\"device%d\",fstype=\"ext4\",mountpoint=\"/var/lib/data%d\"} %d\n", i/16, i%16, i%16, i*4096)
		case "cadvisor":
			fmt.Fprintf(&b, "container_metric_%d_total{container=\"app\",id=\"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod%032d.slice/cri-containerd-%064d.scope\",image=\"registry.example.org/team/application:v1.2.3\",name=\"%064d\",namespace=\"namespace\",pod=\"application-%d\"} %d.25 1700000000000\n", i%40, pod(i/40), pod(i/40), pod(i/40), pod(i/40), i)
		case "ksm":
			if i%1000 == 0 {
				fmt.Fprintf(&b, "# HELP kube_pod_status_%d The state of pods.\n# TYPE kube_pod_status_%d gauge\n", i/1000, i/1000)
			}
			fmt.Fprintf(&b, "kube_pod_status_%d{namespace=\"namespace-%d\",pod=\"application-%d-7d4b9c6f5-x2x9z\",uid=\"0e6c9bb4-66a1-4c5b-8d7e-%012d\",phase=\"Phase%d\"} %d\n", i/1000, i%1000/50, pod(i%1000/5), pod(i%1000/5), i%5, i%5/4)
		case "app":
			if i%12 == 0 {
				fmt.Fprintf(&b, "# TYPE request_duration_%d_seconds histogram\n", i/1200)
			}
			fmt.Fprintf(&b, "request_duration_%d_seconds_bucket{handler=\"/api/v1/handler%d\",method=\"GET\",code=\"200\",le=\"%d\"} %d\n", i/1200, i/12%100, i%12, i)
		case "openmetrics":
			if i%100 == 0 {
				fmt.Fprintf(&b, "# TYPE request_duration_%d_seconds histogram\n# UNIT request_duration_%d_seconds seconds\n# HELP request_duration_%d_seconds How long requests took.\n", i/100, i/100, i/100)
			}
			fmt.Fprintf(&b, "request_duration_%d_seconds_bucket{handler=\"/api/v1/handler%d\",le=\"%d.0\"} %d # {trace_id=\"%016d\",span_id=\"%d\"} 0.%d 1700000000.123\n", i/100, i/10%10, i%10, i, i, i, i)
		}
	}
	if kind == "openmetrics" {
		b.WriteString("# EOF\n")
	}
	return []byte(b.String())
}

// The timestamps of the cAdvisor body stay the same, so they would hold back its samples.
const benchJob = `{job_name: j, honor_timestamps: false, metric_relabel_configs: [{source_labels: [__name__], regex: 'unwanted.*', action: drop}, {regex: 'id|name', action: labeldrop}]}`

// memory is a transport that answers with bodies one after the other, without a network.
type memory struct {
	kind   string // Content-Type.
	bodies [][]byte
	n      int
	reader bytes.Reader
}

func (m *memory) RoundTrip(req *http.Request) (*http.Response, error) {
	b := m.bodies[m.n%len(m.bodies)]
	m.n++
	m.reader.Reset(b)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {m.kind}}, Body: m, ContentLength: int64(len(b)), Request: req}, nil
}

func (m *memory) Read(p []byte) (int, error) { return m.reader.Read(p) }
func (m *memory) Close() error               { return nil }

// BenchmarkPass is what a scrape costs beyond the network and the sink: reading, parsing, the
// table, label sets, staleness, the report series. "same" is the steady state, "moved" one in
// which half of the lines changed places, "shuffled" one in which the lines of each metric have
// another order, "replaced" one in which a tenth of the pods is replaced a minute, "first" the first scrape of a target, "unruly" the same
// without relabelling of its series.
func BenchmarkPass(b *testing.B) {
	const n = 10_000
	for _, kind := range []string{"node", "cadvisor", "ksm", "app", "openmetrics"} {
		text := exposition(kind, n)
		for _, form := range []string{"same", "moved", "shuffled", "replaced", "first", "unruly"} {
			if form == "replaced" && kind != "cadvisor" && kind != "ksm" {
				continue
			}
			b.Run(kind+"/"+form, func(b *testing.B) {
				bodies := [][]byte{text, text}
				if form == "shuffled" {
					for range 10 {
						bodies = append(bodies, shuffled(text))
					}
					bodies = bodies[2:]
				}
				if form == "moved" {
					lines := strings.SplitAfter(string(text), "\n")
					for i := 0; i+20 < len(lines); i += 20 {
						for k := range 5 {
							lines[i+k], lines[i+19-k] = lines[i+19-k], lines[i+k]
						}
					}
					bodies[1] = []byte(strings.Join(lines, ""))
				}
				s, sink := newBench(b, bodies...)
				transport := s.pool.client.Transport.(*memory)
				if form == "unruly" {
					s.pool.cfg.MetricRelabelConfigs = nil
				}
				at := time.Now()
				scrape := func() {
					at = at.Add(10 * time.Second)
					s.scrape(b.Context(), at)
				}
				scrape()
				scrape()
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				before, step := cpuTime(b), 0
				for b.Loop() {
					if form == "replaced" {
						b.StopTimer()
						from := cpuTime(b)
						step++
						transport.bodies[0] = replaced(kind, n, step)
						transport.n = 0
						before += cpuTime(b) - from
						b.StartTimer()
					}
					if form == "first" || form == "unruly" {
						s.table = newTable(s.loop)
					}
					scrape()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
				b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N)/n, "cpu-ns/sample")
				if sink.samples < n*b.N {
					b.Fatalf("%d samples from %d scrapes of %d", sink.samples, b.N, n)
				}
			})
		}
	}
}

// shuffled returns a body in which the lines between two comments, or those of 1000 lines where
// there are none, have another order.
func shuffled(text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	from := 0
	for from < len(lines) && bytes.HasPrefix(lines[from], []byte("#")) {
		from++
	}
	for i, line := range lines {
		if i > from && (bytes.HasPrefix(line, []byte("#")) || i == from+1000 || i == len(lines)-1) {
			run := lines[from:i]
			rand.Shuffle(len(run), func(i, j int) { run[i], run[j] = run[j], run[i] })
			for from = i; from < len(lines) && bytes.HasPrefix(lines[from], []byte("#")); {
				from++
			}
		}
	}
	return bytes.Join(lines, nil)
}

// cpuTime returns what the process has used of processors, which other processes of a busy
// machine do not change much.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func newBench(tb testing.TB, bodies ...[]byte) (*single, *discard) {
	tb.Helper()
	s := newSingle(tb, DefaultConfig(), benchJob, "target:9100")
	sink := &discard{}
	s.pool.shared.sink = sink
	kind := "text/plain; version=0.0.4"
	if bytes.HasSuffix(bodies[0], []byte("# EOF\n")) {
		kind = "application/openmetrics-text; version=1.0.0"
	}
	s.pool.client = &http.Client{Transport: &memory{kind: kind, bodies: bodies}}
	return s, sink
}

// TestSteadyStateDoesNotAllocatePerSample holds what BenchmarkPass measures: a scrape of
// lines seen before allocates a fixed small number of times, however many samples it has.
func TestSteadyStateDoesNotAllocatePerSample(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops what a pool keeps")
	}
	for _, kind := range []string{"node", "cadvisor", "ksm", "app", "openmetrics"} {
		var at [2]float64
		for k, n := range []int{100, 10_000} {
			s, _ := newBench(t, exposition(kind, n))
			now := time.Now()
			scrape := func() {
				now = now.Add(10 * time.Second)
				s.scrape(t.Context(), now)
			}
			scrape()
			scrape()
			at[k] = testing.AllocsPerRun(5, scrape)
			if st := s.status(); st.Health != HealthUp || st.Samples != n {
				t.Fatalf("%s: status %+v, want %d samples", kind, st, n)
			}
		}
		// A window that ends inside a line costs the parser a few.
		windows := float64(len(exposition(kind, 10_000)) / windowSize)
		if at[0] > 15 || at[1] > at[0]+4*windows {
			t.Errorf("%s: %v allocations for 100 samples, %v for 10000 in %v windows, want the same few", kind, at[0], at[1], windows)
		}
	}
}

// BenchmarkScrape is a whole scrape over a real connection.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{100, 2000, 20_000} {
		for _, encoding := range []string{"gzip", "identity"} {
			b.Run(fmt.Sprintf("%d/%s", n, encoding), func(b *testing.B) {
				text := exposition("node", n)
				small := zipped(b, text)
				address := serve(b, func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Accept-Encoding") == "gzip" {
						w.Header().Set("Content-Encoding", "gzip")
						_, _ = w.Write(small)
						return
					}
					_, _ = w.Write(text)
				})
				s := newSingle(b, DefaultConfig(), fmt.Sprintf("{job_name: j, enable_compression: %v}", encoding == "gzip"), address)
				s.pool.shared.sink = &discard{}
				at := time.Now()
				s.scrape(b.Context(), at) // The steady state is what counts.
				b.ReportAllocs()
				for b.Loop() {
					at = at.Add(10 * time.Second)
					s.scrape(b.Context(), at)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/sample")
				if st := s.status(); st.Health != HealthUp {
					b.Fatal(st.Error)
				}
			})
		}
	}
}
