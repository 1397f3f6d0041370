package stage

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // so that location works in an image without files

	"github.com/ingot-telemetry/ingot/internal/config"
)

// The values of action_on_failure and action_on_duplicate_timestamp.
const (
	fudge = "fudge"
	skip  = "skip"
	stay  = "keep"
)

// TimestampConfig is the options of the stage timestamp.
type TimestampConfig struct {
	// Source is the extracted value that has the time.
	Source string `yaml:"source"`
	// Format is how it is written: ANSIC, UnixDate, RubyDate, RFC822, RFC822Z, RFC850,
	// RFC1123, RFC1123Z, RFC3339, RFC3339Nano, Unix, UnixMs, UnixUs, UnixNs, or a layout of
	// Go's package time. A layout without a year means the year that is nearest.
	Format string `yaml:"format"`
	// FallbackFormats are tried in order if Format does not fit.
	FallbackFormats []string `yaml:"fallback_formats,omitempty"`
	// Location is the time zone of layouts that have none, by its IANA name. Default UTC.
	Location *string `yaml:"location,omitempty"`
	// ActionOnFailure is what happens to a line without a time: fudge gives it that of the
	// last line plus a nanosecond, skip leaves the time at which it was written or read.
	// Default fudge.
	ActionOnFailure string `yaml:"action_on_failure,omitempty"`
	// ActionOnDuplicateTimestamp is what happens to a line with the same time as the one
	// before: fudge adds a nanosecond, as Alloy does, keep does nothing. Default keep, as in
	// promtail: a line that is sent again after a crash then has the same time, by which Loki
	// knows it.
	ActionOnDuplicateTimestamp string `yaml:"action_on_duplicate_timestamp,omitempty"`
}

func (x *TimestampConfig) defaults() {
	x.ActionOnFailure, x.ActionOnDuplicateTimestamp = fudge, stay
}

// UnmarshalYAML decodes onto the defaults.
func (x *TimestampConfig) UnmarshalYAML(unmarshal func(any) error) error {
	type plain TimestampConfig
	x.defaults()
	return unmarshal((*plain)(x))
}

type timestampStep struct {
	slot       int
	layouts    []layout
	loc        *time.Location
	fudge      bool // lines without a time
	duplicates bool // lines with the same time
	state      int
}

// lastTime is what a timestamp stage remembers of a pipeline.
type lastTime struct {
	parsed, given int64 // as it was in the line, and what the line got
	known         bool
}

func (x *TimestampConfig) compile(c *compiler, at string) {
	s := &timestampStep{slot: c.required(at, x.Source), loc: time.UTC, state: c.prog.times}
	c.prog.times++
	if x.Format == "" {
		c.fault(config.Key(at, "format"), "must be a format such as RFC3339Nano, UnixMs or 2006-01-02 15:04:05")
	}
	s.layouts = append(s.layouts, newLayout(x.Format))
	for _, f := range x.FallbackFormats {
		s.layouts = append(s.layouts, newLayout(f))
	}
	if x.Location != nil {
		loc, err := time.LoadLocation(*x.Location)
		if err != nil {
			c.fault(config.Key(at, "location"), "must be the IANA name of a time zone, such as Europe/Berlin, is %q", *x.Location)
		}
		s.loc = loc
	}
	s.fudge = c.oneOf(config.Key(at, "action_on_failure"), x.ActionOnFailure, fudge, skip)
	s.duplicates = c.oneOf(config.Key(at, "action_on_duplicate_timestamp"), x.ActionOnDuplicateTimestamp, fudge, stay)
	c.add(s)
}

// oneOf tells whether value is the first of two.
func (c *compiler) oneOf(at, value, first, second string) bool {
	if value != first && value != second {
		c.fault(at, "must be %s or %s, is %q", first, second, value)
	}
	return value == first
}

func (s *timestampStep) run(r *Runner, p *Pipeline) outcome {
	var last *lastTime
	if s.fudge || s.duplicates {
		if p.times == nil {
			p.times = make([]lastTime, r.prog.times)
		}
		last = &p.times[s.state]
	}
	text, ok := r.text(s.slot)
	t := int64(0)
	if ok {
		t, ok = s.parse(text, r.now)
	}
	switch {
	case !ok && s.fudge && last.known:
		last.given++
		r.t = last.given
	case !ok:
	case s.duplicates && last.known && last.parsed == t:
		last.given++
		r.t = last.given
	default:
		r.t = t
		if last != nil {
			*last = lastTime{t, t, true}
		}
	}
	return next
}

