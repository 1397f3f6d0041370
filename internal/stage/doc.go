// Package stage is the stages that log lines pass on their way to Loki: they take lines
// apart, change them, label them, join them, count them and drop them. Names, options and
// meaning are those of promtail's pipeline_stages and Alloy's loki.process, so that a list can
// be pasted.
//
// [Compile] turns the configuration into a [Program], which never changes. Whoever reads
// lines, one goroutine, takes one [Runner] of it, which has all memory that lines need, and
// from that one [Pipeline] for each stream of a file, which only has what must be kept from
// one line to the next and is otherwise empty. [Pipeline.Apply] runs the stages on a line:
// the line is a view of the reader's buffer, and so are the values extracted from it; what
// the stages write goes to memory of the runner that stays as it is until [Runner.Reset].
// Extracted values have places that the compiler has given out instead of names in a map, and
// the labels are rendered only when they have changed, into sets that are kept. A line on
// which no stage does anything costs no memory, and an empty program does not look at it.
//
// How a reader of log files uses it, see also the example:
//
//   - At the start: Compile each list (the configuration's Validate calls it for its problems,
//     too), [NewMetrics] over all programs, registered once.
//   - For each goroutine that reads, one NewRunner for each program; for each file and each of
//     stdout and stderr, one NewPipeline. A program that is [Program.Empty] needs neither.
//   - For each whole line, Apply with the stream's labels and metadata as they are now, and with
//     Seq, a number that grows with the position of the line, such as the offset plus the
//     length of the files that came before in the same stream. After [Keep] the entry is what
//     goes out, which may be an earlier line that is complete now; its length has still to be
//     checked. [Streams] puts together entries that have the same labels.
//   - The position must stay before the lines that are held: at [Pipeline.Held].
//   - Between lines, when Held says that it is time, and with [Pipeline.Drain] at the end of a
//     file: Flush until it returns false.
//   - A limit that does not drop asks for a pause by Entry.Delay: read on in that file only
//     after it.
//   - When what came out has been pushed, Reset, and [Runner.Counts] for the metrics. Where
//     [Runner.Size] becomes large, push sooner.
//
// Lines given to Apply are the lines kept, plus those dropped by reason, plus those joined to
// another, plus those held.
//
// Where it means something else than promtail does, on purpose:
//
//   - JSON: whole numbers keep all their digits, objects stay as they are written, and control
//     characters in strings are let pass. A value that is null is not there for drop with a
//     source alone.
//   - multiline and timestamp keep their state for a stream of a file, not for a label set, so
//     a label that only some lines have does not tear blocks apart. What follows a block that
//     was let go of has its own time. Blocks end at 256 KiB, too.
//   - cri and docker: a line that they do not know keeps its time. Parts without an end are let
//     go of after a minute instead of never. docker removes the line end.
//   - decolorize follows ECMA-48; pack does not escape <, > and &; metrics are called
//     ingot_custom_ instead of promtail_custom_ and have at most 5000 series each.
//   - limit without drop does not wait but asks its caller to, see Entry.Delay.
//   - regex without a named group and replace without a group, which do nothing, are refused.
//   - Sizes are read as Prometheus does, 1KB is 1024 bytes; templates have some of sprig's
//     functions, not all.
//
// The package starts no goroutine, reads no clock but the one it is given, and logs nothing. It
// does not find or read files, does not cut lines at Loki's limit, and keeps nothing across
// restarts.
package stage
