package expfmt

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"strconv"

	"github.com/prometheus/prometheus/model/value"
)

// number reads the number of a sample, which ends before a blank, in the text format before
// an opening brace too. Plain ones take the short way, strconv has the rest, so that every
// value has the bits that Prometheus gives it.
func (p *Parser) number() (float64, error) {
	b := p.b[p.i:]
	if v, n, ok := exactDecimal(b); ok {
		p.i += n
		return v, nil
	}
	n := 0
	foreign := false // Go has number formats that the exposition has not.
	for n < len(b) && !p.endsNumber(b[n]) {
		foreign = foreign || b[n]|0x20 == 'p' || b[n] == '_'
		n++
	}
	token := b[:n]
	switch {
	case n == 0:
		return 0, p.expected("a value")
	case string(token) == "NaN":
		p.i += n
		return math.Float64frombits(value.NormalNaN), nil
	case foreign:
		return 0, p.expected("a number as value")
	}
	v, err := strconv.ParseFloat(string(token), 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, p.fail(p.i, "value %s is too large for a 64-bit float", quote(token))
	}
	if err != nil {
		return 0, p.expected("a number as value")
	}
	if math.IsNaN(v) {
		v = math.Float64frombits(value.NormalNaN)
	}
	p.i += n
	return v, nil
}

func (p *Parser) endsNumber(c byte) bool {
	return c == ' ' || c == '\n' || c == 0 || p.format != OpenMetrics100 && (c == '\t' || c == '{')
}

// timestamp reads the timestamp of a sample, which must be the last thing on its line.
func (p *Parser) timestamp() error {
	from := p.i
	var t uint64
	for p.i < len(p.b) && isDigit(p.b[p.i]) {
		d := uint64(p.b[p.i] - '0')
		if t > (math.MaxInt64-d)/10 {
			return p.expectedAt(from, "a timestamp of at most 63 bits")
		}
		t = t*10 + d
		p.i++
	}
	if p.i == from {
		return p.expected("a timestamp in milliseconds or the end of the line")
	}
	p.skipBlanks()
	if p.peek() != '\n' {
		return p.expected("the end of the line after the timestamp")
	}
	p.time, p.hasTime = int64(t), true
	return nil
}

func (p *Parser) expectedAt(at int, what string) error {
	p.i = at
	return p.expected(what)
}

// exactDecimal reads a number such as -12.5e3 that ends in a blank, a line end or the end
// of b. ok is false for anything that it cannot round correctly in a few steps, and so to the
// bits of strconv.
func exactDecimal(b []byte) (v float64, n int, ok bool) {
	from := 0
	if len(b) > 0 && b[0] == '-' {
		from = 1
	}
	mantissa, i := digits(b, from, 0)
	count, exponent := i-from, 0
	if i < len(b) && b[i] == '.' {
		point := i + 1
		mantissa, i = digits(b, point, mantissa)
		exponent = point - i
		count -= exponent
	}
	if count == 0 || count > 19 {
		return 0, 0, false
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		e, used, small := smallExponent(b[i+1:])
		if !small {
			return 0, 0, false
		}
		exponent += e
		i += 1 + used
	}
	if i < len(b) && !isBlank(b[i]) && b[i] != '\n' {
		return 0, 0, false
	}
	if v, ok = scaled(mantissa, exponent); !ok {
		return 0, 0, false
	}
	if from == 1 {
		v = -v
	}
	return v, i, true
}

// scaled returns m*10^e, correctly rounded, unless that takes more than an operation on
// numbers that are exact.
func scaled(m uint64, e int) (v float64, ok bool) {
	const exact = 1 << 53 // Floats hold all integers up to here.
	switch v = float64(m); {
	case e == 0:
		return v, true
	case m <= exact && e > 0 && e <= 22:
		return v * pow10(e), true
	case m <= exact && e < 0 && e >= -22:
		return v / pow10(-e), true
	case e < 0 && e >= -19:
		return quotient(m, -e), true
	}
	return 0, false
}

// quotient returns m/10^e for an m that is not 0 and an e from 1 to 19. Of the quotient of
// both, shifted as far to the left as they go, it has more bits than a float can hold, the
// last of which stands for the rest, so that the conversion rounds it correctly.
func quotient(m uint64, e int) float64 {
	d := power(e)
	left, under := bits.LeadingZeros64(m), bits.LeadingZeros64(d)
	m <<= left
	q, rest := bits.Div64(m>>1, m<<63, d<<under)
	if rest != 0 {
		q |= 1
	}
	const bias, mantissaBits = 1023, 52
	return float64(q) * math.Float64frombits(uint64(bias-63+under-left)<<mantissaBits)
}

// digits reads the digits at b[i:] behind those of m and returns both as a number, and where
// they end. Beyond 19 digits the number is wrong. It takes eight bytes at a time.
func digits(b []byte, i int, m uint64) (number uint64, end int) {
	const (
		each   = 0x0101010101010101
		even   = 0x000000ff000000ff
		upper  = 1000000<<32 + 100 // Weights of the first and third of four pairs of digits,
		lower  = 10000<<32 + 1     // and of the second and fourth.
		eights = 8
	)
	for len(b)-i >= eights {
		x := binary.LittleEndian.Uint64(b[i:]) ^ '0'*each
		foreign := (x&(0x7f*each) + 0x76*each | x) & (0x80 * each) // Bytes above 9.
		n := bits.TrailingZeros64(foreign) / eights
		x <<= uint(64 - eights*n) // Zeros before n digits.
		x = x*10 + x>>8
		x = (x&even*upper + x>>16&even*lower) >> 32
		m = m*power(n) + x
		i += n
		if n < eights {
			return m, i
		}
	}
	for ; i < len(b) && isDigit(b[i]); i++ {
		m = m*10 + uint64(b[i]-'0')
	}
	return m, i
}

// smallExponent reads a sign and one or two digits.
func smallExponent(b []byte) (e, n int, ok bool) {
	negative := false
	if n < len(b) && (b[n] == '+' || b[n] == '-') {
		negative = b[n] == '-'
		n++
	}
	from := n
	for ; n < len(b) && isDigit(b[n]); n++ {
		if n-from == 2 {
			return 0, 0, false
		}
		e = e*10 + int(b[n]-'0')
	}
	if negative {
		e = -e
	}
	return e, n, n > from
}

// pow10 returns 10^n for n from 0 to 22, the powers that a float holds exactly.
func pow10(n int) float64 {
	return [...]float64{
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
	}[n]
}

// power returns 10^n for n from 0 to 19.
func power(n int) uint64 {
	return [...]uint64{
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9,
		1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
	}[n]
}
