package schema

var textRules = []Rule{
	{
		ID: "F001", Name: "syntax", Severity: SeverityError,
		Title: "The text is CUE, and not nested too deep.",
		Why: "A forge is written in CUE: JSON with comments and with fewer quotes and commas. Of a file that cannot be read nothing else can be said, so this mistake stands alone. " +
			"What is nested more than 1000 levels deep is refused: nobody writes it, except to make a reader run out of memory.",
		Wrong: `app: env: LOG_LEVEL: "INFO
`,
		Right: `app: env: LOG_LEVEL: "INFO"
`,
	},
	{
		ID: "F002", Name: "size", Severity: SeverityError,
		Title: "A file is not larger than 1 MiB.",
		Why:   "A forge is written by people. A larger file is a mistake in its name, or was made by a program that should be asked for less.",
		Details: `What is larger is not read to its end, so nothing can be said of it, not even under this id: forged says "read FILE: it is larger than 1 MiB", and validate ends with exit code 2. The same holds for more than 16 MiB or 1000 files in all.
This id is for what was read and is too much to evaluate: more than 125,000 fields and calls in all files together.
`,
	},
	{
		ID: "F003", Name: "package", Severity: SeverityError,
		Title: "Files that are read together have the same package clause.",
		Why:   "The files of one package in one directory are one forge. A file of another package beside them is another forge, and mixing the two would mean neither.",
	},
	{
		ID: "F004", Name: "import", Severity: SeverityError,
		Title: "Nothing is imported but CUE's standard library and packages of the same module.",
		Why: "A forge means the same on every machine and at every time. So it is read without the network, and nothing outside of its module is looked at. " +
			"What comes from elsewhere is put into the module, in version control.",
		Wrong: `import "example.com/settings"

app: env: LOG_LEVEL: settings.level
`,
		Right: `_settings: level: "INFO"

app: env: LOG_LEVEL: _settings.level
`,
	},
	{
		ID: "F005", Name: "reference", Severity: SeverityError,
		Title: "A name without quotes is that of another field.",
		Why:   "Text stands in quotes. Without them CUE looks for a field of that name, which is how a value is written once and used twice.",
		Wrong: `app: env: LOG_LEVEL: INFO
`,
		Right: `app: env: LOG_LEVEL: "INFO"
`,
	},
	{
		ID: "F006", Name: "tag", Severity: SeverityError,
		Title: "A value that is given on the command line has a place in the forge, and fits it.",
		Why: "A field with @tag(sha) takes its value from -t sha=…, so that a pipeline can say which image it has built. " +
			"A value without such a field would be ignored, and a field without its value would stay open.",
		Wrong: `app: image: {repository: "ghcr.io/acme/shop-api", tag: string @tag(sha)}
`,
		Right: `app: image: {repository: "ghcr.io/acme/shop-api", tag: *"1.4.2" | string @tag(sha)}
`,
	},
}
