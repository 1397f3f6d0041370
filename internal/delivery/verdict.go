package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// verdict is what an answer means for a block.
type verdict int

const (
	accepted      verdict = iota // the endpoint has it
	rejected                     // the endpoint will never take it: dropped and counted
	tooLarge                     // as rejected, for its size
	retryLater                   // try again, with growing pauses
	paused                       // our credentials are refused: the data is not at fault
	misconfigured                // not an endpoint of this kind: the data is not at fault
)

// judge returns the verdict on a status code and the first words of the body. Data is dropped only for codes that speak about
// the data; codes about credentials, the URL or the form of the request keep it, since an
// operator can put those right. Codes outside HTTP's range come from something broken in
// between, which may pass.
func judge(code int, words string) verdict {
	switch {
	case code >= 200 && code <= 299: // Mimir's 202 says that another replica is elected.
		return accepted
	case code >= 300 && code <= 399:
		return misconfigured
	case code < 200 || code >= 600:
		return retryLater
	}
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return paused
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented,
		http.StatusGone, http.StatusLengthRequired, http.StatusRequestURITooLong, http.StatusMisdirectedRequest,
		http.StatusUpgradeRequired, http.StatusRequestHeaderFieldsTooLarge:
		return misconfigured
	case http.StatusRequestEntityTooLarge:
		return tooLarge
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return retryLater
	}
	if code >= 500 {
		if strings.Contains(words, "received message larger than max") {
			return tooLarge // Between the parts of Loki and of Mimir, the same however often it is tried.
		}
		return retryLater
	}
	switch {
	case wantsTLS(words):
		return misconfigured
	case code == http.StatusBadRequest && wantsLess(words):
		return tooLarge
	}
	return rejected
}

// wantsLess reports whether a refusal is about the size of the request: that of Mimir, of
// gRPC behind a gateway, of Go's own limit for bodies, and of VictoriaMetrics. Their status is
// 400 as if the data were at fault, but it can be sent in smaller pieces.
func wantsLess(words string) bool {
	words = strings.ToLower(words)
	for _, said := range [...]string{
		"err-mimir-distributor-max-write-message-size",
		"received message larger than max",
		"request body too large",
		"too big packed request",
		"too big unpacked request",
		"write request too large",
	} {
		if strings.Contains(words, said) {
			return true
		}
	}
	return false
}

// wantsTLS reports whether a body is what a port for HTTPS answers to plain HTTP: that of Go,
// of nginx and of Apache. Their status is 400, as if the data were at fault.
func wantsTLS(words string) bool {
	for _, said := range [...]string{
		"Client sent an HTTP request to an HTTPS server",
		"plain HTTP request was sent to HTTPS port",
		"speaking plain HTTP to an SSL-enabled server port",
	} {
		if strings.Contains(words, said) {
			return true
		}
	}
	return false
}

// state is the state of an endpoint that gave this verdict.
func (v verdict) state() State {
	switch v {
	case retryLater:
		return StateRetrying
	case paused:
		return StatePaused
	case misconfigured:
		return StateMisconfigured
	default:
		return StateOK
	}
}

const (
	minBackoff    = 100 * time.Millisecond
	maxBackoff    = time.Minute
	maxRetryAfter = 5 * time.Minute
	// operatorPause is how often an endpoint is tried that only an operator can put right.
	operatorPause = 30 * time.Second
)

// pause returns how long to wait after the n-th request in vain (from 1) with that verdict.
// asked is what the endpoint asked for, 0 if nothing. Jitter makes a pause up to a tenth
// shorter, or longer where the endpoint asked for it, which must not be undercut; it does not
// pass the cap.
func pause(v verdict, n int, asked time.Duration, jitter *rand.Rand) time.Duration {
	if v != retryLater {
		return operatorPause
	}
	if asked > 0 {
		return max(asked, min(asked+time.Duration(jitter.Int64N(int64(asked)/10+1)), maxRetryAfter))
	}
	d := maxBackoff
	if n < 11 { // 100 ms << 10 is over a minute.
		d = min(minBackoff<<(n-1), maxBackoff)
	}
	return d - time.Duration(jitter.Int64N(int64(d)/10+1))
}

// retryAfter reads a Retry-After header, seconds or an HTTP date, capped at five minutes.
// 0 stands for none, garbage, and times that have passed.
func retryAfter(header string, now time.Time) time.Duration {
	header = strings.TrimSpace(header)
	if seconds, err := strconv.ParseUint(header, 10, 64); err == nil {
		if seconds > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return maxRetryAfter
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// describe says in words what kept a request from being answered. The URL is left out: it
// may hold credentials, and the endpoint's name is known to the reader.
func describe(err error, timeout time.Duration) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	var unknownCA x509.UnknownAuthorityError
	var badCert x509.CertificateInvalidError
	var badHost x509.HostnameError
	var badRecord tls.RecordHeaderError
	var badVerify *tls.CertificateVerificationError
	var alert tls.AlertError
	var dns *net.DNSError
	var network net.Error
	var file *fs.PathError // a password, token or certificate that is read for the request
	switch {
	case errors.As(err, &file):
		return fmt.Sprintf("file: %v", err)
	case errors.As(err, &dns):
		return fmt.Sprintf("DNS: look up %s: %s", dns.Name, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused: %v", err)
	case errors.As(err, &badVerify), errors.As(err, &unknownCA), errors.As(err, &badCert), errors.As(err, &badHost),
		errors.As(err, &badRecord), errors.As(err, &alert), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("TLS: %v", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("timeout: no answer within %s", timeout)
	case errors.As(err, &network) && network.Timeout():
		return fmt.Sprintf("timeout: %v", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Sprintf("connection cut before the answer: %v", err)
	default:
		return fmt.Sprintf("network: %v", err)
	}
}
