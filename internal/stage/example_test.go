package stage_test

import (
	"fmt"
	"time"

	"github.com/ingot-telemetry/ingot/internal/config"
	"github.com/ingot-telemetry/ingot/internal/model"
	"github.com/ingot-telemetry/ingot/internal/stage"
)

// A reader of log files compiles its stages once, takes a runner for its goroutine and a
// pipeline for each stream of a file.
func Example() {
	var cfg struct {
		Stages []stage.Config `yaml:"stages"`
	}
	err := config.Load([]byte(`
stages:
  - multiline: {firstline: '^\d+:'}
  - regex: {expression: 'level=(?P<level>\w+)'}
  - labels: {level: }
  - drop: {source: level, value: debug}
`), &cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	program, err := stage.Compile(cfg.Stages)
	if err != nil {
		fmt.Println(err) // config.Problems, one line each
		return
	}
	runner := program.NewRunner(stage.Deps{})
	stdout := runner.NewPipeline()
	labels := model.NewLabels(model.Label{Name: "job", Value: "shop/api"})
	now := time.Unix(1_700_000_000, 0)

	// One turn over a file: Seq is where each line begins.
	var out stage.Streams
	offset := int64(0)
	for _, line := range []string{"10: level=info one", "11: level=debug two", "12: level=error three", "  at four"} {
		e := stage.Entry{T: now.UnixNano(), Line: []byte(line), Labels: labels, Seq: offset}
		if stdout.Apply(&e, now) == stage.Keep {
			out.Add(&e)
		}
		offset += int64(len(line)) + 1
	}
	if held, due, ok := stdout.Held(); ok {
		fmt.Printf("acknowledge up to byte %d of %d, flush in %s\n", held, offset, due.Sub(now))
	}
	// At the end of the file. While it goes on, Flush does it when the block is due.
	for e := (stage.Entry{}); stdout.Drain(&e, now); {
		out.Add(&e)
	}
	for _, s := range out.List() { // In the program this goes to the sink.
		for _, e := range s.Entries {
			fmt.Printf("%v %q\n", s.Labels, e.Line)
		}
	}
	counts := runner.Counts(func(reason string, lines int) { fmt.Println("dropped by", reason, lines) })
	fmt.Println("joined", counts.Joined)
	out.Reset()
	runner.Reset()
	// Output:
	// acknowledge up to byte 39 of 71, flush in 3s
	// {job="shop/api", level="info"} "10: level=info one"
	// {job="shop/api", level="error"} "12: level=error three\n  at four"
	// dropped by drop_stage 1
	// joined 1
}
