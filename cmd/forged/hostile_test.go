package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/server"
)

const harmless = `forge: "v1"
app: {name: "shop", image: {repository: "ghcr.io/acme/shop-api", tag: "1.4.2"}}
environments: local: platform: kind: "minikube"
`

// hostile are texts that ask for more than anybody has, each in another way.
func hostile() map[string]string {
	chain := func(n int, value func(before string) string) string {
		b := &strings.Builder{}
		for i := 1; i < n; i++ {
			fmt.Fprintf(b, "_a%d: %s\n", i, value(fmt.Sprintf("_a%d", i-1)))
		}
		return b.String()
	}
	times := func(n int, s string) string { return strings.Repeat(s, n) }
	return map[string]string{
		"strings of strings": harmless + `_a0: "0123456789"` + "\n" +
			chain(13, func(before string) string { return `"` + times(10, `\(`+before+`)`) + `"` }) +
			`app: env: X: _a12` + "\n",
		"strings added": harmless + `_a0: "0123456789"` + "\n" +
			chain(50, func(before string) string { return before + " + " + before }) +
			`app: env: X: _a49` + "\n",
		"strings multiplied": harmless + `
_a: 1000000 * "x"
_b: 1000000 * _a
app: env: X: _b
`,
		"strings joined": `import ("list", "strings")
` + harmless + `
_b: strings.Repeat("x", 1000000)
app: env: X: strings.Join(list.Repeat([_b], 1000000), "")
`,
		"a large range": `import "list"
` + harmless + `
app: env: X: "\(len(list.Range(0, 10000000000, 1)))"
`,
		"a large shift": `import "math/bits"
` + harmless + `
app: env: X: "\(bits.Lsh(1, 100000000000))"
`,
		"loops in loops": harmless + `
_l: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
_x: {for a in _l for b in _l for c in _l for d in _l for e in _l for f in _l for g in _l for h in _l {
	"\(a)\(b)\(c)\(d)\(e)\(f)\(g)\(h)": 1
}}
app: env: X: "\(len(_x))"
`,
		"a chain of references": `import "list"
` + harmless + `
_x: {"0": 0, for i in list.Range(1, 1000000, 1) {"\(i)": _x["\(i-1)"] + 1}}
app: env: X: "\(_x["999999"])"
`,
		"a deep template": `import ("strings", "text/template")
` + harmless + `
app: env: X: template.Execute(strings.Repeat("{{if true}}", 1000000) + strings.Repeat("{{end}}", 1000000), {})
`,
		"all ways to choose": harmless + `
_l: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
_x: {a: or(_l)} & {b: or(_l)} & {c: or(_l)} & {d: or(_l)} & {e: or(_l)} & {f: or(_l)}
_y: or([for a in _l for b in _l {{"a\(a)": b} | {"b\(b)": a}}]) & or([for a in _l for b in _l {{"c\(a)": b} | {"d\(b)": a}}])
_z: _y & or([for a in _l for b in _l {{"e\(a)": b} | {"f\(b)": a}}]) & or([for a in _l for b in _l {{"g\(a)": b} | {"h\(b)": a}}])
app: env: X: "\(_z.a1)"
`,
	}
}

// TestHostile: each ends within the bounds, with an error of one line.
func TestHostile(t *testing.T) {
	const memory, limit = 384, 10 * time.Second
	// What one step asks for comes on top, which may be as much again, and on a
	// busy machine the next step may be there before anybody has looked.
	most := int64(memory * 5)
	if raceDetector {
		most *= 16 // it takes up to that much by itself
	}
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "forge.cue")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "forged", "validate", file)
			cmd.Env = append(os.Environ(), fmt.Sprintf("FORGED_MAX_MEMORY=%dMiB", memory), "FORGED_MAX_TIME="+limit.String())
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			said := strings.TrimSpace(out.String())
			if code := cmd.ProcessState.ExitCode(); code != 2 {
				t.Fatalf("exit code %d, %v: %.500s", code, err, said)
			}
			if !strings.HasPrefix(said, "forged: read "+file+": ") || strings.Contains(said, "\n") {
				t.Errorf("it said: %.2000s", said)
			}
			if rss := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10; rss > most {
				t.Errorf("it took %d MiB", rss)
			}
		})
	}
}

