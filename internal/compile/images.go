package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Images of backing services by version. The minor version and the Debian
// release are pinned: a minor version is a restart that somebody should see
// coming, and another Debian sorts text in another way.
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
	temporalImages = map[string]string{
		"1.29.0": "temporalio/server:1.29.0",
	}
	// What sets up a server of the version.
	temporalToolsImages = map[string]string{
		"1.29.0": "temporalio/admin-tools:1.29.0-tctl-1.18.4-cli-1.4.2",
	}
)

const temporalWebImage = "temporalio/ui:2.34.0"

// imageFor is the image of a version; whether there is one has been checked.
func imageFor(images map[string]string, version string) (string, error) {
	if image, ok := images[version]; ok {
		return image, nil
	}
	return "", fmt.Errorf("%q is none of %s", version, strings.Join(slices.Sorted(maps.Keys(images)), ", "))
}
