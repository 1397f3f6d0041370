package remotewrite

import (
	"net/http"
	"strconv"
)

// The formats of the blocks, as [delivery.Block].Format. They are kept on disk: a number never
// changes its meaning.
const (
	// Format1 is a WriteRequest of remote write 1.0 in snappy.
	Format1 byte = 1
	// Format2 is a Request of remote write 2.0 in snappy.
	Format2 byte = 2
	// Format1Zstd is a WriteRequest of remote write 1.0 in zstd, which VictoriaMetrics reads.
	Format1Zstd byte = 3
)

// The headers by which a receiver of remote write 2.0 says what it has stored.
const (
	writtenSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	writtenHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
)

// Header returns the headers that are the same for every request of the endpoint, custom ones
// included. userAgent is the program's name and version, ingot/1.2.3.
func (c EndpointConfig) Header(userAgent string) http.Header {
	h := http.Header{"User-Agent": {userAgent}}
	for name, value := range c.Headers {
		h.Set(name, string(value))
	}
	return h
}

// header returns what the protocol asks for in a format.
func header(format byte) http.Header {
	switch format {
	case Format2:
		return http.Header{
			"Content-Type":                      {"application/x-protobuf;proto=io.prometheus.write.v2.Request"},
			"Content-Encoding":                  {"snappy"},
			"X-Prometheus-Remote-Write-Version": {"2.0.0"},
		}
	case Format1Zstd:
		return http.Header{
			"Content-Type":                           {"application/x-protobuf"},
			"Content-Encoding":                       {"zstd"},
			"X-Prometheus-Remote-Write-Version":      {"0.1.0"},
			"X-Victoriametrics-Remote-Write-Version": {"1"},
		}
	default:
		return http.Header{
			"Content-Type":                      {"application/x-protobuf"},
			"Content-Encoding":                  {"snappy"},
			"X-Prometheus-Remote-Write-Version": {"0.1.0"},
		}
	}
}

// written reads how many samples and histograms of a request of remote write 2.0 the receiver
// says it has stored. As in Prometheus, one header without the other means none of the other.
func written(h http.Header) (n int, known bool) {
	for _, name := range [...]string{writtenSamples, writtenHistograms} {
		value := h.Get(name)
		if value == "" {
			continue
		}
		count, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return 0, false
		}
		n, known = n+int(count), true
	}
	return n, known
}
