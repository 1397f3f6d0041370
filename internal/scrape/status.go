package scrape

import "time"

// Status is a snapshot of every job, for the status page.
type Status struct {
	Jobs []JobStatus `json:"jobs"`
}

// JobStatus is a snapshot of one job.
type JobStatus struct {
	Job string `json:"job"`
	// Error is why the targets of the job are not scraped at all, such as target_limit.
	Error   string         `json:"error,omitempty"`
	Targets []TargetStatus `json:"targets"`
	// Dropped counts the targets that relabelling dropped; DroppedTargets are the first of
	// them, as many as keep_dropped_targets says.
	Dropped        int                 `json:"dropped"`
	DroppedTargets []map[string]string `json:"dropped_targets,omitempty"`
	// Invalid counts the targets that cannot be scraped, such as those without an address.
	Invalid        int             `json:"invalid"`
	InvalidTargets []InvalidTarget `json:"invalid_targets,omitempty"`
	// Discovery says which of the job's sources are out of date and why.
	Discovery []string `json:"discovery_errors,omitempty"`
}

// InvalidTarget is a discovered target that cannot be scraped.
type InvalidTarget struct {
	Labels map[string]string `json:"labels"`
	Error  string            `json:"error"`
}

// Health says how the last scrape of a target went.
type Health string

// The states of a target.
const (
	HealthUnknown Health = "unknown"
	HealthUp      Health = "up"
	HealthDown    Health = "down"
)

// TargetStatus is a snapshot of one target.
type TargetStatus struct {
	Job    string            `json:"job"`
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels"`
	Health Health            `json:"health"`
	// Interval and Timeout are in seconds.
	Interval float64 `json:"interval_seconds"`
	Timeout  float64 `json:"timeout_seconds"`
	// LastScrape is zero before the first one; Duration is in seconds.
	LastScrape time.Time `json:"last_scrape"`
	Duration   float64   `json:"last_duration_seconds"`
	// Samples is what the last scrape yielded before relabelling; Series is how many
	// series the target has; Bytes is the size of the last response after decompression.
	Samples int `json:"samples"`
	Series  int `json:"series"`
	Bytes   int `json:"bytes"`
	// Reason is the class of the last failure, the label reason of the metrics, and Error
	// says it in words. Both are empty for a target that is up.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
	// PushError is why the last batch was refused by the sink.
	PushError string `json:"push_error,omitempty"`
}
