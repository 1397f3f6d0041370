package scrape

import (
	"fmt"
	"log/slog"
	"net/http"

	promconfig "github.com/prometheus/common/config"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/discovery"
)

// Sources returns the sources of the job's discovery blocks. client makes the HTTP client of
// an http_sd_configs block; name is for its metrics and logs. version is the program's.
func (c *JobConfig) Sources(log *slog.Logger, version string, client func(cfg promconfig.HTTPClientConfig, name string) (*http.Client, error)) ([]discovery.Source, error) {
	log = log.With("job", c.JobName)
	var all []discovery.Source
	if len(c.StaticConfigs) > 0 {
		all = append(all, discovery.NewStatic(c.StaticConfigs))
	}
	for _, f := range c.FileSDConfigs {
		all = append(all, discovery.NewFile(f, log))
	}
	for i, h := range c.HTTPSDConfigs {
		hc, err := client(h.HTTPClientConfig, c.JobName+"/http_sd")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", config.Index("http_sd_configs", i), err)
		}
		all = append(all, discovery.NewHTTP(h, log, hc, "Ingot/"+version))
	}
	return all, nil
}
