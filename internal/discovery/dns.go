package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Resolver looks up records. In the program this is *net.Resolver.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNS(ctx context.Context, name string) ([]*net.NS, error)
}

// DNS is the source of targets that DNS records name, as dns_sd_configs of Prometheus. Each
// name is a group: one that cannot be looked up keeps its targets, one that does not exist has
// none.
type DNS struct {
	cfg      DNSConfig
	log      *slog.Logger
	resolver Resolver

	mu  sync.Mutex // guards err
	err error
}

// NewDNS returns the source for one dns_sd_configs block.
func NewDNS(cfg DNSConfig, log *slog.Logger, resolver Resolver) *DNS {
	return &DNS{cfg: cfg, log: log, resolver: resolver}
}

// NewResolver returns the resolver of the system's configuration. Where one server or search
// domain fails it fails too: that another one does not know a name is no reason to give up its
// targets.
func NewResolver() Resolver { return &net.Resolver{PreferGo: true, StrictErrors: true} }

// Err returns which names could not be looked up the last time, nil when all could.
func (d *DNS) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Run looks up the names at once and each refresh interval.
func (d *DNS) Run(ctx context.Context, update func([]Group)) error {
	ticker := time.NewTicker(time.Duration(d.cfg.RefreshInterval))
	defer ticker.Stop()
	for {
		groups, err := d.lookUp(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.mu.Lock()
		logChange(d.log, d.err, err)
		d.err = err
		d.mu.Unlock()
		update(groups)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// lookUp returns the groups of the names that could be looked up, and why others could not.
func (d *DNS) lookUp(ctx context.Context) ([]Group, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.cfg.RefreshInterval))
	defer cancel()
	found, errs := make([][]labels.Labels, len(d.cfg.Names)), make([]error, len(d.cfg.Names))
	var wg sync.WaitGroup
	for i, name := range d.cfg.Names {
		wg.Go(func() { found[i], errs[i] = d.records(ctx, name) })
	}
	wg.Wait()
	var groups []Group
	for i, name := range d.cfg.Names {
		if e, ok := errors.AsType[*net.DNSError](errs[i]); ok && e.IsNotFound {
			errs[i] = nil
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("look up %s records of %s: %w", strings.ToUpper(d.cfg.Type), name, errs[i])
			continue
		}
		groups = append(groups, Group{Key: Key{Name: name}, Targets: found[i]})
	}
	return groups, errors.Join(errs...)
}

// records returns a target for each record of a name.
func (d *DNS) records(ctx context.Context, name string) (targets []labels.Labels, err error) {
	add := func(host string, port uint16, more ...string) {
		// The final dot is how records write names, and not how anybody else does.
		address := net.JoinHostPort(strings.TrimRight(host, "."), strconv.Itoa(int(port)))
		targets = append(targets, labels.FromStrings(append(more, addressLabel, address, "__meta_dns_name", name)...))
	}
	switch kind := strings.ToUpper(d.cfg.Type); kind {
	case "SRV":
		var all []*net.SRV
		if _, all, err = d.resolver.LookupSRV(ctx, "", "", name); err == nil {
			for _, r := range all {
				add(r.Target, r.Port, "__meta_dns_srv_record_target", r.Target, "__meta_dns_srv_record_port", strconv.Itoa(int(r.Port)))
			}
		}
	case "MX":
		var all []*net.MX
		if all, err = d.resolver.LookupMX(ctx, name); err == nil {
			for _, r := range all {
				add(r.Host, d.cfg.Port, "__meta_dns_mx_record_target", r.Host)
			}
		}
	case "NS":
		var all []*net.NS
		if all, err = d.resolver.LookupNS(ctx, name); err == nil {
			for _, r := range all {
				add(r.Host, d.cfg.Port, "__meta_dns_ns_record_target", r.Host)
			}
		}
	default:
		network := map[string]string{"A": "ip4", "AAAA": "ip6"}[kind]
		var all []netip.Addr
		if all, err = d.resolver.LookupNetIP(ctx, network, name); err == nil {
			for _, r := range all {
				add(r.Unmap().String(), d.cfg.Port)
			}
		}
	}
	return targets, err
}
