package forge

// Finding is something to tell about a forge that is valid CUE: a mistake
// between two places, or a warning. Whoever reads the text gives it a place
// and a severity.
type Finding struct {
	Path    []string // from the top of the file: environments, prod, domains, 0
	Rule    string   // name of the rule in the catalogue of package schema
	Message string   // one sentence without a full stop
	Hint    string   // what to do next; may be empty
}
