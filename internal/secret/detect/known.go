package detect

import (
	"encoding/base64"
	"strings"
)

// form is how one provider writes its keys: a prefix, and then at least so
// many signs of letters, digits, "-" and "_".
type form struct {
	prefix string
	rest   int
	what   string
}

// forms are told by their prefix. Longer prefixes come before the shorter ones
// that they begin with.
var forms = [...]form{
	{"github_pat_", 20, "a GitHub token"},
	{"ghp_", 30, "a GitHub token"},
	{"gho_", 30, "a GitHub token"},
	{"ghu_", 30, "a GitHub token"},
	{"ghs_", 30, "a GitHub token"},
	{"ghr_", 30, "a GitHub token"},
	{"glpat-", 20, "a GitLab token"},
	{"gldt-", 20, "a GitLab token"},
	{"glrt-", 20, "a GitLab token"},
	{"xoxb-", 20, "a Slack token"},
	{"xoxp-", 20, "a Slack token"},
	{"xoxa-", 20, "a Slack token"},
	{"xoxr-", 20, "a Slack token"},
	{"xoxs-", 20, "a Slack token"},
	{"xapp-", 20, "a Slack token"},
	{"sk_live_", 16, "a Stripe key"},
	{"sk_test_", 16, "a Stripe key"},
	{"rk_live_", 16, "a Stripe key"},
	{"rk_test_", 16, "a Stripe key"},
	{"whsec_", 24, "the signing secret of a webhook"},
	{"sk-ant-", 24, "an Anthropic key"},
	{"sk-proj-", 24, "an OpenAI key"},
	{"sk-svcacct-", 24, "an OpenAI key"},
	{"fm2_", 20, "a Fly.io token"},
	{"fm1r_", 20, "a Fly.io token"},
	{"fm1a_", 20, "a Fly.io token"},
	{"fo1_", 20, "a Fly.io token"},
	{"AGE-SECRET-KEY-", 20, "an age key"},
	{"AGE-PLUGIN-", 20, "an age key"},
	{"npm_", 30, "an npm token"},
	{"pypi-AgE", 40, "a PyPI token"},
	{"rubygems_", 40, "a RubyGems key"},
	{"dckr_pat_", 20, "a Docker Hub token"},
	{"hf_", 30, "a Hugging Face token"},
	{"r8_", 30, "a Replicate token"},
	{"gsk_", 40, "a Groq key"},
	{"nvapi-", 40, "an NVIDIA key"},
	{"GOCSPX-", 20, "the secret of a Google client"},
	{"dop_v1_", 40, "a DigitalOcean token"},
	{"doo_v1_", 40, "a DigitalOcean token"},
	{"shpat_", 30, "a Shopify token"},
	{"shpss_", 30, "a Shopify secret"},
	{"lin_api_", 30, "a Linear key"},
	{"glsa_", 30, "a Grafana token"},
	{"sntrys_", 30, "a Sentry token"},
	{"tskey-", 16, "a Tailscale key"},
	{"ops_eyJ", 40, "a 1Password token"},
	{"pscale_tkn_", 30, "a PlanetScale token"},
	{"pscale_pw_", 30, "a PlanetScale password"},
	{"sbp_", 36, "a Supabase token"},
	{"PMAK-", 30, "a Postman key"},
	{"NRAK-", 24, "a New Relic key"},
	{"ATATT3", 40, "an Atlassian token"},
}

// known tells whether a word is, or holds behind a ":" or "=", a key of a form
// that a provider is known for.
func known(word string) (string, bool) {
	for start := 0; ; {
		if what, ok := knownAt(word[start:]); ok {
			return what, true
		}
		i := strings.IndexAny(word[start:], "=:@/")
		if i < 0 {
			return "", false
		}
		start += i + 1
	}
}

func knownAt(s string) (string, bool) {
	if len(s) < 16 {
		return "", false
	}
	for i := range forms {
		f := &forms[i]
		if s[0] != f.prefix[0] {
			continue
		}
		if rest, ok := strings.CutPrefix(s, f.prefix); ok {
			if rest = rest[:span(rest, isWord)]; len(rest) >= f.rest && distinct(rest) >= 6 {
				return f.what, true
			}
		}
	}
	switch s[:4] {
	case "AKIA", "ASIA", "ABIA", "ACCA":
		if span(s, isUpperDigit) == 20 && (len(s) == 20 || !isWord(s[20])) && distinct(s[4:20]) >= 6 {
			return "an AWS access key", true
		}
	case "AIza":
		if span(s, isWord) >= 39 && distinct(s) >= 12 {
			return "a Google API key", true
		}
	}
	if rest, ok := strings.CutPrefix(s, "sk-"); ok {
		// A short prefix that words have too.
		if n := span(rest, isWord); n >= 32 && mixed(rest[:n]) {
			return "an API key", true
		}
	}
	for _, prefix := range [...]string{"SG.", "hvs.", "hvb.", "ya29."} {
		if rest, ok := strings.CutPrefix(s, prefix); ok && span(rest, isWordDot) >= 24 && mixed(rest) {
			return "an API token", true
		}
	}
	if isJWT(s) {
		return "a signed token (JWT)", true
	}
	return "", false
}

// isJWT reads the first part: it must be a JSON object that names an algorithm.
func isJWT(s string) bool {
	if !strings.HasPrefix(s, "eyJ") {
		return false
	}
	s = s[:span(s, isWordDot)]
	head, rest, ok := strings.Cut(s, ".")
	if !ok || !strings.Contains(rest, ".") {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(head)
	return err == nil && strings.Contains(string(raw), `"alg"`)
}

// span is how many of the first bytes are of a class.
func span(s string, class func(byte) bool) int {
	for i := range len(s) {
		if !class(s[i]) {
			return i
		}
	}
	return len(s)
}

func isUpper(b byte) bool      { return 'A' <= b && b <= 'Z' }
func isLower(b byte) bool      { return 'a' <= b && b <= 'z' }
func isDigit(b byte) bool      { return '0' <= b && b <= '9' }
func isUpperDigit(b byte) bool { return isUpper(b) || isDigit(b) }
func isAlnum(b byte) bool      { return isUpper(b) || isLower(b) || isDigit(b) }
func isWord(b byte) bool       { return isAlnum(b) || b == '-' || b == '_' }
func isWordDot(b byte) bool    { return isWord(b) || b == '.' }
func isHex(b byte) bool        { return isDigit(b) || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' }
