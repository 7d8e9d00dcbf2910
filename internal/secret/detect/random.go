package detect

import (
	"fmt"
	"iter"
	"math"
	"strings"
)

// word is a part of a value that could be a key by itself.
type word string

// words are the parts of a value that are looked at for randomness. What is
// known to be public, however random, is left out: digests, UUIDs, public keys
// and certificates, and what stands in the path of an address.
func words(value string) iter.Seq[word] {
	return func(yield func(word) bool) {
		if len(value) < leastMixed || strings.Contains(value, "-----BEGIN ") || strings.HasPrefix(value, "ssh-") || strings.HasPrefix(value, "ecdsa-sha2-") {
			return
		}
		for field := range fields(value) {
			if len(field) < leastMixed || strings.Contains(field, "://") || isPlaceholder(field) {
				continue
			}
			before := ""
			for part := range strings.FieldsFuncSeq(field, func(r rune) bool { return strings.ContainsRune(":@!*%#", r) }) {
				digest := isAlgorithm(before) // sha256:…
				before = part
				if digest {
					continue
				}
				// In base64 the sign = is padding, elsewhere it divides.
				for s := range strings.SplitSeq(strings.TrimRight(part, "="), "=") {
					if len(s) >= leastMixed && !isPublic(s) && !yield(word(s)) {
						return
					}
				}
			}
		}
	}
}

func isAlgorithm(s string) bool {
	switch strings.ToLower(s) {
	case "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake3", "h1":
		return true
	}
	return false
}

func isPublic(s string) bool {
	if algorithm, _, ok := strings.Cut(s, "-"); ok && isAlgorithm(algorithm) {
		return true // sha384-…, as browsers have it
	}
	for _, prefix := range [...]string{"pk_live_", "pk_test_", "age1", "/", "./", "../", "~/", pemInBase64} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	for rest := s; len(rest) >= 36; rest = rest[1:] {
		if isUUID(rest[:36]) {
			return true
		}
	}
	return false
}

func isUUID(s string) bool {
	for i := range len(s) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (s[i] == '-') || !dash && !isHex(s[i]) {
			return false
		}
	}
	return true
}

// Lengths from which on randomness is a sign of a secret.
const (
	leastMixed = 20 // signs of three kinds
	leastRun   = 16 // of these, without a sign that divides: "price_" stands before what is no secret
	leastLower = 24 // lower case letters and digits
	leastHex   = 48 // more than a git commit, which says nothing
	keyHex     = 32 // where the name promises a key
)

// random tells whether a word is random. key is set where the name of the
// value promises a key, which is enough to believe it of 32 hex digits.
func (w word) random(key bool) (string, bool) {
	s := string(w)
	if len(s) < leastMixed || span(s, isBase64) < len(s) {
		return "", false
	}
	what := func(of string) (string, bool) {
		return fmt.Sprintf("a random text of %d %s", len(s), of), true
	}
	if span(s, isHex) == len(s) {
		least := leastHex
		if key {
			least = keyHex
		}
		if len(s) >= least && distinct(s) >= 10 && strings.ContainsAny(s, "abcdefABCDEF") {
			return what("hex digits")
		}
		return "", false
	}
	// In a random text these signs are rare; in names they divide words.
	divisions := strings.Count(s, "-") + strings.Count(s, "_") + strings.Count(s, "/")
	if divisions*8 > len(s) {
		return "", false
	}
	run := longestRun(s)
	if run >= leastRun && mixed(s) || run >= leastLower && lowerMixed(s) {
		return what("signs")
	}
	return "", false
}

// longestRun is the length of the longest part without a sign that divides.
func longestRun(s string) int {
	longest := 0
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '-' || r == '_' || r == '/' }) {
		longest = max(longest, len(part))
	}
	return longest
}

func isBase64(b byte) bool { return isWord(b) || b == '+' || b == '/' }

// mixed tells whether upper case, lower case and digits follow each other
// without any order, as they do in random base64.
func mixed(s string) bool {
	upper, lower, digit, changes := census(s)
	if upper == 0 || lower == 0 || digit == 0 {
		return false
	}
	// Of two neighbours in random letters and digits 62 % are of different
	// kinds, and those of lower case come 1.7 in a row. In words written
	// together it is about a third, and 3 or more.
	return changes*100 >= 42*(len(s)-1) && 10*lower <= 28*lowerRuns(s) && entropy(s) >= least(len(s))
}

// lowerRuns counts the rows of lower case letters.
func lowerRuns(s string) int {
	n := 0
	for i := range len(s) {
		if isLower(s[i]) && (i == 0 || !isLower(s[i-1])) {
			n++
		}
	}
	return n
}

// lowerMixed is mixed for random texts of lower case letters and digits.
func lowerMixed(s string) bool {
	upper, lower, digit, changes := census(s)
	return upper == 0 && digit*8 >= len(s) && lower*4 >= len(s) &&
		changes*100 >= 28*(len(s)-1) && entropy(s) >= least(len(s))
}

// census counts the kinds of signs and how often the kind changes.
func census(s string) (upper, lower, digit, changes int) {
	kind := func(b byte) int {
		switch {
		case isUpper(b):
			upper++
			return 1
		case isLower(b):
			lower++
			return 2
		case isDigit(b):
			digit++
			return 3
		}
		return 0
	}
	last := 0
	for i := range len(s) {
		k := kind(s[i])
		if i > 0 && k != last {
			changes++
		}
		last = k
	}
	return upper, lower, digit, changes
}

// least is the entropy in bits a sign that a random text of a length has at
// the least, but for one in a hundred. Short ones cannot have much.
func least(n int) float64 {
	switch {
	case n < 24:
		return 3.6
	case n < 32:
		return 3.8
	case n < 40:
		return 4.0
	}
	return 4.2
}

// entropy is Shannon's, in bits a byte.
func entropy(s string) float64 {
	var count [256]int
	for i := range len(s) {
		count[s[i]]++
	}
	h, n := 0.0, float64(len(s))
	for _, c := range count {
		if c > 0 {
			p := float64(c) / n
			h -= p * math.Log2(p)
		}
	}
	return h
}
