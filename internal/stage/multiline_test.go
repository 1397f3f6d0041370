package stage

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// blocks runs one multiline stage over a text and compares the blocks, separated by lines of
// "--" in want.
func blocks(t *testing.T, options, text, want string) {
	t.Helper()
	b := newBench(t, "- multiline: {"+options+"}")
	got := strings.Join(b.all(strings.Split(strings.TrimPrefix(text, "\n"), "\n")...), "\n--\n")
	if want = strings.Trim(want, "\n"); got != want {
		t.Errorf("%s\n--- got\n%s\n--- want\n%s", options, got, want)
	}
	if b.r.held != 0 {
		t.Errorf("%d bytes are held at the end", b.r.held)
	}
}

func TestMultilineJoinsToTheFirstLine(t *testing.T) {
	blocks(t, `firstline: '^\[\d{4}-\d{2}-\d{2} \d{1,2}:\d{2}:\d{2}\]'`, `
early
[2023-01-18 17:41:21] "GET /hello HTTP/1.1" 200 -
[2023-01-18 17:41:25] ERROR in app: Exception on /error [GET]
Traceback (most recent call last):
  File "app.py", line 10, in error
    raise Exception("Sorry, this route always breaks")
Exception: Sorry, this route always breaks
[2023-01-18 17:42:33] "GET /hello HTTP/1.1" 200 -`, `
early
--
[2023-01-18 17:41:21] "GET /hello HTTP/1.1" 200 -
--
[2023-01-18 17:41:25] ERROR in app: Exception on /error [GET]
Traceback (most recent call last):
  File "app.py", line 10, in error
    raise Exception("Sorry, this route always breaks")
Exception: Sorry, this route always breaks
--
[2023-01-18 17:42:33] "GET /hello HTTP/1.1" 200 -`)
	blocks(t, "firstline: ^START, max_lines: 2", "START 1\na\nb\nc\nd\nSTART 2", "START 1\na\n--\nb\nc\n--\nd\n--\nSTART 2")
	blocks(t, "firstline: ^START, max_lines: 1", "START 1\na\nSTART 2", "START 1\n--\na\n--\nSTART 2")
	blocks(t, "firstline: ^START", "START 1\na\n\n\nSTART 2", "START 1\na\n--\nSTART 2")
	blocks(t, "firstline: ^START, trim_newlines: false", "START 1\n\nSTART 2", "START 1\n\n--\nSTART 2")
}

func TestMultilineKeepsTheFirstLinesTimeLabelsAndValues(t *testing.T) {
	b := newBench(t, `
- regex: {expression: '(?P<level>INFO|ERROR)'}
- labels: {level: }
- multiline: {firstline: '^(INFO|ERROR)', max_wait_time: 1s}
- template: {source: out, template: '{{ .level }} of {{ .app }}: {{ .Entry }}'}
- output: {source: out}
`)
	if b.one("ERROR one") != nil {
		t.Fatal("a first line is not held")
	}
	from := b.now
	b.now = b.now.Add(500 * time.Millisecond)
	if b.one("  two") != nil {
		t.Fatal("the second line is not held")
	}
	if seq, due, ok := b.p.Held(); !ok || seq != 1 || !due.Equal(b.now.Add(time.Second)) {
		t.Errorf("Held = %d, %s, %t", seq, due, ok)
	}
	e := b.one("INFO next")
	if e == nil || string(e.Line) != "ERROR of web: ERROR one\n  two" || e.T != from.UnixNano() || e.Labels.Get("level") != "ERROR" || e.Seq != 1 {
		t.Fatalf("block = %+v", e)
	}
	var rest Entry
	if b.p.Flush(&rest, b.now.Add(999*time.Millisecond)) {
		t.Error("a block is flushed too early")
	}
	if !b.p.Flush(&rest, b.now.Add(time.Second)) || string(rest.Line) != "INFO of web: INFO next" || rest.Labels.Get("level") != "INFO" || rest.Seq != 3 {
		t.Errorf("flushed %+v", rest)
	}
	// What comes after the wait is a block of its own, with a time of its own.
	b.now = b.now.Add(time.Minute)
	if b.one("  late") != nil {
		t.Error("a late line is not held")
	}
	if !b.p.Drain(&rest, b.now) || rest.T != b.now.UnixNano() {
		t.Errorf("drained %+v", rest)
	}
	if c := b.r.Counts(func(string, int) {}); c.Joined != 1 {
		t.Errorf("joined %d lines, want 1", c.Joined)
	}
}

