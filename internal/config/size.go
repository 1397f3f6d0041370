package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
)

// Duration is a length of time as Prometheus writes it: 30s, 5m, 1h30m, 2d.
type Duration = model.Duration

// Size is a number of bytes, written with a unit (KiB, MiB, GiB, TiB, B) or without. The
// number is whole and not negative. KB, MB, GB and TB mean the same as KiB and so on, as in
// Prometheus, so that a body_size_limit can be pasted and keeps its meaning.
type Size int64

// The binary units, for defaults and limits.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

type sizeUnit struct {
	name string
	size Size
}

// sizeUnits returns the units, large before small.
func sizeUnits() [5]sizeUnit {
	return [...]sizeUnit{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}
}

// ParseSize reads a size. Units are recognised in any case, since nobody means millibytes.
func ParseSize(s string) (Size, error) {
	digits := strings.TrimLeft(s, "0123456789")
	number, unit := s[:len(s)-len(digits)], strings.TrimSpace(digits)
	factor := Size(1)
	known := unit == ""
	for _, u := range sizeUnits() {
		if strings.EqualFold(unit, u.name) || strings.EqualFold(unit, strings.Replace(u.name, "i", "", 1)) {
			factor, known = u.size, true
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !known || n > math.MaxInt64/int64(factor) {
		return 0, fmt.Errorf("must be a size such as 512MiB, 4GiB or 1048576, is %q", s)
	}
	return Size(n) * factor, nil
}

// String returns the size in the largest unit that expresses it exactly.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return "0B"
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
