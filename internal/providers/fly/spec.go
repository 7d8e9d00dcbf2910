package fly

import (
	"encoding/json"
	"fmt"

	"forged.dev/forged/internal/forge"
)

// EncodeSpec writes a spec down for a record. Who asks, and where the inventory
// is, are left out: they are those of whoever reads it.
func EncodeSpec(spec forge.Spec) json.RawMessage {
	if on, ok := spec.(forge.OnFly); ok {
		spec = withAccount(on, forge.FlyAccount{})
	}
	b, _ := json.Marshal(spec) // plain data: it never fails
	return b
}

// DecodeSpec reads what EncodeSpec has written of a kind of resource.
func DecodeSpec(kind string, raw json.RawMessage, account forge.FlyAccount) (forge.Spec, error) {
	var spec forge.OnFly
	var err error
	switch kind {
	case forge.KindFlyApp:
		spec, err = decode[forge.FlyAppSpec](raw)
	case forge.KindFlyIPs:
		spec, err = decode[forge.FlyIPsSpec](raw)
	case forge.KindFlySecrets:
		spec, err = decode[forge.FlySecretsSpec](raw)
	case forge.KindFlyVolume:
		spec, err = decode[forge.FlyVolumeSpec](raw)
	case forge.KindFlyMachines:
		spec, err = decode[forge.FlyMachinesSpec](raw)
	case forge.KindFlyJob:
		spec, err = decode[forge.FlyJobSpec](raw)
	case forge.KindFlyCertificate:
		spec, err = decode[forge.FlyCertificateSpec](raw)
	case forge.KindFlyPostgres:
		spec, err = decode[forge.FlyPostgresSpec](raw)
	case forge.KindFlyPostgresApp:
		spec, err = decode[forge.FlyPostgresAppSpec](raw)
	case forge.KindUpstashRedis:
		spec, err = decode[forge.UpstashRedisSpec](raw)
	case forge.KindFlyCluster:
		spec, err = decode[forge.FlyClusterSpec](raw)
	default:
		return nil, fmt.Errorf("%q is no kind of resource on Fly", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("the spec of a %s in the inventory: %w", kind, err)
	}
	return withAccount(spec, account), nil
}

func decode[T forge.OnFly](raw json.RawMessage) (T, error) {
	var spec T
	err := json.Unmarshal(raw, &spec)
	return spec, err
}

func withAccount(spec forge.OnFly, account forge.FlyAccount) forge.Spec {
	switch s := spec.(type) {
	case forge.FlyAppSpec:
		s.Account = account
		return s
	case forge.FlyIPsSpec:
		s.Account = account
		return s
	case forge.FlySecretsSpec:
		s.Account = account
		return s
	case forge.FlyVolumeSpec:
		s.Account = account
		return s
	case forge.FlyMachinesSpec:
		s.Account = account
		return s
	case forge.FlyJobSpec:
		s.Account = account
		return s
	case forge.FlyCertificateSpec:
		s.Account = account
		return s
	case forge.FlyPostgresSpec:
		s.Account = account
		return s
	case forge.FlyPostgresAppSpec:
		s.Account = account
		return s
	case forge.UpstashRedisSpec:
		s.Account = account
		return s
	case forge.FlyClusterSpec:
		s.Account = account
		return s
	default:
		return spec
	}
}
