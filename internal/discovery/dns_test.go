package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// zone answers with what is in it, by type and name, until a name fails.
type zone struct {
	mu      sync.Mutex // guards all
	records map[string][]string
	failing map[string]error
}

func (z *zone) find(kind, name string) ([]string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if err := z.failing[name]; err != nil {
		return nil, err
	}
	all, ok := z.records[kind+" "+name]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
	}
	return all, nil
}

func (z *zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	all, err := z.find("SRV", service+proto+name)
	var out []*net.SRV
	for _, r := range all {
		var s net.SRV
		_, scanErr := fmt.Sscan(r, &s.Target, &s.Port)
		out, err = append(out, &s), errors.Join(err, scanErr)
	}
	return name, out, err
}

func (z *zone) LookupNetIP(_ context.Context, network, host string) (out []netip.Addr, err error) {
	all, err := z.find(network, host)
	for _, r := range all {
		out = append(out, netip.MustParseAddr(r))
	}
	return out, err
}

func (z *zone) LookupMX(_ context.Context, name string) (out []*net.MX, err error) {
	all, err := z.find("MX", name)
	for _, r := range all {
		out = append(out, &net.MX{Host: r})
	}
	return out, err
}

func (z *zone) LookupNS(_ context.Context, name string) (out []*net.NS, err error) {
	all, err := z.find("NS", name)
	for _, r := range all {
		out = append(out, &net.NS{Host: r})
	}
	return out, err
}

func TestRecordsBecomeTheTargetsOfPrometheus(t *testing.T) {
	z := &zone{records: map[string][]string{
		"SRV _http._tcp.a": {"one.a. 8080", "two.a. 8081"}, "ip4 a": {"10.0.0.1", "::ffff:10.0.0.2"}, "ip6 a": {"fd00::1"}, "MX a": {"mail.a."}, "NS a": {"ns.a."},
	}}
	f := func(kind, name string, want ...string) {
		t.Helper()
		d := NewDNS(DNSConfig{Names: []string{name}, Type: kind, Port: 9100, RefreshInterval: config.Duration(time.Minute)}, slog.New(slog.DiscardHandler), z)
		groups, err := d.lookUp(t.Context())
		if err != nil || len(groups) != 1 || groups[0].Key.Name != name {
			t.Fatalf("%s %s: groups %v, error %v", kind, name, groups, err)
		}
		var got []string
		for _, target := range groups[0].Targets {
			got = append(got, target.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s %s: %s, want %s", kind, name, got, want)
		}
	}
	f("srv", "_http._tcp.a",
		`{__address__="one.a:8080", __meta_dns_name="_http._tcp.a", __meta_dns_srv_record_port="8080", __meta_dns_srv_record_target="one.a."}`,
		`{__address__="two.a:8081", __meta_dns_name="_http._tcp.a", __meta_dns_srv_record_port="8081", __meta_dns_srv_record_target="two.a."}`)
	f("A", "a", `{__address__="10.0.0.1:9100", __meta_dns_name="a"}`, `{__address__="10.0.0.2:9100", __meta_dns_name="a"}`)
	f("AAAA", "a", `{__address__="[fd00::1]:9100", __meta_dns_name="a"}`)
	f("MX", "a", `{__address__="mail.a:9100", __meta_dns_mx_record_target="mail.a.", __meta_dns_name="a"}`)
	f("NS", "a", `{__address__="ns.a:9100", __meta_dns_name="a", __meta_dns_ns_record_target="ns.a."}`)
	f("A", "unknown")
}

func TestNameThatCannotBeLookedUpKeepsItsTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{records: map[string][]string{"ip4 a": {"10.0.0.1"}, "ip4 b": {"10.0.0.2"}}, failing: map[string]error{}}
		d := NewDNS(DNSConfig{Names: []string{"a", "b"}, Type: "A", Port: 1, RefreshInterval: config.Duration(30 * time.Second)}, slog.New(slog.DiscardHandler), z)
		updates := runSource(t, d)
		addresses := func() string {
			var all []string
			for _, target := range <-updates {
				all = append(all, target.Get(addressLabel))
			}
			return strings.Join(all, " ")
		}
		want := func(what, want, cause string) {
			t.Helper()
			if got := addresses(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
			if err := fmt.Sprint(d.Err()); !strings.Contains(err, cause) {
				t.Errorf("%s: Err = %s, want one about %s", what, err, cause)
			}
		}
		want("at first", "10.0.0.1:1 10.0.0.2:1", "<nil>")
		z.mu.Lock()
		z.failing["a"] = &net.DNSError{Err: "server misbehaving", Name: "a", IsTemporary: true}
		z.records["ip4 b"] = []string{"10.0.0.3"}
		z.mu.Unlock()
		want("one name fails", "10.0.0.1:1 10.0.0.3:1", "look up A records of a")
		z.mu.Lock()
		delete(z.failing, "a")
		delete(z.records, "ip4 a")
		z.mu.Unlock()
		want("the name is gone", "10.0.0.3:1", "<nil>")
	})
}
