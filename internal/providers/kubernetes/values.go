package kubernetes

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// longestValue is how long a value may be that is quoted in an error, in bytes.
const longestValue = 80

// goValue is how an API server prints a value that it has no other form for.
var goValue = regexp.MustCompile(`^[\[\]&*.\w]*\{`)

// withoutValues is what a server says, but for the values of fields that are
// more than a word: the whole template of a pod, with everything that is in its
// environment, says less about a mistake than where it is.
func withoutValues(s metav1.Status) string {
	text := s.Message
	if s.Details == nil {
		return text
	}
	for _, c := range s.Details.Causes {
		if short := withoutValue(c.Message); short != c.Message {
			text = strings.ReplaceAll(text, c.Message, short)
		}
	}
	return text
}

// withoutValue cuts `Invalid value: {"a":"b"}: field is immutable` to its end.
func withoutValue(message string) string {
	kind, rest, ok := strings.Cut(message, " value: ")
	if !ok || strings.Contains(kind, " ") {
		return message
	}
	end := 0
	switch quoted, err := strconv.QuotedPrefix(rest); {
	case err == nil && len(quoted) <= longestValue:
		return message
	case err == nil:
		end = len(quoted)
	case strings.HasPrefix(rest, "{"), strings.HasPrefix(rest, "["):
		d := json.NewDecoder(strings.NewReader(rest))
		if d.Decode(new(json.RawMessage)) == nil {
			end = int(d.InputOffset())
		}
	}
	if end == 0 && goValue.MatchString(rest) {
		end = strings.LastIndex(rest, "}") + 1
	}
	if end == 0 {
		return message
	}
	if why := strings.TrimPrefix(rest[end:], ": "); why != "" {
		return why
	}
	return kind + " value"
}
