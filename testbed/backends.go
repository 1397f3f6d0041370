package testbed

import (
	"fmt"
	"strings"
	"time"
)

// startCortex starts Cortex as one process with all its parts and more than one
// tenant: a request without X-Scope-OrgID is refused.
func (c *Cluster) startCortex() (*process, error) {
	if err := c.write("etc/cortex.yaml", cortexConfig(c.path("cortex"), c.opts.OutOfOrderWindow)); err != nil {
		return nil, fmt.Errorf("start cortex: %w", err)
	}
	return c.run("cortex", c.opts.Binaries.Cortex, "-config.file="+c.path("etc/cortex.yaml"))
}

// cortexConfig takes away the limits on rates and numbers, which a test would
// reach and a real tenant has raised. Limits on the shape of a series (names,
// lengths) keep their defaults: what breaks them breaks in production too.
func cortexConfig(dir string, outOfOrder time.Duration) string {
	host, port, _ := strings.Cut(cortexAddr, ":")
	return fmt.Sprintf(`target: all
auth_enabled: true
server:
  http_listen_address: %[1]s
  http_listen_port: %[2]s
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: 19095
  grpc_server_max_recv_msg_size: 104857600
  grpc_server_max_send_msg_size: 104857600
  grpc_server_max_concurrent_streams: 1000
  log_level: warn
distributor:
  shard_by_all_labels: true
  pool: {health_check_ingesters: true}
  instance_limits: {max_ingestion_rate: 0}
  ring:
    instance_interface_names: [lo]
    kvstore: {store: inmemory}
ingester_client:
  grpc_client_config: {max_recv_msg_size: 104857600, max_send_msg_size: 104857600}
ingester:
  lifecycler:
    address: 127.0.0.1
    min_ready_duration: 0s
    final_sleep: 0s
    join_after: 0s
    num_tokens: 64
    ring:
      kvstore: {store: inmemory}
      replication_factor: 1
blocks_storage:
  backend: filesystem
  filesystem: {dir: %[3]q}
  tsdb: {dir: %[4]q}
  bucket_store: {sync_dir: %[5]q}
compactor:
  data_dir: %[6]q
  sharding_ring:
    kvstore: {store: inmemory}
frontend_worker:
  match_max_concurrent: true
ruler:
  enable_api: true
  evaluation_interval: 5s
  poll_interval: 5s
  rule_path: %[7]q
  alertmanager_url: http://%[1]s:%[2]s/alertmanager
ruler_storage:
  backend: filesystem
  filesystem: {dir: %[8]q}
alertmanager:
  enable_api: true
  data_dir: %[9]q
  external_url: http://%[1]s:%[2]s/alertmanager
  poll_interval: 5s
  cluster: {listen_address: ""}
alertmanager_storage:
  backend: filesystem
  filesystem: {dir: %[10]q}
limits:
  ingestion_rate: 10000000
  ingestion_burst_size: 10000000
  max_series_per_user: 0
  max_series_per_metric: 0
  max_metadata_per_user: 0
  max_metadata_per_metric: 0
  max_exemplars: 100000
  max_fetched_chunks_per_query: 0
  max_cache_freshness: 10m
  enable_native_histograms: true
  out_of_order_time_window: %[11]s
`, host, port, dir+"/blocks", dir+"/tsdb", dir+"/tsdb-sync", dir+"/compactor",
		dir+"/ruler", dir+"/rules", dir+"/alertmanager", dir+"/alerts", outOfOrder)
}

// startLoki starts Loki as one process with more than one tenant.
func (c *Cluster) startLoki() (*process, error) {
	if err := c.write("etc/loki.yaml", lokiConfig(c.path("loki"))); err != nil {
		return nil, fmt.Errorf("start loki: %w", err)
	}
	return c.run("loki", c.opts.Binaries.Loki, "-config.file="+c.path("etc/loki.yaml"))
}

// lokiConfig treats limits as [cortexConfig] does. What Loki would add to a line
// by itself (service_name, detected_level, the shard label) is off, so that a
// query returns what was pushed and nothing else. The usage report is off
// because it would leave the machine.
func lokiConfig(dir string) string {
	host, port, _ := strings.Cut(lokiAddr, ":")
	return fmt.Sprintf(`target: all
auth_enabled: true
server:
  http_listen_address: %[1]s
  http_listen_port: %[2]s
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: 13195
  grpc_server_max_recv_msg_size: 104857600
  grpc_server_max_send_msg_size: 104857600
  log_level: warn
common:
  instance_addr: 127.0.0.1
  path_prefix: %[3]q
  replication_factor: 1
  ring:
    kvstore: {store: inmemory}
  storage:
    filesystem:
      chunks_directory: %[4]q
      rules_directory: %[5]q
schema_config:
  configs:
  - from: 2020-01-01
    store: tsdb
    object_store: filesystem
    schema: v13
    index: {prefix: index_, period: 24h}
ingester:
  lifecycler:
    min_ready_duration: 0s
    final_sleep: 0s
    join_after: 0s
# The parts of one process find each other through the ring, every ten seconds
# by default.
frontend: {scheduler_dns_lookup_period: 200ms}
frontend_worker: {dns_lookup_duration: 200ms}
analytics:
  reporting_enabled: false
limits_config:
  ingestion_rate_mb: 1000
  ingestion_burst_size_mb: 2000
  per_stream_rate_limit: 1GB
  per_stream_rate_limit_burst: 2GB
  max_global_streams_per_user: 0
  max_entries_limit_per_query: 10000000
  max_query_series: 100000
  max_query_length: 0s
  reject_old_samples: false
  allow_structured_metadata: true
  discover_service_name: []
  discover_log_levels: false
  shard_streams: {enabled: false}
`, host, port, dir, dir+"/chunks", dir+"/rules")
}
