package fly

// Topic is a part of Fly that changes as a whole, as far as can be seen from a
// listing: the secrets of one app, for example.
type Topic struct {
	App     string // empty: of the organization
	Section Section
}

// Section is what a topic is about.
type Section string

// Sections. The last three have no app.
const (
	SectionApp          Section = "app"
	SectionMachines     Section = "machines"
	SectionVolumes      Section = "volumes"
	SectionSecrets      Section = "secrets"
	SectionIPs          Section = "ips"
	SectionCertificates Section = "certificates"
	SectionPostgres     Section = "postgres"
	SectionAddOns       Section = "addons"
	SectionClusters     Section = "clusters"
)

func (t Topic) String() string {
	if t.App == "" {
		return string(t.Section)
	}
	return string(t.Section) + " of " + t.App
}