func TestHeldLinesKeepWhatStagesRemoved(t *testing.T) {
	b := newBench(t, `
- template: {source: app, template: '{{ if eq .Entry "S plain" }}{{ .Value }}{{ end }}'}
- multiline: {firstline: ^S}
- template: {source: out, template: '{{ .app }}'}
- output: {source: out}
`)
	if got := b.all("S plain", "S removed"); !slices.Equal(got, []string{"web", "<no value>"}) {
		t.Errorf("out = %q", got)
	}
}

func TestHeldTellsTheOldestLineAndTheFirstThatIsDue(t *testing.T) {
	b := newBench(t, "- multiline: {firstline: ^A, max_wait_time: 9s}\n- match: {selector: '{}', stages: [{multiline: {firstline: ^A 2, max_wait_time: 1s}}]}")
	b.one("A 2")
	b.one("A 3") // The second stage holds the first line now, the first stage the second.
	if seq, due, ok := b.p.Held(); !ok || seq != 1 || !due.Equal(b.now.Add(time.Second)) {
		t.Errorf("Held = %d, %s, %t, want line 1, due in a second", seq, due.Sub(b.now), ok)
	}
	b = newBench(t, "- multiline: {firstline: ^A, max_wait_time: 1s}\n- match: {selector: '{}', stages: [{multiline: {firstline: ^A 2, max_wait_time: 9s}}]}")
	b.one("A 2")
	b.one("A 3")
	if seq, due, ok := b.p.Held(); !ok || seq != 1 || !due.Equal(b.now.Add(time.Second)) {
		t.Errorf("Held = %d, %s, %t, want line 1, due in a second", seq, due.Sub(b.now), ok)
	}
}

func TestHeldLinesThatAreDroppedCountAll(t *testing.T) {
	b := newBench(t, "- multiline: {firstline: ^S}\n- drop: {expression: secret}")
	if got := b.all("S a", "secret", "S b"); !slices.Equal(got, []string{"S b"}) {
		t.Errorf("out = %q", got)
	}
	if got := b.dropped()["drop_stage"]; got != 2 {
		t.Errorf("dropped %d lines, want 2", got)
	}
}

func TestBlocksAreBounded(t *testing.T) {
	b := newBench(t, "- multiline: {firstline: ^S, max_lines: 100000}")
	long := "S" + strings.Repeat("x", 10_000)
	lines := []string{long}
	for range 200 {
		lines = append(lines, long[1:])
	}
	total := 0
	for _, block := range b.all(lines...) {
		if len(block) > maxBlock {
			t.Errorf("a block has %d bytes", len(block))
		}
		total += strings.Count(block, "x")
	}
	if total != 201*10_000 {
		t.Errorf("%d bytes came out of %d", total, 201*10_000)
	}
}

func TestRunnersHoldABoundedAmount(t *testing.T) {
	r := compile(t, "- multiline: {firstline: ^S, max_lines: 100000}").NewRunner(Deps{})
	line := []byte("S" + strings.Repeat("x", 200<<10))
	kept := 0
	for range 200 {
		p := r.NewPipeline()
		for range 2 {
			if p.Apply(&Entry{Line: line, Labels: base}, start) == Keep {
				kept++
			}
			r.Reset()
		}
		if r.held > maxHeld {
			t.Fatalf("%d bytes are held", r.held)
		}
	}
	if kept == 0 {
		t.Error("nothing went on early")
	}
}

