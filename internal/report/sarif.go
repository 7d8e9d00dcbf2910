package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"

	"forged.dev/forged/schema"
)

// The parts of a SARIF 2.1.0 log that forged fills. The names are those of the
// standard: https://docs.oasis-open.org/sarif/sarif/v2.1.0/.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Version        string      `json:"version,omitempty"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string         `json:"id"`
		Name          string         `json:"name,omitempty"`
		Short         *sarifText     `json:"shortDescription,omitempty"`
		Full          *sarifText     `json:"fullDescription,omitempty"`
		Help          *sarifMarkdown `json:"help,omitempty"`
		HelpURI       string         `json:"helpUri,omitempty"`
		Configuration *sarifLevel    `json:"defaultConfiguration,omitempty"`
	}
	sarifLevel struct {
		Level schema.Severity `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifMarkdown struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level   string    `json:"level"`
		Message sarifText `json:"message"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        schema.Severity   `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI    string `json:"uri"`
		BaseID string `json:"uriBaseId,omitempty"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
	}
)

// sarif writes the report in the form that code scanners hand their findings
// over in, version 2.1.0. It has no line of any file in it.
func (r Report) sarif(w io.Writer) error {
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: "forged", InformationURI: "https://forged.dev", Version: r.Version, Rules: []sarifRule{},
		}},
		Invocations: []sarifInvocation{{Successful: r.Judged()}},
		ColumnKind:  "utf16CodeUnits",
		Results:     []sarifResult{},
	}
	rules, seen := map[string]int{}, map[string]int{}
	for _, f := range r.Forges {
		if f.Err != nil {
			n := &run.Invocations[0].Notifications
			*n = append(*n, sarifNotification{"error", sarifText{f.Err.Error()}})
		}
		for _, d := range f.Diagnostics {
			rule := sarifRuleOf(d)
			at, ok := rules[rule.ID]
			if !ok {
				at = len(rules)
				rules[rule.ID] = at
				run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
			}
			text := d.Text()
			if d.Hint != "" {
				text += "\n\nHint: " + d.Hint
			}
			loc := r.sarifLocation(d)
			run.Results = append(run.Results, sarifResult{
				RuleID: rule.ID, RuleIndex: at, Level: d.Severity, Message: sarifText{text},
				Locations:    []sarifLocation{loc},
				Fingerprints: map[string]string{"forgedPath/v1": fingerprint(seen, loc.Physical.Artifact.URI, rule.ID, d.Path)},
			})
		}
	}
	return encode(w, sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0", Runs: []sarifRun{run},
	})
}

func sarifRuleOf(d schema.Diagnostic) sarifRule {
	r, ok := schema.RuleNamed(d.Rule)
	if !ok {
		return sarifRule{ID: d.Name}
	}
	help := r.Why
	if r.Wrong != "" {
		help += "\n\nWrong:\n\n```cue\n" + r.Wrong + "```\n\nRight:\n\n```cue\n" + r.Right + "```\n"
	}
	return sarifRule{
		ID: r.ID, Name: r.Name, Short: &sarifText{r.Title}, Full: &sarifText{r.Why},
		Help: &sarifMarkdown{r.Why, help}, HelpURI: r.URL(), Configuration: &sarifLevel{r.Severity},
	}
}

func (r Report) sarifLocation(d schema.Diagnostic) sarifLocation {
	var loc sarifLocation
	name, inside := r.located(d.File)
	if inside {
		loc.Physical.Artifact = sarifArtifact{(&url.URL{Path: name}).String(), "%SRCROOT%"}
	} else {
		loc.Physical.Artifact.URI = (&url.URL{Scheme: "file", Path: name}).String()
	}
	if d.Line > 0 {
		loc.Physical.Region = &sarifRegion{StartLine: d.Line}
		loc.Physical.Region.StartColumn, loc.Physical.Region.EndColumn = d.Span()
	}
	if d.Path != "" {
		loc.Logical = []sarifLogical{{d.Path}}
	}
	return loc
}

// fingerprint is the same for the same mistake after lines were added above
// it.
func fingerprint(seen map[string]int, uri, rule, path string) string {
	key := fmt.Sprintf("%q %q %q", uri, rule, path)
	seen[key]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", key, seen[key]))
	return hex.EncodeToString(sum[:16])
}
