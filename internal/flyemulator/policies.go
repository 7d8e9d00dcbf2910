package flyemulator

import (
	"net/http"
	"slices"
)

// policy is a network policy of an app. It changes nothing here: there is no
// traffic.
type policy struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	Selector policySelector `json:"selector"`
	Rules    []policyRule   `json:"rules"`
}

type policySelector struct {
	All      bool              `json:"all,omitempty"`
	Machines []policyMachine   `json:"machines,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

type policyMachine struct {
	ID string `json:"id"`
}

type policyRule struct {
	Action    string       `json:"action"`
	Direction string       `json:"direction"`
	Ports     []policyPort `json:"ports"`
}

type policyPort struct {
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
}

func (e *Emulator) policyRoutes() []route {
	const all = "/v1/apps/{app}/network_policies"
	return []route{
		{method: http.MethodGet, pattern: all, action: "policies.list", scope: scopeApp, handler: (*call).listPolicies},
		{method: http.MethodPost, pattern: all, action: "policies.write", scope: scopeApp, handler: (*call).writePolicy},
		{method: http.MethodDelete, pattern: all + "/{policy}", action: "policies.delete", scope: scopeApp, handler: (*call).deletePolicy},
	}
}

// wrong says what Fly would not take.
func (p policy) wrong() *failure {
	s := p.Selector
	if p.Name == "" {
		return invalid("Name can't be blank")
	}
	if !s.All && len(s.Machines) == 0 && len(s.Metadata) == 0 {
		return invalid("Selector can't be blank")
	}
	for _, r := range p.Rules {
		if r.Action != "allow" {
			return invalid("Action %q is not allow", r.Action)
		}
		if r.Direction != "ingress" && r.Direction != "egress" {
			return invalid("Direction %q is not ingress or egress", r.Direction)
		}
		for _, port := range r.Ports {
			if port.Protocol != "tcp" && port.Protocol != "udp" || port.Port < 1 || port.Port > 65535 {
				return invalid("Port %s/%d is none", port.Protocol, port.Port)
			}
		}
	}
	return nil
}

func (c *call) listPolicies() reply {
	if c.app.Policies == nil {
		return c.ok([]policy{})
	}
	return c.ok(c.app.Policies)
}

// writePolicy makes one, or with an id replaces it.
func (c *call) writePolicy() reply {
	var in policy
	if f := c.decode(&in); f != nil {
		return c.failed(f)
	}
	if f := in.wrong(); f != nil {
		return c.failed(f)
	}
	if in.ID == "" {
		in.ID = c.e.newID("policy", 16)
		c.app.Policies = append(c.app.Policies, &in)
		return c.reply(http.StatusCreated, in)
	}
	for i := range c.app.Policies {
		if c.app.Policies[i].ID == in.ID {
			c.app.Policies[i] = &in
			return c.ok(in)
		}
	}
	return c.failed(missing("network policy not found"))
}

func (c *call) deletePolicy() reply {
	before := len(c.app.Policies)
	c.app.Policies = slices.DeleteFunc(c.app.Policies, func(p *policy) bool { return p.ID == c.values["policy"] })
	if len(c.app.Policies) == before {
		return c.failed(missing("network policy not found"))
	}
	return c.nothing(http.StatusNoContent)
}
