package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"
)

// parseYAML reads the documents of a file. A file that was never encrypted may
// come here, so that nothing of the parser's errors is passed on but the line.
func parseYAML(data []byte) ([]mapping, error) {
	var docs []mapping
	var left budget
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc yaml.Node
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, errors.New("is not YAML" + lineOf(err))
		}
		root := &doc
		if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
			root = root.Content[0]
		}
		var m mapping
		if root.ShortTag() != "!!null" {
			v, err := yamlValue(root, &left, 0)
			if err != nil {
				return nil, err
			}
			var ok bool
			if m, ok = v.(mapping); !ok {
				return nil, errNotMapping
			}
		}
		docs = append(docs, m)
	}
}

func lineOf(err error) string {
	if m := regexp.MustCompile(`line (\d+)`).FindStringSubmatch(err.Error()); m != nil {
		return ": line " + m[1]
	}
	return ""
}

func yamlValue(n *yaml.Node, left *budget, level int) (any, error) {
	if err := left.take(level); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		m := make(mapping, 0, len(n.Content)/2)
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
				return nil, fmt.Errorf("has a key in line %d that is not a text", key.Line)
			}
			if seen[key.Value] {
				return nil, errTwice(key.Value)
			}
			seen[key.Value] = true
			v, err := yamlValue(n.Content[i+1], left, level+1)
			if err != nil {
				return nil, err
			}
			m = append(m, item{key.Value, v})
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := yamlValue(c, left, level+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.AliasNode:
		return yamlValue(n.Alias, left, level+1)
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, fmt.Errorf("has a value in line %d that is not what its tag says", n.Line)
	}
	switch v.(type) {
	case string, int, float64, bool, time.Time, nil:
		return v, nil
	}
	return nil, fmt.Errorf("has a value in line %d of a kind that sops does not have", n.Line)
}

// parseJSON reads one object.
func parseJSON(data []byte) ([]mapping, error) {
	p := jsonParser{dec: json.NewDecoder(bytes.NewReader(data))}
	p.dec.UseNumber()
	v, err := p.value(0)
	if err == nil {
		if _, more := p.dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("has something behind its end")
		}
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		offset := min(p.dec.InputOffset(), int64(len(data)))
		return nil, fmt.Errorf("is not JSON: line %d", 1+bytes.Count(data[:offset], []byte("\n")))
	}
	if err != nil {
		return nil, err
	}
	m, ok := v.(mapping)
	if !ok {
		return nil, errNotMapping
	}
	return []mapping{m}, nil
}

type jsonParser struct {
	dec  *json.Decoder
	left budget
}

func (p *jsonParser) value(level int) (any, error) {
	if err := p.left.take(level); err != nil {
		return nil, err
	}
	t, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return int(i), nil
		}
		f, err := t.Float64()
		if err != nil {
			return nil, errors.New("has a number that is too large")
		}
		return f, nil
	case json.Delim:
		if t == '{' {
			return p.object(level)
		}
		list := []any{}
		for p.dec.More() {
			v, err := p.value(level + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := p.dec.Token()
		return list, err
	}
	return t, nil // string, bool, nil
}

func (p *jsonParser) object(level int) (any, error) {
	m := mapping{}
	seen := map[string]bool{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := t.(string) // the decoder lets nothing else stand here
		if seen[key] {
			return nil, errTwice(key)
		}
		seen[key] = true
		v, err := p.value(level + 1)
		if err != nil {
			return nil, err
		}
		m = append(m, item{key, v})
	}
	_, err := p.dec.Token()
	return m, err
}
