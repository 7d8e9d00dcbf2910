package schema

// What the tests beside the package look at, and nobody else.

func Catalog() []group { return catalog() }

func RulesPage() string { return rulesPage() }

func (r Rule) Page(said Diagnostics) string { return r.page(said) }
