package sops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"filippo.io/age"
)

// Variables that sops looks for age keys in.
const (
	envKey     = "SOPS_AGE_KEY"
	envKeyFile = "SOPS_AGE_KEY_FILE"
	envKeyCmd  = "SOPS_AGE_KEY_CMD"
)

// mostKeys is the most a source of keys may have, in bytes.
const mostKeys = 1 << 20

// Keys finds age keys in the places where sops looks for them.
type Keys struct {
	LookupEnv func(name string) (string, bool)
	Run       func(ctx context.Context, argv []string) ([]byte, error) // for SOPS_AGE_KEY_CMD; nil: not run
}

// Identities reads all keys there are. A place that is named and cannot be
// read is an error; the file of the user may be absent. where says for people
// which places had keys, or were looked at when none had.
func (k Keys) Identities(ctx context.Context) (ids []age.Identity, where string, err error) {
	var found, looked []string
	add := func(place, text string) error {
		looked = append(looked, place)
		more, err := parseKeys(text)
		if err != nil {
			return fmt.Errorf("%s %w", place, err)
		}
		if len(more) > 0 {
			ids, found = append(ids, more...), append(found, place)
		}
		return nil
	}
	if text, ok := k.LookupEnv(envKey); ok {
		if err := add(envKey, strings.Join(strings.Fields(text), "\n")); err != nil {
			return nil, "", err
		}
	}
	if path, ok := k.LookupEnv(envKeyFile); ok {
		text, err := readKeys(path)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", envKeyFile, err)
		}
		if err := add(envKeyFile+" ("+path+")", text); err != nil {
			return nil, "", err
		}
	}
	if line, ok := k.LookupEnv(envKeyCmd); ok && k.Run != nil {
		argv, err := splitCommand(line)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", envKeyCmd, err)
		}
		out, err := k.Run(ctx, argv)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", envKeyCmd, err)
		}
		if err := add(envKeyCmd, string(out)); err != nil {
			return nil, "", err
		}
	}
	if path := k.userFile(); path != "" {
		text, err := readKeys(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			looked = append(looked, path)
		case err != nil:
			return nil, "", err
		default:
			if err := add(path, text); err != nil {
				return nil, "", err
			}
		}
	}
	if len(found) > 0 {
		looked = found
	}
	return ids, strings.Join(looked, ", "), nil
}

// userFile is where sops keeps the keys of the user; empty if that is unknown.
func (k Keys) userFile() string {
	dir := ""
	if runtime.GOOS != "windows" { // on macOS too, before its own place
		dir, _ = k.LookupEnv("XDG_CONFIG_HOME")
	}
	if dir == "" {
		var err error
		if dir, err = os.UserConfigDir(); err != nil {
			return ""
		}
	}
	return filepath.Join(dir, "sops", "age", "keys.txt")
}

func readKeys(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if info.IsDir() {
		return "", fmt.Errorf("%s is a directory", path)
	}
	// A pipe is fine: a shell hands keys over that way.
	text, err := io.ReadAll(io.LimitReader(f, mostKeys))
	return string(text), err
}

// parseKeys reads a key a line. The parser's errors are not passed on: they
// quote what they read.
func parseKeys(text string) ([]age.Identity, error) {
	var keys []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == '#':
		case strings.HasPrefix(line, "AGE-PLUGIN-"):
			return nil, errors.New("has a key of an age plugin, which forged does not run")
		case !strings.HasPrefix(line, "AGE-SECRET-KEY-"):
			return nil, errors.New("has something that is not an age key (AGE-SECRET-KEY-…)")
		default:
			keys = append(keys, line)
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	ids, err := age.ParseIdentities(strings.NewReader(strings.Join(keys, "\n")))
	if err != nil {
		return nil, errors.New("has an age key that is damaged")
	}
	return ids, nil
}

// splitCommand cuts a command line at spaces, as a shell does with quotes and
// backslashes and without anything else that a shell does.
func splitCommand(line string) ([]string, error) {
	var argv []string
	var word strings.Builder
	inWord, escaped, quote := false, false, rune(0)
	for _, r := range line {
		switch {
		case escaped:
			if quote == '"' && r != '"' && r != '\\' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			inWord, escaped = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			inWord, quote = true, r
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				argv, inWord = append(argv, word.String()), false
				word.Reset()
			}
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if escaped || quote != 0 {
		return nil, errors.New("a quote or a backslash has no end")
	}
	if inWord {
		argv = append(argv, word.String())
	}
	if len(argv) == 0 {
		return nil, errors.New("it names no command")
	}
	return argv, nil
}
