package expfmt

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// Values read the short way must have the bits that strconv gives, in the middle between two
// floats too.
func TestExactDecimalHasTheBitsOfStrconv(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	short := 0
	check := func(s string) {
		t.Helper()
		want, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, tail := range []string{"", " ", "\n12345678"} {
			v, n, ok := exactDecimal([]byte(s + tail))
			if !ok {
				continue
			}
			short++
			if n != len(s) || math.Float64bits(v) != math.Float64bits(want) {
				t.Errorf("%q reads as %v in %d bytes, want %v in %d", s+tail, v, n, want, len(s))
			}
		}
	}
	for range 20000 {
		f := math.Ldexp(random.Float64()-0.5, random.IntN(120)-60)
		check(strconv.FormatFloat(f, 'g', -1, 64))
		check(strconv.FormatFloat(f, 'f', random.IntN(18), 64))
		digits := strconv.FormatUint(random.Uint64()>>random.IntN(64), 10)
		point := random.IntN(len(digits) + 1)
		check(digits[:point] + "." + digits[point:] + "0")
		check(fmt.Sprintf("%se%d", digits, random.IntN(60)-30))
		// Halfway between two floats: an odd 54-bit number, over a power of two.
		half := 1<<53 | random.Uint64()>>11 | 1
		check(strconv.FormatUint(half, 10))
		check(strconv.FormatUint(half/2, 10) + ".5")
		check(strconv.FormatUint(half/2, 10) + ".5" + strings.Repeat("0", random.IntN(3)) + "1")
	}
	if short < 200000 {
		t.Errorf("only %d of the numbers were read the short way", short)
	}
}

func TestDigitsEndAtTheFirstOtherByte(t *testing.T) {
	for n := range 20 {
		for c := range 256 {
			if isDigit(byte(c)) {
				continue
			}
			in := []byte(strings.Repeat("7", n) + string([]byte{byte(c)}) + "123456789")
			want, _ := strconv.ParseUint("0"+strings.Repeat("7", n), 10, 64)
			if got, end := digits(in, 0, 0); end != n || got != want {
				t.Fatalf("digits of %q are %d up to %d, want %d up to %d", in, got, end, want, n)
			}
		}
	}
}
