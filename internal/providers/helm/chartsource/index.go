package chartsource

import (
	"bytes"
	"encoding/json"
	"regexp"

	"helm.sh/helm/v3/pkg/repo"
	"sigs.k8s.io/yaml"
)

// readIndex reads the versions of one chart in the index of a repository, and
// tells whether there is any chart in it. What else stands in an index is not
// looked at: one broken entry of another chart is no reason to fail.
func readIndex(text []byte, name string) (versions []*repo.ChartVersion, some bool, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		var index struct {
			Entries map[string]json.RawMessage `json:"entries"`
		}
		if err := json.Unmarshal(text, &index); err != nil {
			return nil, false, err
		}
		if own, ok := index.Entries[name]; ok {
			err = json.Unmarshal(own, &versions)
		}
		return versions, len(index.Entries) > 0, err
	}
	type document struct {
		Entries map[string][]*repo.ChartVersion `json:"entries"`
	}
	var index document
	if own, some, ok := entriesOf(text, name); ok && yaml.Unmarshal(own, &index) == nil {
		return index.Entries[name], some, nil
	}
	index = document{}
	err = yaml.Unmarshal(text, &index)
	return index.Entries[name], len(index.Entries) > 0, err
}

// entryKey is the line that begins the versions of a chart.
var entryKey = regexp.MustCompile(`^ +(?:([\w.-]+)|'([\w.-]+)'|"([\w.-]+)") *: *$`)

// entriesOf cuts the versions of one chart out of an index, as helm writes it.
// Indexes of a thousand charts are common, and the parser of YAML takes thirty
// times the memory of what it reads. It is not ok where lines do not tell what
// belongs to what.
func entriesOf(text []byte, name string) (own []byte, some, ok bool) {
	own = []byte("entries:\n")
	inside, taking, depth := false, false, 0
	for line := range bytes.Lines(text) {
		bare := bytes.TrimRight(line, " \r\n")
		at := len(bare) - len(bytes.TrimLeft(bare, " "))
		switch {
		case at == len(bare), bare[at] == '#':
			if taking {
				own = append(own, line...)
			}
			continue // it may belong to a text of several lines
		case !inside:
			inside = bytes.Equal(bare, []byte("entries:"))
			continue
		case at == 0:
			return own, some, true // the next field
		case depth == 0:
			depth = at
		case at < depth:
			return nil, false, false
		}
		if at == depth && bare[at] != '-' {
			key := entryKey.FindSubmatch(bare)
			if key == nil {
				return nil, false, false
			}
			some = true
			taking = string(bytes.Join(key[1:], nil)) == name
		}
		if taking {
			own = append(own, line...)
		}
	}
	return own, some, inside
}
