package compile

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"forged.dev/forged/internal/forge"
)

// configName is the ConfigMap with the config files; the chart keeps the
// variables in another one.
func (b builder) configName() string { return b.env.App.Name + "-config" }

// configKeys are the keys of config files in their ConfigMap: the name of the
// file, made different where two are alike.
func configKeys(files []forge.ConfigFile) []string {
	keys, taken := make([]string, 0, len(files)), map[string]bool{}
	for _, file := range files {
		base := strings.Map(func(r rune) rune {
			if strings.ContainsRune("-_.", r) || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
				return r
			}
			return '-'
		}, path.Base(file.Path))
		base = strings.TrimLeft(base, ".")
		key := base
		for n := 2; key == "" || taken[key]; n++ {
			key = fmt.Sprintf("%s-%d", base, n)
		}
		taken[key] = true
		keys = append(keys, key)
	}
	return keys
}

// mountedFiles are the files that the app and its workers see.
func (b builder) mountedFiles(s surroundings) []forge.MountedFile {
	var files []forge.MountedFile
	for i, key := range configKeys(b.env.App.ConfigFiles) {
		files = append(files, forge.MountedFile{Path: b.env.App.ConfigFiles[i].Path, Config: b.configName(), Key: key})
	}
	if b.hasPostgres() && b.env.Services.Postgres.TLS {
		files = append(files, forge.MountedFile{Path: filePostgresCA, Secret: b.postgresTLSSecretName(), Key: "ca.crt"})
	}
	for _, file := range s.files {
		files = append(files, forge.MountedFile{Path: file.path, Secret: b.filesSecretName(), Key: file.key})
	}
	return files
}

// checkedSecretNames are the Secrets whose change restarts the app.
func (b builder) checkedSecretNames() []string {
	names := b.appSecretNames()
	if len(b.clusterSurroundings().files) > 0 {
		names = append(names, b.filesSecretName())
	}
	return names
}

func mergeLabels(sets ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, set := range sets {
		maps.Copy(all, set)
	}
	return all
}

// cloneMap is a map of JSON that shares nothing with m.
func cloneMap(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for key, value := range m {
		out[key] = cloneValue(value)
	}
	return out
}

func cloneValue(value any) any {
	switch value := value.(type) {
	case map[string]any:
		return cloneMap(value)
	case []any:
		out := make([]any, 0, len(value))
		for _, inner := range value {
			out = append(out, cloneValue(inner))
		}
		return out
	default:
		return value
	}
}