func (s *timestampStep) parse(text []byte, now time.Time) (t int64, ok bool) {
	for i := range s.layouts {
		if t, ok = s.layouts[i].parse(text, s.loc, now); ok {
			return t, true
		}
	}
	return 0, false
}

// layout is one way in which times are written.
type layout struct {
	unit     int64  // nanoseconds of a number's unit; 0 where it is no number
	fraction bool   // the number may have a fraction
	rfc3339  bool   // may be read by parseRFC3339
	text     string // for the package time
	yearless bool
}

func newLayout(format string) layout {
	switch format {
	case "Unix":
		return layout{unit: int64(time.Second), fraction: true}
	case "UnixMs":
		return layout{unit: int64(time.Millisecond)}
	case "UnixUs":
		return layout{unit: int64(time.Microsecond)}
	case "UnixNs":
		return layout{unit: 1}
	case "RFC3339", "RFC3339Nano", time.RFC3339, time.RFC3339Nano:
		// Reading, Go takes a fraction where the layout has none.
		return layout{rfc3339: true, text: time.RFC3339Nano}
	}
	for name, text := range map[string]string{
		"ANSIC": time.ANSIC, "UnixDate": time.UnixDate, "RubyDate": time.RubyDate,
		"RFC822": time.RFC822, "RFC822Z": time.RFC822Z, "RFC850": time.RFC850,
		"RFC1123": time.RFC1123, "RFC1123Z": time.RFC1123Z,
	} {
		if name == format {
			return layout{text: text}
		}
	}
	return layout{text: format, yearless: !strings.Contains(format, "06")}
}

func (l *layout) parse(text []byte, loc *time.Location, now time.Time) (int64, bool) {
	if l.unit > 0 {
		return l.number(text)
	}
	if l.rfc3339 {
		return parseRFC3339(text)
	}
	t, err := time.ParseInLocation(l.text, string(text), loc)
	if err == nil && l.yearless {
		t, err = nearestYear(t, now)
	}
	if err != nil || t.Year() < 1678 || t.Year() > 2261 {
		return 0, false
	}
	return t.UnixNano(), true
}

var errHasYear = errors.New("the time has a year although its layout has none")

// nearestYear gives t, which has none, the year in which it is nearest to now: in January a
// December is last year's, and the other way round.
func nearestYear(t, now time.Time) (time.Time, error) {
	if t.Year() != 0 {
		return t, errHasYear
	}
	year := now.Year()
	switch {
	case t.Month() == time.December && now.Month() == time.January:
		year--
	case t.Month() == time.January && now.Month() == time.December:
		year++
	}
	return time.Date(year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location()), nil
}

// number reads a count of units since the Unix epoch.
func (l *layout) number(text []byte) (int64, bool) {
	whole, frac := text, []byte(nil)
	if l.fraction {
		for i, c := range text {
			if c == '.' {
				if whole, frac = text[:i], text[i+1:]; len(frac) == 0 {
					return 0, false
				}
				break
			}
		}
	}
	n, err := strconv.ParseInt(string(whole), 10, 64)
	if err != nil || n > math.MaxInt64/l.unit-1 || n < math.MinInt64/l.unit+1 {
		return 0, false
	}
	n *= l.unit
	scale := l.unit / 10
	for _, c := range frac {
		if c < '0' || c > '9' {
			return 0, false
		}
		n += int64(c-'0') * scale
		scale /= 10
	}
	return n, true
}

// parseRFC3339 reads a time without allocating where it is written as it should be.
func parseRFC3339(text []byte) (int64, bool) {
	var t time.Time
	if len(text) == 0 {
		return 0, false
	}
	if t.UnmarshalText(text) != nil {
		var err error
		if t, err = time.Parse(time.RFC3339Nano, string(text)); err != nil {
			return 0, false
		}
	}
	if t.Year() < 1678 || t.Year() > 2261 {
		return 0, false
	}
	return t.UnixNano(), true
}
