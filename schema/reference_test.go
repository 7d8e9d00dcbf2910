package schema_test

import (
	"testing"

	"forged.dev/forged/schema"
)

func TestReference(t *testing.T) {
	golden(t, "../docs/reference/language.md", []byte(schema.Reference()))
}