// TestHostileText: text that CUE's scanner would take hours for is refused with
// a place, wherever it stands. This ends in seconds, or not at all.
func TestHostileText(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, (1<<19)/len(s)) }
	const clause = "package forge\n"
	for name, text := range map[string]string{
		"brackets":       "@x(" + fill("("),
		"attributes":     fill("@x("),
		"bad escapes":    `x: "` + fill(`\q`) + `"`,
		"bad characters": "//" + fill("\x00"),
	} {
		for where, files := range map[string]map[string]string{
			"alone":          {"forge.cue": text},
			"at the head":    {"forge.cue": text + "\n" + clause + harmless},
			"in the middle":  {"forge.cue": clause + `forge: "v1"` + "\n" + text + "\n" + strings.TrimPrefix(harmless, `forge: "v1"`+"\n")},
			"at the tail":    {"forge.cue": clause + harmless + text},
			"in a neighbour": {"forge.cue": clause + harmless, "zz.cue": text},
		} {
			t.Run(name+" "+where, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for name, text := range files {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				guilty := "forge.cue"
				if len(files) > 1 {
					guilty = "zz.cue"
				}
				cmd := exec.CommandContext(t.Context(), "forged", "validate", "forge.cue")
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "FORGED_MAX_TIME=1h") // it is not for the bounds to end this
				out, err := cmd.CombinedOutput()
				if code := cmd.ProcessState.ExitCode(); code != 1 || !bytes.Contains(out, []byte("[F001]")) || !bytes.HasPrefix(out, []byte(guilty+":")) {
					t.Errorf("exit code %d, %v: %.500s", code, err, out)
				}
			})
		}
	}
}

// TestInterruptedRead: whoever waits for text that does not come can end it.
func TestInterruptedRead(t *testing.T) {
	for _, args := range [][]string{{"validate", "-"}, {"render", "-"}} {
		cmd := exec.CommandContext(t.Context(), "forged", args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// More than a pipe holds: when it is written, somebody reads.
		if _, err := in.Write(bytes.Repeat([]byte("//\n"), 100_000)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code < 1 || !strings.HasPrefix(out.String(), "forged: read <stdin>: ") {
			t.Errorf("%v: exit code %d: %s", args, code, out.String())
		}
	}
}

// resident is the memory the daemon holds, in bytes.
func (d *daemonProcess) resident() int {
	d.h.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.cmd.Process.Pid))
	if err != nil {
		d.h.t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		d.h.t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// killChild kills a child of the daemon, if there is one.
func (d *daemonProcess) killChild() bool {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		d.h.t.Fatal(err)
	}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ") // after the name
		var state string
		var parent, child int
		if n, _ := fmt.Sscan(rest, &state, &parent); n < 2 || parent != d.cmd.Process.Pid || state == "Z" {
			continue
		}
		if n, _ := fmt.Sscan(string(text), &child); n == 1 {
			return syscall.Kill(child, syscall.SIGKILL) == nil
		}
	}
	return false
}

// TestHostileSaves: a daemon survives them, with the last good configuration
// in force and no memory left behind.
func TestHostileSaves(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "forge.cue")); err != nil {
			t.Fatal(err)
		}
	}
	write(harmless)
	h := &home{Env: &sandboxtest.Env{Instance: "shop"}, t: t, dir: dir}
	t.Setenv("KUBECONFIG", filepath.Join(dir, "none"))
	t.Setenv("FORGED_MAX_MEMORY", "256MiB")
	t.Setenv("FORGED_MAX_TIME", "1m")
	d := h.run()
	generation := 1
	d.await("the start", func(s server.Snapshot) bool { return s.Config.Generation == generation })
	small := d.resident()
	for _, name := range []string{"strings of strings", "strings multiplied", "a deep template", "loops in loops"} {
		text := hostile()[name]
		write(text)
		s := d.await(name, func(s server.Snapshot) bool { return s.Config.Error != "" })
		if s.Config.OK || s.Config.Generation != generation || len(s.Config.Problems) > 0 ||
			!strings.HasPrefix(s.Config.Error, "read forge.cue: ") || strings.Contains(s.Config.Error, "\n") {
			t.Errorf("%s: %+v", name, s.Config)
		}
		write(harmless + "// after " + name + "\n")
		generation++
		d.await("after "+name, func(s server.Snapshot) bool { return s.Config.OK && s.Config.Generation == generation })
	}

	// Somebody kills the child in the middle of an evaluation.
	slow := `import "list"
` + harmless + `
app: env: X: "\(list.Sum([for a in list.Range(0, 5000, 1) for b in [0, 1, 2] {a+b}]))"
`
	looks := 0
	poll(t, "a child", func() bool {
		if looks%100 == 0 { // it may have come and gone between two looks
			write(slow + fmt.Sprintf("// %d\n", looks))
		}
		looks++
		return d.killChild()
	}, func() string { return d.log.String() })
	s := d.await("the end of the child", func(s server.Snapshot) bool { return s.Config.Error != "" })
	if !strings.HasPrefix(s.Config.Error, "read forge.cue: the process that evaluates it was ended by a signal (killed)") || s.Config.Generation < generation {
		t.Errorf("%+v", s.Config)
	}
	generation = s.Config.Generation + 1
	d.await("the next try", func(s server.Snapshot) bool { return s.Config.OK && s.Config.Generation == generation })

	if now := d.resident(); now > small+64<<20 {
		t.Errorf("it holds %d MiB, and held %d MiB at the start", now>>20, small>>20)
	}
	d.stop()
}
