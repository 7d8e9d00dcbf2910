package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"forged.dev/forged/schema"
)

type (
	junitReport struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string       `xml:"name,attr"`
		Class   string       `xml:"classname,attr"`
		File    string       `xml:"file,attr,omitempty"`
		Line    int          `xml:"line,attr,omitempty"`
		Error   *junitDetail `xml:"error"`
		Failure *junitDetail `xml:"failure"`
		Out     string       `xml:"system-out,omitempty"`
	}
	junitDetail struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

// junit writes the report as test results: a suite for each forge, with a case
// for each rule that is broken. Warnings do not fail, unless Strict says so.
func (r Report) junit(w io.Writer) error {
	all := junitReport{Name: "forged validate"}
	for _, f := range r.Forges {
		s := junitSuite{Name: f.File, Cases: r.junitCases(f)}
		s.Tests = len(s.Cases)
		for _, c := range s.Cases {
			if c.Failure != nil {
				s.Failures++
			}
			if c.Error != nil {
				s.Errors++
			}
		}
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (r Report) junitCases(f Forge) []junitCase {
	var cases []junitCase
	at := map[string]int{}
	for _, d := range f.Diagnostics {
		name := strings.TrimSpace(d.Rule + " " + d.Name)
		i, ok := at[name]
		if !ok {
			i, at[name] = len(cases), len(cases)
			cases = append(cases, junitCase{Name: name, Class: f.File, File: d.File, Line: d.Line})
		}
		text := d.String() + "\n"
		if d.Hint != "" {
			text += "  hint: " + d.Hint + "\n"
		}
		c := &cases[i]
		switch {
		case d.Severity == schema.SeverityWarning && !r.Strict:
			c.Out += text
		case c.Failure == nil:
			c.Failure = &junitDetail{Message: d.Text(), Type: d.Rule, Text: text}
		default:
			c.Failure.Text += text
		}
	}
	if f.Err != nil {
		cases = append(cases, junitCase{Name: "judge", Class: f.File, Error: &junitDetail{Message: f.Err.Error()}})
	}
	if len(cases) == 0 {
		return []junitCase{{Name: "valid", Class: f.File, Out: fmt.Sprintf("%s in %s\n", f.App, strings.Join(f.Environments, ", "))}}
	}
	slices.SortStableFunc(cases, func(a, b junitCase) int { return strings.Compare(a.Name, b.Name) })
	return cases
}
