package schema_test

import (
	"testing"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// Replicas of a region replace those of the environment one by one: a region
// that says how many it has gets that many, and no range by accident.
func TestRegionScaling(t *testing.T) {
	for _, tt := range []struct {
		everywhere, region string
		want               forge.Scaling
	}{
		{"min: 3", "min: 1", forge.Scaling{Min: 1, Max: 1}},
		{"min: 1", "min: 3", forge.Scaling{Min: 3, Max: 3}},
		{"min: 3, max: 12, cpuTarget: 70", "min: 1", forge.Scaling{Min: 1, Max: 12, CPUTarget: 70}},
		{"min: 3, max: 12, cpuTarget: 70", "min: 2, max: 6", forge.Scaling{Min: 2, Max: 6, CPUTarget: 70}},
		{"min: 3, max: 4, cpuTarget: 70", "min: 5", forge.Scaling{Min: 5, Max: 5, CPUTarget: 70}},
	} {
		text := `package forge

forge: "v1"
app: {
	name: "shop"
	image: {repository: "ghcr.io/acme/shop", tag: "1"}
}
environments: prod: {
	platform: {kind: "kubernetes", context: "us", namespace: "shop"}
	regions: {
		us: context: "us"
		eu: {context: "eu", scaling: {` + tt.region + `}}
	}
	scaling: {` + tt.everywhere + `}
	services: {postgres: mode: "off", redis: mode: "off"}
	policy: mode: "apply"
}
`
		f, _, err := schema.Load(t.Context(), schema.Source{Files: []schema.File{{Name: "forge.cue", Data: []byte(text)}}})
		if err != nil {
			t.Errorf("%s, %s: %v", tt.everywhere, tt.region, err)
			continue
		}
		for _, region := range f.Environments[0].Regions {
			if region.Name != "eu" {
				continue
			}
			tt.want.ScaleDownWindow = region.Scaling.ScaleDownWindow
			if *region.Scaling != tt.want {
				t.Errorf("%s, %s: %+v, want %+v", tt.everywhere, tt.region, *region.Scaling, tt.want)
			}
		}
	}
}
