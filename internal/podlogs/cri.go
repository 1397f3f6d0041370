package podlogs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"time"
)

// record is one physical line taken apart. text points into the line, or for Docker into
// memory of its own.
type record struct {
	t       int64 // nanoseconds since the Unix epoch
	stderr  bool
	partial bool // more parts of the same line of output follow
	text    []byte
}

// stream returns 0 for stdout and 1 for stderr.
func (r *record) stream() int {
	if r.stderr {
		return 1
	}
	return 0
}

// parser takes lines apart. It keeps the last day it has seen, since successive lines
// nearly always share it. The zero value is ready; it is owned by one reader.
type parser struct {
	date string // the first ten bytes of a time, 2006-01-02
	day  int64  // its midnight in UTC, seconds since the Unix epoch

	minute [minuteSize]byte // the first bytes of a time, 2006-01-02T15:04:
	begin  int64            // of that minute in UTC, nanoseconds since the Unix epoch
}

// cri takes apart a line of a container runtime, "time stream tag[:more] text". The verdict
// is that of the kubelet's own reader; problem is empty or says why the line is malformed.
func (p *parser) cri(line []byte) (rec record, problem string) {
	// Nearly all lines look like this, of which everything stands at its place.
	const usual = usualTime
	if len(line) >= usual+len(" stdout F ") && line[usual] == ' ' && line[usual+9] == ' ' && line[usual+8] == 'F' {
		var ok bool
		switch string(line[usual+1 : usual+8]) {
		case "stdout ":
			rec.t, ok = p.usual(line[:usual])
		case "stderr ":
			rec.stderr = true
			rec.t, ok = p.usual(line[:usual])
		}
		if ok {
			rec.text = line[usual+10:]
			return rec, ""
		}
		rec = record{}
	}
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return rec, "no time"
	}
	var ok bool
	if rec.t, ok = p.time(line[:i]); !ok {
		return rec, "bad time"
	}
	line = line[i+1:]
	if i = bytes.IndexByte(line, ' '); i < 0 {
		return rec, "no stream"
	}
	switch string(line[:i]) {
	case "stdout":
	case "stderr":
		rec.stderr = true
	default:
		return rec, "unknown stream"
	}
	line = line[i+1:]
	if i = bytes.IndexByte(line, ' '); i < 0 {
		return rec, "no tag"
	}
	rec.partial = i >= 1 && line[0] == 'P' && (i == 1 || line[1] == ':')
	rec.text = line[i+1:]
	return rec, ""
}

// docker takes apart a line of Docker's json-file driver, which ends the text of a whole
// line with a line feed and that of a part without.
func (p *parser) docker(line []byte) (rec record, problem string) {
	var v struct {
		Log    *string `json:"log"`
		Stream string  `json:"stream"`
		Time   string  `json:"time"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return rec, "bad JSON"
	}
	if v.Log == nil {
		return rec, "no log field"
	}
	t, err := time.Parse(time.RFC3339Nano, v.Time)
	if err != nil || !inRange(t) {
		return rec, "bad time"
	}
	text, whole := bytes.CutSuffix([]byte(*v.Log), []byte{'\n'})
	return record{t: t.UnixNano(), stderr: v.Stream == "stderr", partial: !whole, text: text}, ""
}

// usualTime is the length of the times that runtimes write.
const (
	usualTime  = len("2006-01-02T15:04:05.000000000Z")
	minuteSize = len("2006-01-02T15:04:")
)

// usual is time for what has usualTime bytes. The minute of the last line is nearly always that
// of the next.
func (p *parser) usual(s []byte) (ns int64, ok bool) {
	const fraction = minuteSize + len("05.")
	sec, frac := two(s[minuteSize:]), eight(s[fraction:])
	last := s[fraction+8] - '0'
	if string(s[:minuteSize]) == string(p.minute[:]) && sec <= 59 && s[fraction-1] == '.' && frac >= 0 && last <= 9 && s[usualTime-1] == 'Z' {
		return p.begin + int64(sec)*1e9 + frac*10 + int64(last), true
	}
	if ns, ok = p.time(s); ok && sec <= 59 && s[fraction-1] == '.' && frac >= 0 && last <= 9 && s[usualTime-1] == 'Z' {
		copy(p.minute[:], s)
		p.begin = ns - int64(sec)*1e9 - frac*10 - int64(last)
	}
	return ns, ok
}

// eight reads eight digits, in all lanes of a word at once; -1 if there is anything else.
func eight(s []byte) int64 {
	x := binary.LittleEndian.Uint64(s)
	const high, threes = 0xf0f0f0f0f0f0f0f0, 0x3333333333333333
	if x&high|(x+0x0606060606060606)&high>>4 != threes {
		return -1
	}
	x -= 0x3030303030303030
	x = x*10 + x>>8 // pairs
	const pairs = 0x000000ff000000ff
	return int64((x&pairs*(100+1000000<<32) + x>>16&pairs*(1+10000<<32)) >> 32)
}

// time reads an RFC 3339 time with up to nine digits of fraction. Shapes that are not the
// usual one are left to time.Parse, whose verdict is the kubelet's.
func (p *parser) time(s []byte) (ns int64, ok bool) {
	if len(s) < len("2006-01-02T15:04:05Z") || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return slowTime(s)
	}
	if string(s[:10]) != p.date {
		t, err := time.Parse(time.DateOnly, string(s[:10]))
		if err != nil || t.Year() < 1700 || t.Year() > 2200 {
			return slowTime(s)
		}
		p.date, p.day = string(s[:10]), t.Unix()
	}
	hour, minute, sec := two(s[11:]), two(s[14:]), two(s[17:])
	if hour > 23 || minute > 59 || sec > 59 {
		return slowTime(s)
	}
	frac, i := int64(0), 19
	if s[i] == '.' {
		scale := int64(1e9)
		for i++; i < len(s) && s[i]-'0' < 10 && scale > 1; i++ {
			frac, scale = frac*10+int64(s[i]-'0'), scale/10
		}
		if i == 20 {
			return slowTime(s)
		}
		frac *= scale
	}
	ns = (p.day+int64(hour*3600+minute*60+sec))*1e9 + frac
	zone := s[i:]
	if len(zone) == 1 && zone[0] == 'Z' {
		return ns, true
	}
	if len(zone) != 6 || zone[0] != '+' && zone[0] != '-' || zone[3] != ':' || two(zone[1:]) > 23 || two(zone[4:]) > 59 {
		return slowTime(s)
	}
	east := int64(two(zone[1:])*3600+two(zone[4:])*60) * 1e9
	if zone[0] == '-' {
		east = -east
	}
	return ns - east, true
}

// two reads two digits; anything else yields a number that no field allows.
func two(s []byte) int {
	a, b := s[0]-'0', s[1]-'0'
	if a > 9 || b > 9 {
		return math.MaxInt16
	}
	return int(a)*10 + int(b)
}

func slowTime(s []byte) (ns int64, ok bool) {
	t, err := time.Parse(time.RFC3339Nano, string(s))
	if err != nil || !inRange(t) {
		return 0, false
	}
	return t.UnixNano(), true
}

// inRange tells whether t can be counted in nanoseconds since the Unix epoch.
func inRange(t time.Time) bool { return t.Year() >= 1678 && t.Year() <= 2261 }
