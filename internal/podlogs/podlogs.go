// Package podlogs reads the log files of containers and other log files of the node and
// hands their lines on, each line at least once.
//
// A [Collector] serves one destination and has positions of its own, so that no destination
// can hold up another. Its scanner walks directories and opens every file that it finds at
// once; an open descriptor keeps a file readable whatever the kubelet does to its name. Its
// reader takes turns over the files: one pread of up to 256 KiB, one pass over the lines, one
// [Sink.Push]. When the destination has accepted a turn, the file's acknowledged offset
// advances, and [Positions] writes it to the disk within a second.
//
// The package does not buffer lines (the file is the buffer), does not talk to Kubernetes
// (see [Pods]), does not read compressed files and knows nothing about the format in which
// lines are sent.
package podlogs

import (
	"context"

	"github.com/ingot-telemetry/ingot/internal/kube"
	"github.com/ingot-telemetry/ingot/internal/model"
)

// Sink takes what was read. In the program this is *loki.Writer.
type Sink interface {
	// Push hands on one turn of one file. It may block, which stops reading, and may not
	// keep any part of b after it returns. The only error is that of ctx.
	Push(ctx context.Context, b *model.LogBatch) error
}

// Pods tells what the cluster knows of the pods of this node. In the program this is
// *kube.PodStore; it is nil without Kubernetes.
type Pods interface {
	// Pod returns the pod that uid in the name of a log directory stands for: its own, or for
	// a static pod the one that its mirror pod carries.
	Pod(namespace, name, uid string) (kube.Pod, bool)
}
