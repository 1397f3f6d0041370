package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/ingot-telemetry/ingot/internal/config"
)

// HTTP is the source of targets that a URL lists, as http_sd_configs of Prometheus.
type HTTP struct {
	cfg       HTTPConfig
	log       *slog.Logger
	client    *http.Client
	userAgent string

	mu  sync.Mutex // guards err
	err error
}

// NewHTTP returns the source for one http_sd_configs block. client carries the block's
// authentication; userAgent is the program's name and version, Ingot/1.2.3.
func NewHTTP(cfg HTTPConfig, log *slog.Logger, client *http.Client, userAgent string) *HTTP {
	return &HTTP{cfg: cfg, log: log, client: client, userAgent: userAgent}
}

// Err returns why the last fetch failed, nil when it did not.
func (h *HTTP) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Run fetches the list at once and each refresh interval. A failed fetch changes nothing.
func (h *HTTP) Run(ctx context.Context, update func([]Group)) error {
	ticker := time.NewTicker(time.Duration(h.cfg.RefreshInterval))
	defer ticker.Stop()
	for {
		targets, err := h.fetch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		h.setErr(err)
		if err == nil {
			update(Whole(targets))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (h *HTTP) setErr(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	logChange(h.log, h.err, err)
	h.err = err
}

func (h *HTTP) fetch(ctx context.Context) (_ []labels.Labels, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("fetch targets from %s: %w", config.RedactURL(h.cfg.URL), config.WithoutURL(err))
		}
	}()
	interval := time.Duration(h.cfg.RefreshInterval)
	ctx, cancel := context.WithTimeout(ctx, interval)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.cfg.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", h.userAgent)
	req.Header.Set("X-Prometheus-Refresh-Interval-Seconds", strconv.FormatFloat(interval.Seconds(), 'f', -1, 64))
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("server returned HTTP status %s", resp.Status)
	}
	if !isJSON(resp.Header.Get("Content-Type")) {
		return nil, fmt.Errorf("content type is %q, must be application/json", resp.Header.Get("Content-Type"))
	}
	data, err := readLimited(resp.Body)
	if err != nil {
		return nil, err
	}
	blocks, err := decodeJSON(data)
	if err != nil {
		return nil, err
	}
	return expandList(blocks, model.LabelSet{"__meta_url": model.LabelValue(h.cfg.URL)})
}

func isJSON(contentType string) bool {
	mediaType, params, err := mime.ParseMediaType(contentType)
	charset, ok := params["charset"]
	return err == nil && mediaType == "application/json" && (!ok || strings.EqualFold(charset, "utf-8"))
}
