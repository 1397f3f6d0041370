package podlogs

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestTimesAreReadAsTimeParseReadsThem(t *testing.T) {
	for _, s := range []string{
		"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.123456789Z",
		"2026-01-02T03:04:05.1234567891Z", "2026-01-02T03:04:05,5Z", "2026-01-02T03:04:05.Z",
		"2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.5-11:30", "2026-01-02T03:04:05.5+23:59", "2026-01-02T03:04:05.5+24:00",
		"2024-02-29T00:00:00Z", "2026-02-29T00:00:00Z", "1969-12-31T23:59:59.9Z",
		"0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "2262-01-01T00:00:00Z", "1678-01-01T00:00:00Z",
		"2026-01-02T24:00:00Z", "2026-01-02T23:60:00Z", "2026-01-02T23:59:60Z", "2026-1-2T03:04:05Z",
		"2026-01-02 03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T3:04:05Z", "2026-01-02T03:04:05ZZ", "", "x",
		"2026-01-02T03:04:05.5+0:00", "2026-01-02T03:04:05.5+00:0a", "2026-01-02T03:04:05.12345678901234567890Z",
	} {
		var p parser
		sameTime(t, &p, s)
		sameTime(t, &p, s) // with the day cached
	}
}

func sameTime(t *testing.T, p *parser, s string) {
	t.Helper()
	got, ok := p.time([]byte(s))
	want, err := time.Parse(time.RFC3339Nano, s)
	if wantOK := err == nil && inRange(want); ok != wantOK || ok && got != want.UnixNano() {
		t.Errorf("time(%q) = %d, %v, want %v, %v", s, got, ok, want, err)
	}
}

func TestLinesAreTakenApartAsTheKubeletDoes(t *testing.T) {
	f := func(in, want, problem string, stderr, partial bool) {
		t.Helper()
		var p parser
		rec, got := p.cri([]byte(in))
		if got != problem || string(rec.text) != want || rec.stderr != stderr || rec.partial != partial {
			t.Errorf("cri(%q) = %q, stderr %v, partial %v, %q", in, rec.text, rec.stderr, rec.partial, got)
		}
	}
	const at = "2026-01-02T03:04:05.6Z "
	f(at+"stdout F a b ", "a b ", "", false, false)
	f(at+"stderr P a", "a", "", true, true)
	f(at+"stderr P:x a", "a", "", true, true)
	f(at+"stderr F:P a", "a", "", true, false)
	f(at+"stdout PX a", "a", "", false, false) // as the kubelet: any tag but P ends a line
	f(at+"stdout  a", "a", "", false, false)
	f(at+"stdout F ", "", "", false, false)
	f(at+"stdout F", "", "no tag", false, false)
	f(at+"stdout", "", "no stream", false, false)
	f(at+"stdin F x", "", "unknown stream", false, false)
	f("x stdout F x", "", "bad time", false, false)
	f("x", "", "no time", false, false)
	f("", "", "no time", false, false)
}

// FuzzParser holds the fast paths against the plain ones.
func FuzzParser(f *testing.F) {
	f.Add("2026-01-02T03:04:05.123456789Z stdout F text")
	f.Add("2026-01-02T03:04:05.1+02:00 stderr P:x text")
	f.Add("2026-01-02T03:04:05Z stdout F")
	f.Add("2026-01-02T03:04:05,1-00:00  F \xff")
	f.Fuzz(func(t *testing.T, s string) {
		var p parser
		rec, problem := p.cri([]byte(s))
		part := strings.SplitN(s, " ", 4)
		stamp, err := time.Parse(time.RFC3339Nano, part[0])
		good := len(part) == 4 && err == nil && inRange(stamp) && (part[1] == "stdout" || part[1] == "stderr")
		if good != (problem == "") {
			t.Fatalf("cri(%q): %q, want good %v", s, problem, good)
		}
		if !good {
			return
		}
		tag, _, _ := strings.Cut(part[2], ":")
		if rec.t != stamp.UnixNano() || string(rec.text) != part[3] || rec.partial != (tag == "P") || rec.stderr != (part[1] == "stderr") {
			t.Errorf("cri(%q) = %+v", s, rec)
		}
		_, _ = p.docker([]byte(s))
	})
}

// FuzzLines reads the same file in turns of any size and compares the outcome with a plain
// joiner over the whole.
func FuzzLines(f *testing.F) {
	f.Add([]byte("of1 op2 eF3 oF4\n"), uint8(3))
	f.Add([]byte("oPa\noFb\nePc\noFd\neFe\n"), uint8(1))
	f.Add([]byte("oPa\noPb\xc3\noF\xa9\nx\n\x00\x00oFq\n"), uint8(9))
	f.Fuzz(func(t *testing.T, script []byte, step uint8) {
		var content []byte
		for l := range bytes.SplitSeq(script, []byte("\n")) {
			content = append(content, expand(l)...)
		}
		want := plainJoin(content)
		var got []string
		r := &reader{c: &Collector{}, buf: make([]byte, 1<<16)}
		tl := &tail{chain: &chain{format: FormatCRI, piped: true}}
		for end := 0; ; end = min(end+int(step)*7+1, len(content)) {
			n := r.lines(tl, content[tl.off.Load():end])
			tl.off.Add(int64(n))
			for _, e := range r.entries[0] {
				got = append(got, string(e.Line))
			}
			r.entries[0] = r.entries[0][:0]
			r.joined = r.joined[:0]
			if end == len(content) {
				break
			}
		}
		if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
			t.Errorf("lines = %q, want %q", a, b)
		}
		if r.count.read != len(want)+r.count.joined+r.count.malformed+r.count.nulLines+r.pending {
			t.Errorf("counts do not add up: %+v, %d lines, %d pending", r.count, len(want), r.pending)
		}
	})
}

// expand turns oFtext into a line of a container runtime.
func expand(l []byte) []byte {
	if len(l) < 2 {
		return append(l, '\n')
	}
	stream := map[byte]string{'o': "stdout", 'e': "stderr"}[l[0]]
	return []byte("2026-01-02T03:04:05Z " + stream + " " + string(l[1]) + " " + string(l[2:]) + "\n")
}

func plainJoin(content []byte) []string {
	var out []string
	open := map[bool]string{}
	for l := range bytes.SplitSeq(bytes.TrimSuffix(content, []byte("\n")), []byte("\n")) {
		var p parser
		rec, problem := p.cri(bytes.TrimLeft(l, "\x00"))
		switch {
		case problem != "":
		case rec.partial:
			open[rec.stderr] += string(rec.text)
		default:
			out = append(out, strings.ToValidUTF8(open[rec.stderr]+string(rec.text), "\uFFFD"))
			delete(open, rec.stderr)
		}
	}
	return out
}

func TestUsualTimesAreThoseOfTheGeneralParser(t *testing.T) {
	var p, general parser
	try := func(s string) {
		t.Helper()
		ns, ok := p.usual([]byte(s))
		want, valid := general.time([]byte(s))
		if ns != want || ok != valid {
			t.Errorf("usual(%q) = %d, %t, want %d, %t", s, ns, ok, want, valid)
		}
	}
	const s = "2026-01-02T03:04:05.123456789Z"
	try(s)
	for i := range s {
		for c := range 256 {
			b := []byte(s)
			b[i] = byte(c)
			try(string(b))
		}
	}
	for i := range 100_000 {
		try(time.Unix(int64(i)*997, int64(i)*7919%1e9).UTC().Format("2006-01-02T15:04:05.000000000Z"))
	}
}
