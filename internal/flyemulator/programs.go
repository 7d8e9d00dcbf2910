package flyemulator

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Program says how machines behave whose image and command match. Nothing is
// really run. The env of a machine can say the same: EMU_RUN=5s, EMU_EXIT=3,
// EMU_HEALTH=fail:3,pass.
type Program struct {
	Match string `json:"match"` // regular expression over image, entrypoint and command

	Ends       bool       `json:"ends,omitempty"` // by itself
	Run        Duration   `json:"run,omitempty"`  // so long after it started; 0: Times.Run
	Exit       int        `json:"exit,omitempty"`
	OOM        bool       `json:"oom,omitempty"`
	Unpullable bool       `json:"unpullable,omitempty"`
	Late       int        `json:"late,omitempty"`   // so many requests are told that the tag does not exist yet
	Health     string     `json:"health,omitempty"` // results of its checks in their order, as "fail:3,pass"; the last one stays
	Exec       []ExecText `json:"exec,omitempty"`
}

// ExecText is what a command in a machine answers.
type ExecText struct {
	Match  string `json:"match"` // regular expression over the command
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	Code   int    `json:"code,omitempty"`
}

// sentinels are the images that behave by their name.
func sentinels() []Program {
	return []Program{
		{Match: `emu/unpullable`, Unpullable: true},
		{Match: `emu/late`, Late: 2},
		{Match: `emu/absent`, Late: -1},
		{Match: `emu/crash`, Ends: true, Exit: 1},
		{Match: `emu/oom`, Ends: true, Exit: 137, OOM: true},
		{Match: `emu/exit`, Ends: true},
		{Match: `emu/sick`, Health: "fail"},
	}
}

// matches remembers the expressions: each answer about a machine needs them.
func (e *Emulator) matches(expression, text string) bool {
	re := e.expressions[expression]
	if re == nil {
		re = regexp.MustCompile(expression)
		e.expressions[expression] = re
	}
	return re.MatchString(text)
}

// Program has machines that match behave so from now on; the newest wins.
func (e *Emulator) Program(p Program) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.addProgram(p)
}

func (e *Emulator) addProgram(p Program) error {
	if _, err := regexp.Compile(p.Match); err != nil {
		return err
	}
	for _, x := range p.Exec {
		if _, err := regexp.Compile(x.Match); err != nil {
			return err
		}
	}
	e.state.Programs = append([]Program{p}, e.state.Programs...)
	return nil
}

// program is how a machine behaves.
func (e *Emulator) program(m *machine) Program { return e.programOf(&m.Config) }

func (e *Emulator) programOf(c *machineConfig) Program {
	words := []string{c.Image}
	words = append(append(append(words, c.Init.Entrypoint...), c.Init.Exec...), c.Init.Cmd...)
	line := strings.Join(words, " ")
	var p Program
	for _, one := range slices.Concat(e.state.Programs, sentinels()) {
		if e.matches(one.Match, line) {
			p = one
			break
		}
	}
	if d, err := time.ParseDuration(c.Env["EMU_RUN"]); err == nil {
		p.Ends, p.Run = true, Duration(d)
	}
	if n, err := strconv.Atoi(c.Env["EMU_EXIT"]); err == nil {
		p.Ends, p.Exit = true, n
	}
	if h := c.Env["EMU_HEALTH"]; h != "" {
		p.Health = h
	}
	return p
}

func (p Program) ends() bool { return p.Ends }

func (p Program) runs(usual time.Duration) time.Duration {
	if p.Run > 0 {
		return time.Duration(p.Run)
	}
	return usual
}

// healthy is the n-th result of a check, from 0.
func (p Program) healthy(n int) bool {
	ok := true
	for part := range strings.SplitSeq(p.Health, ",") {
		word, count, counted := strings.Cut(part, ":")
		ok = word != "fail"
		if !counted {
			return ok
		}
		times, _ := strconv.Atoi(count) // no number is none
		if n < times {
			return ok
		}
		n -= times
	}
	return ok
}
