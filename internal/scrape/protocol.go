package scrape

import (
	"fmt"
	"mime"
	"net/netip"
	"slices"
	"strings"

	"github.com/ingot-telemetry/ingot/internal/expfmt"
)

// The names of the protocols, as in Prometheus' scrape_protocols.
const (
	protocolProto          = "PrometheusProto"
	protocolOpenMetrics100 = "OpenMetricsText1.0.0"
	protocolOpenMetrics001 = "OpenMetricsText0.0.1"
	protocolText100        = "PrometheusText1.0.0"
	protocolText004        = "PrometheusText0.0.4"
)

// protocols returns all formats that can be asked for: Prometheus' default order of them
// when native histograms are wanted, and without the first one when not.
func protocols() []string {
	return []string{protocolProto, protocolOpenMetrics100, protocolOpenMetrics001, protocolText100, protocolText004}
}

// mediaRange returns what asks for a protocol in an Accept header. Names are escaped as the
// scheme says by formats that know of it.
func mediaRange(protocol, escaping string) string {
	switch protocol {
	case protocolProto:
		return "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	case protocolOpenMetrics100:
		return "application/openmetrics-text;version=1.0.0;escaping=" + escaping
	case protocolOpenMetrics001:
		return "application/openmetrics-text;version=0.0.1"
	case protocolText100:
		return "text/plain;version=1.0.0;escaping=" + escaping
	default:
		return "text/plain;version=0.0.4"
	}
}

// acceptHeader returns the formats to ask for, with the weights that Prometheus gives them.
func acceptHeader(cfg *JobConfig) string {
	var b strings.Builder
	weight := len(protocols()) + 1
	for _, p := range cfg.ScrapeProtocols {
		fmt.Fprintf(&b, "%s;q=0.%d,", mediaRange(p, cfg.MetricNameEscapingScheme), weight)
		weight--
	}
	fmt.Fprintf(&b, "*/*;q=0.%d", weight)
	return b.String()
}

// formatOf returns how an answer of the given Content-Type is read: by its media type, asked
// for or not, as in Prometheus 3, and as the fallback protocol when it has none that is known.
func formatOf(contentType, fallback string) expfmt.Format {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err == nil {
		switch mediaType {
		case "application/openmetrics-text":
			return expfmt.OpenMetrics100
		case "application/vnd.google.protobuf":
			return expfmt.Proto
		case "text/plain":
			if params["version"] == "1.0.0" {
				return expfmt.Text100
			}
			return expfmt.Text004
		}
	}
	switch fallback {
	case protocolProto:
		return expfmt.Proto
	case protocolOpenMetrics100, protocolOpenMetrics001:
		return expfmt.OpenMetrics100
	case protocolText100:
		return expfmt.Text100
	default:
		return expfmt.Text004
	}
}

// encodingFor returns the content coding to ask a host for: a name or an address.
func encodingFor(cfg *JobConfig, networks []netip.Prefix, host string) string {
	compress := !near(networks, host)
	switch proxy := cfg.HTTPClientConfig.ProxyConfig; {
	case cfg.EnableCompression != nil:
		compress = *cfg.EnableCompression
	case proxy.ProxyURL.URL != nil || proxy.ProxyFromEnvironment:
		compress = true
	}
	if compress {
		return "gzip"
	}
	return "identity"
}

// near reports whether a host is in one of the networks. Names are judged by themselves,
// since it takes a look-up to know more.
func near(networks []netip.Prefix, host string) bool {
	if len(networks) == 0 {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		name := "." + strings.TrimSuffix(host, ".")
		return strings.HasSuffix(name, ".localhost") || strings.HasSuffix(name, ".svc") || strings.HasSuffix(name, ".cluster.local")
	}
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}
