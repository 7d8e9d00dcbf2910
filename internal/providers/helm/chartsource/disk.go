package chartsource

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
)

// disk keeps archives by what they hold, and which of them a source stood for
// last. Nothing depends on it: what is missing or damaged is fetched again.
type disk struct{ dir string }

// maxKept is how many archives are kept.
const maxKept = 64

// record is what a source stood for last.
type record struct {
	Archive string    `json:"archive"` // SHA-256, hexadecimal
	Version string    `json:"version"`
	Lock    string    `json:"lock"`
	From    string    `json:"from"`
	At      time.Time `json:"at"` // when the source said so
}

var errNoDir = errors.New("no directory to keep charts in")

// path is where something is kept. Who may read a source is not part of its
// name, so that another password finds it.
func (d disk) sourcePath(c forge.ChartSource) string {
	c.Username, c.Password = forge.SecretRef{}, forge.SecretRef{}
	return filepath.Join(d.dir, keyOf(c)+".json")
}

func (d disk) archivePath(sum string) string { return filepath.Join(d.dir, sum+".tgz") }

func (d disk) record(c forge.ChartSource) (record, bool) {
	var r record
	if d.dir == "" {
		return r, false
	}
	text, err := readFile(d.sourcePath(c))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return record{}, false
	}
	return r, r.Archive != "" && filepath.Base(r.Archive) == r.Archive
}

// archive reads an archive that is what its name says.
func (d disk) archive(r record) ([]byte, error) {
	archive, err := readFile(d.archivePath(r.Archive))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(archive); hex.EncodeToString(sum[:]) != r.Archive {
		return nil, errors.New("what was kept is damaged")
	}
	return archive, nil
}

// keep writes down what a source stands for. Without an archive it is the one
// that is kept already.
func (d disk) keep(c forge.ChartSource, r record, archive []byte) error {
	if d.dir == "" {
		return errNoDir
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if archive == nil {
		old, ok := d.record(c)
		if !ok || old.Lock != r.Lock {
			return errors.New("it was not kept before")
		}
		r.Archive = old.Archive
	} else {
		sum := sha256.Sum256(archive)
		r.Archive = hex.EncodeToString(sum[:])
		if err := d.write(d.archivePath(r.Archive), archive); err != nil {
			return err
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := d.write(d.sourcePath(c), text); err != nil {
		return err
	}
	d.prune()
	return nil
}

// write replaces a file as a whole.
func (d disk) write(name string, b []byte) error {
	f, err := os.CreateTemp(d.dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use to anybody
	}
	return err
}

// prune deletes what was written longest ago.
func (d disk) prune() {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return
	}
	type file struct {
		name string
		at   time.Time
	}
	byKind := map[string][]file{}
	for _, e := range entries {
		info, err := e.Info()
		kind := filepath.Ext(e.Name())
		if strings.HasPrefix(e.Name(), ".new-") {
			kind = ".new"
		}
		if err != nil || !slices.Contains([]string{".tgz", ".json", ".new"}, kind) {
			continue
		}
		byKind[kind] = append(byKind[kind], file{filepath.Join(d.dir, e.Name()), info.ModTime()})
	}
	for _, files := range byKind {
		slices.SortFunc(files, func(a, b file) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.name, b.name)) })
		for _, f := range files[min(maxKept, len(files)):] {
			_ = os.Remove(f.name) // it is fetched again if need be
		}
	}
}
