package scrape

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// The classes of failed scrapes, values of the label reason.
const (
	reasonRefused     = "connection_refused"
	reasonDNS         = "dns"
	reasonTimeout     = "timeout"
	reasonTLS         = "tls"
	reasonNetwork     = "network"
	reasonFile        = "file"
	reasonRedirect    = "redirect"
	reasonStatus      = "status"
	reasonEncoding    = "encoding"
	reasonHeaders     = "header_limit"
	reasonBodyLimit   = "body_size_limit"
	reasonBudget      = "body_budget"
	reasonParse       = "parse"
	reasonLabels      = "labels"
	reasonLabelLimit  = "label_limit"
	reasonSampleLimit = "sample_limit"
	reasonBucketLimit = "bucket_limit"
	reasonMemory      = "memory"
	reasonTargetLimit = "target_limit"
	reasonPanic       = "panic"
)

// reasonOf returns the class of an error of a scrape.
func reasonOf(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.reason
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return reasonTimeout
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return reasonDNS
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return reasonRefused
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok { // a password, token or certificate
		return reasonFile
	}
	if isTLS(err) || errors.Is(err, http.ErrSchemeMismatch) {
		return reasonTLS
	}
	return reasonNetwork
}

func isTLS(err error) bool {
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return record || verify || alert || authority || host || invalid
}
