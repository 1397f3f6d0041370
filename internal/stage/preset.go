package stage

import (
	"bytes"
	"regexp"
)

// preset tells for a language where a line belongs. open tells that there is a block, mode is
// what the preset returned for its last line.
type preset func(line []byte, mode uint8, open bool) (place, uint8)

// Traces are lines that are empty or indented, and these, which start at the first column and
// go on with what came before.
var (
	javaMore   = regexp.MustCompile(`^(?:Caused by: |Suppressed: |\.\.\. \d+ (?:more|common frames omitted)|(?:[a-zA-Z_$][\w$]*\.)+[\w$]*(?:Exception|Error|Throwable)\b)`)
	dotnetMore = regexp.MustCompile(`^(?:--->|--- End of |(?:[A-Za-z_]\w*\.)+\w*Exception\b)`)
	pythonMore = regexp.MustCompile(`^(?:During handling of the above exception, |The above exception was the direct cause of )`)

	goFirst = regexp.MustCompile(`^(?:panic: |fatal error: |unexpected fault address |SIG[A-Z]+: |goroutine \d+ .*\[.*\]:$)`)
	goMore  = regexp.MustCompile(`^(?:panic: |goroutine \d+ |goroutine running on other thread|created by |\[signal |\[originating |runtime stack:|exit status \d|\.\.\.(?:additional|\d+) frames? elided|[a-z]{1,2}[a-z0-9]{0,5} +0x[0-9a-f]+$|PC=0x|[\w./*()\[\]{}·,~-]+\(.*\)$)`)
)

// newPreset returns the preset of the given name; nil if there is none.
func newPreset(name string) preset {
	switch name {
	case "java":
		return indented(javaMore)
	case "dotnet":
		return indented(dotnetMore)
	case "python":
		return pythonTrace
	case "go":
		return goTrace
	}
	return nil
}

func isIndented(line []byte) bool { return len(line) == 0 || line[0] == ' ' || line[0] == '\t' }

// indented joins indented and empty lines, and those that match.
func indented(also *regexp.Regexp) preset {
	return func(line []byte, _ uint8, _ bool) (place, uint8) {
		if isIndented(line) || also.Match(line) {
			return more, 0
		}
		return first, 0
	}
}

// The modes of pythonTrace.
const (
	plain   uint8 = iota
	inTrace       // after "Traceback", until the line with the exception, which may be anything
	afterTrace
)

// pythonTrace joins the traces of Python to the line before.
func pythonTrace(line []byte, mode uint8, open bool) (place, uint8) {
	switch {
	case bytes.HasPrefix(line, []byte("Traceback (most recent call last):")):
		if !open {
			return first, inTrace
		}
		return more, inTrace
	case isIndented(line):
		return more, mode
	case mode == inTrace, mode == afterTrace && pythonMore.Match(line):
		return more, afterTrace
	}
	return first, plain
}

// goTrace joins the traces of a Go program. Other lines are not held.
func goTrace(line []byte, _ uint8, open bool) (place, uint8) {
	if open && (len(line) == 0 || line[0] == '\t' || goMore.Match(line)) {
		return more, 0
	}
	if len(line) == 0 {
		return singular, 0
	}
	switch line[0] {
	case 'p', 'f', 'u', 'S', 'g':
		if goFirst.Match(line) {
			return first, 0
		}
	}
	if bytes.Contains(line, []byte("http: panic serving ")) {
		return first, 0
	}
	return singular, 0
}
