package flyemulator

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
)

// valid says what Fly would not take. The texts are those of its answers where
// users have published them.
func (m *machineConfig) valid() *failure {
	if m.Image == "" && len(m.Containers) == 0 {
		return refuse(http.StatusBadRequest, "invalid config.image, must be set")
	}
	if f := m.Guest.valid(); f != nil {
		return f
	}
	if len(m.Mounts) > 1 {
		return refuse(http.StatusBadRequest, "invalid config.mounts, only one volume can be mounted per machine")
	}
	if len(m.Mounts) == 1 && !strings.HasPrefix(m.Mounts[0].Path, "/") {
		return refuse(http.StatusBadRequest, "invalid config.mounts[0].path, must be an absolute path")
	}
	if s := m.Schedule; s != "" && !slices.Contains([]string{"hourly", "daily", "weekly", "monthly"}, s) {
		return refuse(http.StatusBadRequest, "invalid config.schedule, must be one of [hourly daily weekly monthly]")
	}
	if p := m.Restart.Policy; p != "" && !slices.Contains([]string{"no", "always", "on-failure"}, p) {
		return refuse(http.StatusBadRequest, "invalid config.restart.policy, must be one of [no always on-failure]")
	}
	for i, s := range m.Services {
		if f := s.valid(i); f != nil {
			return f
		}
	}
	for name, c := range m.Checks {
		if c.Type != "tcp" && c.Type != "http" {
			return refuse(http.StatusBadRequest, "invalid config.checks.%s.type, must be one of [tcp http]", name)
		}
		if c.Port == nil {
			return refuse(http.StatusBadRequest, "invalid config.checks.%s.port, must be set", name)
		}
	}
	for i, f := range m.Files {
		if !strings.HasPrefix(f.GuestPath, "/") {
			return refuse(http.StatusBadRequest, "invalid config.files[%d].guest_path, must be an absolute path", i)
		}
		of := 0
		for _, from := range []*string{f.RawValue, f.SecretName, f.ImageConfig} {
			if from != nil {
				of++
			}
		}
		if of != 1 {
			return refuse(http.StatusBadRequest, "invalid config.files[%d], exactly one of raw_value, secret_name and image_config must be set", i)
		}
		if f.RawValue != nil {
			if _, err := base64.StdEncoding.DecodeString(*f.RawValue); err != nil {
				return refuse(http.StatusBadRequest, "invalid config.files[%d].raw_value, must be base64 encoded", i)
			}
		}
	}
	return nil
}

func (s *service) valid(i int) *failure {
	if s.Protocol != "tcp" && s.Protocol != "udp" {
		return refuse(http.StatusBadRequest, "invalid config.services[%d].protocol, must be one of [tcp udp]", i)
	}
	if s.InternalPort < 1 || s.InternalPort > 65535 {
		return refuse(http.StatusBadRequest, "invalid config.services[%d].internal_port, must be between 1 and 65535", i)
	}
	if c := s.Concurrency; c != nil && c.Type != "" && c.Type != "connections" && c.Type != "requests" {
		return refuse(http.StatusBadRequest, "invalid config.services[%d].concurrency.type, must be one of [connections requests]", i)
	}
	for j, p := range s.Ports {
		for _, h := range p.Handlers {
			if !slices.Contains([]string{"http", "tls", "pg_tls", "proxy_proto", "edge_http"}, h) {
				return refuse(http.StatusBadRequest, "invalid config.services[%d].ports[%d].handlers, unknown handler %q", i, j, h)
			}
		}
		if p.ForceHTTPS && !slices.Contains(p.Handlers, "http") {
			return refuse(http.StatusBadRequest, "invalid config.services[%d].ports[%d].force_https, needs the http handler", i, j)
		}
	}
	return nil
}

// valid checks the sizes that exist.
func (g *guest) valid() *failure {
	var per, step, most int
	switch g.CPUKind {
	case "shared":
		if !slices.Contains([]int{1, 2, 4, 6, 8}, g.CPUs) {
			return refuse(http.StatusBadRequest, "invalid config.guest.cpus, must be one of [1 2 4 6 8]")
		}
		per, step, most = 256, 256, 2048
	case "performance":
		if g.CPUs != 1 && (g.CPUs < 2 || g.CPUs > 16 || g.CPUs%2 != 0) {
			return refuse(http.StatusBadRequest, "invalid config.guest.cpus, must be one of [1 2 4 6 8 10 12 14 16]")
		}
		per, step, most = 2048, 1024, 8192
	default:
		return refuse(http.StatusBadRequest, "invalid config.guest.cpu_kind, must be one of [shared performance]")
	}
	if g.MemoryMB < per*g.CPUs {
		return refuse(http.StatusBadRequest, "invalid config.guest.memory_mb, minimum required %d MiB", per*g.CPUs)
	}
	if g.MemoryMB > most*g.CPUs {
		return refuse(http.StatusBadRequest, "invalid config.guest.memory_mb, cannot exceed %d MiB", most*g.CPUs)
	}
	if g.MemoryMB%step != 0 {
		return refuse(http.StatusBadRequest, "invalid config.guest.memory_mb, must be a multiple of %d MiB", step)
	}
	if g.GPUKind != "" && !slices.Contains([]string{"a10", "l40s", "a100-40gb", "a100-80gb", "a100-pcie-40gb", "a100-sxm4-80gb"}, g.GPUKind) {
		return refuse(http.StatusBadRequest, "invalid config.guest.gpu_kind")
	}
	return nil
}

// grown says whether the guest needs more than another had.
func (g *guest) grown(was *guest) bool {
	return was == nil || g.CPUs > was.CPUs || g.MemoryMB > was.MemoryMB || g.CPUKind != was.CPUKind
}
