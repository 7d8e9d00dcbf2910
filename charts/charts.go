// Package charts holds the Helm charts that forged installs, embedded in the
// binary. It hands them out as files: rendering and installing them is the
// business of the one package that speaks Helm.
package charts

import (
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Charts are pure functions of their values: no clock, no random numbers, no
// look into the cluster. README.md in this directory lists their objects.
//
//go:embed all:app all:postgres all:redis all:temporal
var embedded embed.FS

// File is one file of a chart.
type File struct {
	Name string // slash-separated, relative to the chart: "templates/service.yaml"
	Data []byte
}

// Names returns the names of the charts, sorted.
func Names() []string { return []string{"app", "postgres", "redis", "temporal"} }

// Files returns the files of a chart, sorted by name. The data is the
// caller's own. It fails when there is no chart of that name.
func Files(name string) ([]File, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("chart %q is not one of the embedded ones (%s)", name, strings.Join(Names(), ", "))
	}
	var files []File
	err := fs.WalkDir(embedded, name, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, File{Name: strings.TrimPrefix(path, name+"/"), Data: data})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded chart %q: %w", name, err)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// Digest returns the SHA-256, in hex, over names and contents of a chart's
// files. It is part of what decides whether a release must be rendered anew;
// it is empty when there is no chart of that name.
func Digest(name string) string {
	files, err := Files(name)
	if err != nil {
		return ""
	}
	hash := sha256.New()
	// Lengths keep one file's end apart from the next one's beginning.
	write := func(b []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(b)))
		hash.Write(length[:])
		hash.Write(b)
	}
	for _, file := range files {
		write([]byte(file.Name))
		write(file.Data)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
