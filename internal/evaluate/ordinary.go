package evaluate

import (
	"bytes"

	"forged.dev/forged/schema"
)

// ordinary tells whether the evaluation of src can be watched from within its
// process. What it needs then grows step by step. Functions of CUE's standard
// library, and strings that are multiplied, can ask for any amount of memory
// in one step, or overflow the stack within milliseconds; either ends the
// process before anybody has looked.
//
// It looks at bytes and not at syntax, and so it is quick and cannot be
// misled; what it takes for a multiplication or an import may be a comment,
// and costs a child process.
func ordinary(src schema.Source) bool {
	if len(src.Packages) > 0 {
		return false
	}
	for _, f := range src.Files {
		// The language itself does no harm; forged init writes this import for
		// other tools.
		text := bytes.ReplaceAll(f.Data, []byte(`import "forged.dev/forged/schema/v1"`), nil)
		if bytes.Contains(text, []byte("import")) || multiplies(text) {
			return false
		}
	}
	return true
}

// multiplies tells whether an asterisk stands behind the end of an operand.
// Before a default there is none.
func multiplies(text []byte) bool {
	for i, c := range text {
		if c != '*' {
			continue
		}
		before := bytes.TrimRight(text[:i], " \t\r\n")
		if len(before) == 0 {
			continue
		}
		switch c := before[len(before)-1]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c >= 0x80,
			c == '_', c == '$', c == '#', c == ')', c == ']', c == '}', c == '"', c == '\'':
			return true
		}
	}
	return false
}
