package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"

	"forged.dev/forged/internal/forge"
)

// columns is the width all text for people keeps to.
const columns = 100

// colored tells whether w wants colours: a terminal, unless NO_COLOR says no.
func colored(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isatty.IsTerminal(f.Fd())
}

type color string

const (
	plain  color = ""
	bold   color = "\x1b[1m"
	dim    color = "\x1b[2m"
	red    color = "\x1b[31m"
	green  color = "\x1b[32m"
	yellow color = "\x1b[33m"
	cyan   color = "\x1b[36m"
)

// printer writes text for people and remembers the first error.
type printer struct {
	w     io.Writer
	color bool
	err   error
	saved []string // clusters whose kubeconfig a person has to fetch, and is yet to be told so
}

func newPrinter(w io.Writer) *printer { return &printer{w: w, color: colored(w)} }

func (p *printer) line(c color, s string) {
	if p.err != nil {
		return
	}
	_, p.err = fmt.Fprintln(p.w, p.paint(c, s))
}

func (p *printer) paint(c color, s string) string {
	if !p.color || c == plain || s == "" {
		return s
	}
	return string(c) + s + "\x1b[0m"
}

// wrapped writes text after first, broken between words; what follows the
// first line stands below its beginning.
func (p *printer) wrapped(c color, first, text string) {
	p.notice(text)
	indent := strings.Repeat(" ", width(first))
	for i, l := range wrap(text, columns-width(first)) {
		if i == 0 {
			p.line(c, first+l)
		} else {
			p.line(c, indent+l)
		}
	}
}

// notice keeps in mind which clusters of Fly Kubernetes a text tells to speak to.
func (p *printer) notice(text string) {
	for _, word := range strings.Fields(text) {
		name, ok := strings.CutSuffix(word, forge.SavedKubeconfig)
		if ok && !slices.Contains(p.saved, name) && !strings.Contains(text, forge.SaveKubeconfig+name) {
			p.saved = append(p.saved, name)
		}
	}
}

// whence says, once, where the kubeconfigs come from that commands above name.
func (p *printer) whence() {
	for _, name := range p.saved {
		p.wrapped(cyan, "  hint: ", name+forge.SavedKubeconfig+" is written by: "+forge.SaveKubeconfig+name)
	}
	p.saved = nil
}

// wrap breaks text into lines of at most n characters, inside a word only
// when the word alone is longer, and there between parts of a path if it can.
func wrap(text string, n int) []string {
	var lines []string
	for _, paragraph := range strings.Split(text, "\n") {
		line := ""
		for _, word := range strings.Fields(paragraph) {
			if line != "" && width(line)+1+width(word) > n {
				lines, line = append(lines, line), ""
			}
			for width(word) > n {
				head, rest := cut(word, n)
				if i := strings.LastIndexAny(head, "./,[@"); i > len(head)/2 {
					head, rest = word[:i], word[i:]
				}
				lines, word = append(lines, head), rest
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		lines = append(lines, line)
	}
	return lines
}

// wrapWhole breaks text into lines of at most n characters, or of one word.
func wrapWhole(text string, n int) []string {
	var lines []string
	for _, word := range strings.Fields(text) {
		if last := len(lines) - 1; last >= 0 && width(lines[last])+1+width(word) <= n {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	if len(lines) == 0 {
		lines = []string{""}
	}
	return lines
}

func width(s string) int { return utf8.RuneCountInString(s) }

// cut splits s after n characters.
func cut(s string, n int) (head, rest string) {
	for i := range s {
		if n == 0 {
			return s[:i], s[i:]
		}
		n--
	}
	return s, ""
}

// fit shortens s to n characters.
func fit(s string, n int) string {
	if width(s) <= n {
		return s
	}
	head, _ := cut(s, n-1)
	return head + "…"
}

// table writes rows in columns; flex is the column that is broken into lines
// when a row would be too wide. paint may colour a cell by its row and column.
func (p *printer) table(rows [][]string, flex int, paint func(row, col int) color) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], width(cell))
		}
	}
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	if total > columns {
		widths[flex] = max(widths[flex]-(total-columns), 20)
	}
	// A word at the end of a line may stand out: a host name in two parts cannot
	// be copied.
	breaks := wrap
	if flex == len(widths)-1 {
		breaks = wrapWhole
	}
	for r, row := range rows {
		for n, part := range breaks(row[flex], widths[flex]) {
			var b strings.Builder
			for i, cell := range row {
				switch {
				case i == flex:
					cell = part
				case n > 0:
					cell = ""
				}
				b.WriteString(p.paint(paint(r, i), cell))
				b.WriteString(strings.Repeat(" ", max(0, widths[i]-width(cell))+2))
			}
			p.line(plain, strings.TrimRight(b.String(), " "))
		}
	}
}

// age is how long ago t was, short.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := now.Sub(t); {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
