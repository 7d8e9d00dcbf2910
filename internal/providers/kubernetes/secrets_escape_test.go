package kubernetes

import (
	"strings"
	"testing"
)

func TestAppendEscaped(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	got := string(appendEscaped(nil, all))
	if strings.ContainsAny(got, ":/?#[]@!$&'()*+,;= \"<>\\^`{|}") || !strings.Contains(got, "-.%2F0123456789") || !strings.Contains(got, "%7F%80") {
		t.Errorf("got %q", got)
	}
}
