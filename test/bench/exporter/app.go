package exporter

import "fmt"

const (
	appSeries   = 1740
	smallSeries = 102
)

// httpBounds are the default buckets of client_golang.
func httpBounds() []string {
	return []string{"0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"}
}

// app writes the series of a service: histograms of its requests and the Go runtime.
func app(p *page) {
	p.family("http_request_duration_seconds", histogramType, "Time from the first byte of the request to the last of the response.")
	for handler := range 10 {
		for _, method := range []string{"DELETE", "GET", "POST", "PUT"} {
			for _, code := range []string{"200", "404", "500"} {
				if (handler+len(method))%6 == 0 && code != "200" {
					continue
				}
				p.histogram(fmt.Sprintf(`code="%s",handler="/api/v1/%s/{id}",method="%s"`, code, resource(handler), method), httpBounds())
			}
		}
	}
	p.runtime()
	p.family("http_requests_total", counterType, "Requests by handler, method and code.")
	for i := 0; p.exposed < appSeries; i++ {
		p.sample(fmt.Sprintf(`{code="%d",handler="/api/v1/%s/{id}",method="GET",shard="%d"}`, 200+i%4, resource(i/4%10), i/40), p.counter())
	}
}

func resource(i int) string {
	return []string{"accounts", "baskets", "customers", "deliveries", "invoices", "orders", "payments", "prices", "returns", "stock"}[i]
}

// small writes the series of a little service: 102.
func small(p *page) {
	p.runtime()
	p.family("rpc_duration_seconds", histogramType, "Time of a call.")
	for _, method := range []string{"Get", "List", "Watch"} {
		p.histogram(`method="`+method+`",service="inventory"`, httpBounds())
	}
	p.family("rpc_calls_total", counterType, "Calls by method and code.")
	for i := 0; p.exposed < smallSeries; i++ {
		p.sample(fmt.Sprintf(`{code="%s",method="Method%d",service="inventory"}`, []string{"OK", "NotFound", "Internal"}[i%3], i/3), p.counter())
	}
}

// runtime writes what client_golang shows of the Go runtime and the process.
func (p *page) runtime() {
	once := []string{""}
	p.family("go_gc_duration_seconds", "summary", "A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.")
	for _, q := range []string{"0", "0.25", "0.5", "0.75", "1"} {
		p.sample(`{quantile="`+q+`"}`, p.seconds()/1e6)
	}
	p.suffixed("_sum", "", p.seconds())
	p.suffixed("_count", "", p.counter())
	p.many("go_info", gaugeType, "Information about the Go environment.", []string{`{version="go1.26.6"}`}, p.flag)
	for _, name := range names("go_memstats_", "_bytes", "alloc", "buck_hash_sys", "gc_sys", "heap_alloc", "heap_idle",
		"heap_inuse", "heap_released", "heap_sys", "mcache_inuse", "mcache_sys", "mspan_inuse", "mspan_sys", "next_gc",
		"other_sys", "stack_inuse", "stack_sys", "sys") {
		p.many(name, gaugeType, "Number of bytes of this kind, as runtime.MemStats has it.", once, p.bytes)
	}
	for _, name := range []string{
		"go_memstats_alloc_bytes_total", "go_memstats_frees_total", "go_memstats_mallocs_total",
		"process_cpu_seconds_total", "process_network_receive_bytes_total", "process_network_transmit_bytes_total",
	} {
		p.many(name, counterType, "Total of this figure since the process started.", once, p.counter)
	}
	for _, name := range []string{"go_goroutines", "go_threads", "process_max_fds", "process_open_fds", "process_start_time_seconds"} {
		p.many(name, gaugeType, "Current value of this figure.", once, p.small)
	}
}

// unique writes 2000 series of which no two share a label set, in this target or in another.
func unique(p *page) {
	const families, each = 20, 100
	for f := range families {
		p.family(fmt.Sprintf("session_figure_%02d_total", f), counterType, "A figure of one session.")
		for i := range each {
			key := uint64(f*each + i)
			p.sample(fmt.Sprintf(`{client="%s",path="/api/v1/objects/%s/%s",session="%s"}`,
				p.id(key, 16), p.id(key+1<<21, 12), p.id(key+1<<22, 12), p.uid(key)), p.counter())
		}
	}
}