func TestPresetsJoinStackTraces(t *testing.T) {
	blocks(t, "preset: java", `
2024-01-01 10:00:00 INFO  started
2024-01-01 10:00:01 ERROR request failed
java.lang.IllegalStateException: boom
	at com.acme.Shop.buy(Shop.java:42)
	... 3 common frames omitted
Caused by: java.io.IOException: disk
	at com.acme.Disk.write(Disk.java:7)
	... 23 more
	Suppressed: java.lang.Exception: close
2024-01-01 10:00:02 INFO  on we go
Exception in thread "main" java.lang.RuntimeException: x
	at Main.main(Main.java:1)`, `
2024-01-01 10:00:00 INFO  started
--
2024-01-01 10:00:01 ERROR request failed
java.lang.IllegalStateException: boom
	at com.acme.Shop.buy(Shop.java:42)
	... 3 common frames omitted
Caused by: java.io.IOException: disk
	at com.acme.Disk.write(Disk.java:7)
	... 23 more
	Suppressed: java.lang.Exception: close
--
2024-01-01 10:00:02 INFO  on we go
--
Exception in thread "main" java.lang.RuntimeException: x
	at Main.main(Main.java:1)`)
	blocks(t, "preset: python", `
INFO ready
ERROR:root:failed
Traceback (most recent call last):
  File "a.py", line 2, in f
    g()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 5, in <module>
    raise requests.Timeout("slow")
requests.exceptions.Timeout: slow
INFO next
INFO last`, `
INFO ready
--
ERROR:root:failed
Traceback (most recent call last):
  File "a.py", line 2, in f
    g()
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 5, in <module>
    raise requests.Timeout("slow")
requests.exceptions.Timeout: slow
--
INFO next
--
INFO last`)
	blocks(t, "preset: dotnet", `
info: ready
Unhandled exception. System.InvalidOperationException: outer
 ---> System.Exception: inner
   at Program.A() in /src/Program.cs:line 5
   --- End of inner exception stack trace ---
   at Program.Main()
info: next`, `
info: ready
--
Unhandled exception. System.InvalidOperationException: outer
 ---> System.Exception: inner
   at Program.A() in /src/Program.cs:line 5
   --- End of inner exception stack trace ---
   at Program.Main()
--
info: next`)
	blocks(t, "preset: go", `
serving
panic: runtime error: index out of range [3] with length 2

goroutine 1 [running]:
main.(*shop).buy(0xc000012345, {0x1, 0x2})
	/src/shop.go:42 +0x1d
main.main()
	/src/main.go:7 +0x25
exit status 2
serving again
2024/01/01 10:00:00 http: panic serving 10.0.0.1:5000: boom
goroutine 34 [running]:
net/http.(*conn).serve.func1()
	/usr/local/go/src/net/http/server.go:1868 +0xb9
created by net/http.(*Server).Serve in goroutine 1
	/usr/local/go/src/net/http/server.go:3086 +0x5cb
fine
finer`, `
serving
--
panic: runtime error: index out of range [3] with length 2

goroutine 1 [running]:
main.(*shop).buy(0xc000012345, {0x1, 0x2})
	/src/shop.go:42 +0x1d
main.main()
	/src/main.go:7 +0x25
exit status 2
--
serving again
--
2024/01/01 10:00:00 http: panic serving 10.0.0.1:5000: boom
goroutine 34 [running]:
net/http.(*conn).serve.func1()
	/usr/local/go/src/net/http/server.go:1868 +0xb9
created by net/http.(*Server).Serve in goroutine 1
	/usr/local/go/src/net/http/server.go:3086 +0x5cb
--
fine
--
finer`)
}

func TestGoPresetDoesNotHoldOrdinaryLines(t *testing.T) {
	b := newBench(t, "- multiline: {preset: go}")
	if b.one("ordinary") == nil {
		t.Fatal("an ordinary line is held")
	}
	b.one("panic: x")
	if e := b.one("ordinary"); e == nil || string(e.Line) != "panic: x" {
		t.Fatalf("a line after a trace does not end it: %v", e)
	}
	// It takes nothing in while it waits behind the trace, and is due at once.
	if e := b.one("\tindented"); e == nil || string(e.Line) != "ordinary" {
		t.Fatalf("out came %v, want the ordinary line alone", e)
	}
	var e Entry
	if !b.p.Flush(&e, b.now) || string(e.Line) != "\tindented" {
		t.Errorf("flushed %q, want the last line", e.Line)
	}
}
