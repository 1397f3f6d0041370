package scrape

import (
	"net/netip"
	"testing"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/expfmt"
)

func TestAcceptHeadersAreThoseOfPrometheus(t *testing.T) {
	f := func(job, want string) {
		t.Helper()
		var c JobConfig
		if err := config.Load([]byte(job), &c); err != nil {
			t.Fatal(err)
		}
		full := c.WithDefaults(DefaultConfig())
		if got := acceptHeader(&full); got != want {
			t.Errorf("%s asks for\n%s, want\n%s", job, got, want)
		}
	}
	f("{}", "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"+
		"text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	f("{scrape_native_histograms: true, metric_name_validation_scheme: legacy}",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,"+
			"application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"+
			"text/plain;version=1.0.0;escaping=underscores;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1")
	f("{scrape_protocols: [PrometheusText0.0.4, PrometheusProto], metric_name_escaping_scheme: values}",
		"text/plain;version=0.0.4;q=0.6,application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,*/*;q=0.4")
}

func TestContentTypesAreReadAsInPrometheus(t *testing.T) {
	f := func(contentType, fallback string, want expfmt.Format) {
		t.Helper()
		if got := formatOf(contentType, fallback); got != want {
			t.Errorf("%q with fallback %s is read as %d, want %d", contentType, fallback, got, want)
		}
	}
	f("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", protocolProto, expfmt.Text004)
	f("TEXT/Plain;version=1.0.0", protocolProto, expfmt.Text100)
	f("text/plain", protocolProto, expfmt.Text004)
	f("application/openmetrics-text; version=0.0.1", protocolText004, expfmt.OpenMetrics100)
	f("application/openmetrics-text", protocolText004, expfmt.OpenMetrics100)
	f("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", protocolText004, expfmt.Proto)
	for _, unknown := range []string{"", "text/html", "application/json", "text/plain; charset", ";;", "application/openmetrics"} {
		f(unknown, protocolText004, expfmt.Text004)
		f(unknown, protocolText100, expfmt.Text100)
		f(unknown, protocolOpenMetrics001, expfmt.OpenMetrics100)
		f(unknown, protocolOpenMetrics100, expfmt.OpenMetrics100)
		f(unknown, protocolProto, expfmt.Proto)
	}
}

func TestNearTargetsAreAskedForPlainResponses(t *testing.T) {
	f := func(job, host, want string) {
		t.Helper()
		var c JobConfig
		if err := config.Load([]byte(job), &c); err != nil {
			t.Fatal(err)
		}
		if got := encodingFor(&c, DefaultConfig().IdentityNetworks, host); got != want {
			t.Errorf("%s asks %s for %s, want %s", job, host, got, want)
		}
	}
	for _, near := range []string{
		"10.1.2.3", "172.31.0.1", "192.168.1.1", "100.100.0.1", "127.0.0.1", "::1", "fd00::1", "fe80::1%eth0", "::ffff:10.0.0.1",
		"localhost", "node-exporter.monitoring.svc", "a.b.svc.cluster.local", "a.b.svc.cluster.local.",
	} {
		f("{}", near, "identity")
		f("{enable_compression: true}", near, "gzip")
		f("{proxy_url: 'http://proxy:3128'}", near, "gzip")
		f("{proxy_url: 'http://proxy:3128', enable_compression: false}", near, "identity")
	}
	for _, far := range []string{"172.32.0.1", "8.8.8.8", "2001:db8::1", "example.com", "notlocalhost", ""} {
		f("{}", far, "gzip")
		f("{enable_compression: false}", far, "identity")
	}
	if near([]netip.Prefix{}, "localhost") {
		t.Error("localhost is near although no network is")
	}
}
