package expfmt

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/value"
)

// number reads the number that ends before one of the given bytes. Digits with at most 15
// significant places and a small exponent, which nearly all values are, need one exact
// division; strconv has the rest, so that every value has the bits that Prometheus gives it.
func (p *Parser) number(ends string) (float64, error) {
	if v, n, ok := exactDecimal(p.b[p.i:]); ok {
		p.i += n
		return v, nil
	}
	token := p.b[p.i:]
	for i, c := range token {
		if strings.IndexByte(ends, c) >= 0 {
			token = token[:i]
			break
		}
	}
	if len(token) == 0 {
		return 0, p.expected("a value")
	}
	if bytes.ContainsAny(token, "pP_") { // Go has number formats that the exposition has not.
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
	p.i += len(token)
	return v, nil
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
// of b. ok is false for anything that it cannot give exactly: a product or quotient of two
// integers that floats hold exactly is rounded correctly, so the bits are those of strconv.
func exactDecimal(b []byte) (v float64, n int, ok bool) {
	i, negative := 0, false
	if i < len(b) && b[i] == '-' {
		negative = true
		i++
	}
	var mantissa uint64
	digits, exponent := 0, 0
	for ; i < len(b) && isDigit(b[i]); i++ {
		mantissa = mantissa*10 + uint64(b[i]-'0')
		digits++
	}
	if i < len(b) && b[i] == '.' {
		point := i + 1
		for i++; i < len(b) && isDigit(b[i]); i++ {
			mantissa = mantissa*10 + uint64(b[i]-'0')
			digits++
		}
		exponent = point - i
	}
	if digits == 0 || digits > 19 || mantissa >= 1<<53 {
		return 0, 0, false
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		e, used, ok := smallExponent(b[i+1:])
		if !ok {
			return 0, 0, false
		}
		exponent += e
		i += 1 + used
	}
	if i < len(b) && !isBlank(b[i]) && b[i] != '\n' {
		return 0, 0, false
	}
	v = float64(mantissa)
	switch {
	case exponent < -22 || exponent > 22:
		return 0, 0, false
	case exponent < 0:
		v /= pow10(-exponent)
	case exponent > 0:
		v *= pow10(exponent)
	}
	if negative {
		v = -v
	}
	return v, i, true
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
