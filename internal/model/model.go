// Package model holds the values that travel from sources to sinks: label sets, batches of
// samples and batches of log lines.
//
// Sources (scrape, podlogs) fill a batch and call one Push; sinks (remotewrite, loki) encode
// it. Label sets travel in wire form, so that a sink copies bytes and never looks at a label
// again. The package imports the standard library only, does no I/O and keeps no state; it
// does not know Prometheus' or Loki's request formats beyond the one of [Labels].
package model

// Sample is one value of one series. T is milliseconds since the Unix epoch.
type Sample struct {
	Labels Labels
	T      int64
	V      float64
}

// Batch is what one scrape yields: its samples in the order of the exposition, then the
// report series (up and its companions). It is taken or refused as a whole. The source owns
// it and reuses it: a sink may not keep the slice after Push returns; the label sets it may.
type Batch struct {
	Samples []Sample
}

// Entry is one log line. T is nanoseconds since the Unix epoch; Line has no line end.
type Entry struct {
	T    int64
	Line []byte
}

// Stream is lines of one log stream, in the order of the file. Metadata is the structured
// metadata that every one of the entries carries.
type Stream struct {
	Labels   Labels
	Metadata Labels
	Entries  []Entry
}

// LogBatch is what one turn of one file yields. The source owns it, the lines included: a
// sink may not keep any of it after Push returns.
type LogBatch struct {
	Streams []Stream
	// Ack is called once when every line of the batch has been accepted by the destination
	// or dropped and counted, possibly from another goroutine and possibly never (at a stop).
	// Batches of one source are acknowledged in the order in which they were pushed.
	Ack func()
}
