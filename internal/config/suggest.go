package config

import "strings"

// Suggest returns the one of known that word was probably meant to be, or "" when none is
// close: the same word in camelCase or with dashes, else one within an edit distance of a
// third of its length. Of equals the first wins.
func Suggest(word string, known []string) string {
	snake := snakeCase(word)
	best, least := "", max(1, len(snake)/3)+1
	for _, k := range known {
		if k == snake {
			return k
		}
		if d := distance(snake, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// snakeCase returns camelCase and dashed-words with underscores, in lower case.
func snakeCase(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '-':
			c = '_'
		case 'A' <= c && c <= 'Z':
			if i > 0 && s[i-1] >= 'a' {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// distance is the number of bytes to insert, remove, replace or swap with the neighbour to
// make b of a (optimal string alignment).
func distance(a, b string) int {
	var prev, row, next []int
	row, next = make([]int, len(b)+1), make([]int, len(b)+1)
	prev = make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(next[j-1]+1, row[j]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], prev[j-2]+1)
			}
		}
		prev, row, next = row, next, prev
	}
	return row[len(b)]
}
