package app

import (
	"path/filepath"
	"time"

	"github.com/ingot-telemetry/ingot/internal/delivery"
	"github.com/ingot-telemetry/ingot/internal/loki"
)

// tenants builds the queues of a destination of logs, one for each tenant, with their spools. The
// file of a line is what it waits in first, so the queues never drop from memory.
func (p *program) tenants(d Destination, m *delivery.Metrics) (*loki.Tenants, error) {
	client, err := p.client(d.HTTP, "destination "+d.Name)
	if err != nil {
		return nil, err
	}
	cfg := delivery.Config{MaxBytes: d.Loki.Spool.MaxBytes, MaxAge: d.Loki.Spool.MaxAge, Durability: delivery.Behind, MaxParallel: 1}
	log := p.component("delivery")
	build := func(tenant, dir string) *delivery.Queue {
		header, of := loki.Header(p.userAgent()), log
		if tenant != "" {
			header.Set(tenantHeader, tenant)
			of = log.With("tenant", tenant)
		}
		return delivery.New(cfg, dir, of, m, delivery.Endpoint{
			Name: d.Name, Tenant: tenant, URL: d.URL, Client: client, Header: header,
			Timeout: time.Duration(d.Timeout), Codec: loki.Codec{}, Spool: true,
		})
	}
	t := loki.NewTenants(p.component("loki").With("endpoint", d.Name), d.Tenant, filepath.Join(p.DataDir, "spool", d.Name), d.Loki.Spool, m, build)
	p.delivering = append(p.delivering, t.Status)
	p.queues = append(p.queues, part{"queues of " + d.Name, t.Run})
	return t, nil
}
