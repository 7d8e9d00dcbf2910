package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Images of backing services by major version. The minor version and the
// Debian release are pinned: a minor version is a restart that somebody should
// see coming, and another Debian sorts text in another way.
var (
	postgresImages = map[string]string{
		"15": "postgres:15.18-bookworm",
		"16": "postgres:16.14-bookworm",
		"17": "postgres:17.10-bookworm",
	}
	redisImages = map[string]string{
		"7": "redis:7.4.9-bookworm",
		"8": "redis:8.2.2-bookworm",
	}
)

func imageFor(images map[string]string, version string) (string, error) {
	if image, ok := images[version]; ok {
		return image, nil
	}
	known := slices.Sorted(maps.Keys(images))
	return "", fmt.Errorf("%q is none of %s", version, strings.Join(known, ", "))
}
