package fly_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

var histories = flag.Uint64("histories", 3, "how many random histories of secrets there are")

// Whatever happens, in whatever order: nothing of others is touched, a value
// that is shared is the same everywhere, and one that was generated is another
// one only after it was asked for, or lost by somebody else's doing.
func TestSecretsHistory(t *testing.T) {
	for seed := range *histories {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inSafe(t, flyemulator.Options{Seed: seed}, func(s *safe) {
				h := &history{safe: s, random: rand.New(rand.NewPCG(seed, 1)), host: "a"}
				s.set("shop", "THEIRS", foreign)
				s.settled(h.request())
				for range 40 {
					h.step()
				}
				h.end()
			})
		})
	}
}

type history struct {
	*safe
	random            *rand.Rand
	rotation, session int
	host              string
	words             int
	told              []string // what was done, for people
	settledSession    string   // as it was when all was well, and since then nobody else touched it
}

func (h *history) request() reconcile.Request {
	return h.safe.request(
		[]forge.SecretEntry{variable("WORD", "WORD"), joinRedis("REDIS_URL", h.host), generate("SESSION", h.session)},
		generate("REDIS_PASSWORD", h.rotation), variable("OTHER", "OTHER"),
	)
}

func (h *history) step() {
	names := [][2]string{{"shop", "WORD"}, {"shop", "REDIS_URL"}, {"shop", "SESSION"}, {"shop-redis", "REDIS_PASSWORD"}, {"shop-redis", "OTHER"}}
	name := names[h.random.IntN(len(names))]
	tell := func(format string, args ...any) { h.told = append(h.told, fmt.Sprintf(format, args...)) }
	switch h.random.IntN(9) {
	case 0:
		tell("set %s", name)
		h.set(name[0], name[1], foreign)
		h.touched(name[1])
	case 1:
		tell("unset %s", name)
		h.set(name[0], name[1])
		h.touched(name[1])
	case 2:
		tell("restart")
		h.restart()
	case 3:
		h.rotation++
		tell("rotation %d", h.rotation)
	case 4:
		h.session++
		h.settledSession = ""
		tell("rotation of the session %d", h.session)
	case 5:
		h.words++
		h.env["WORD"] = fmt.Sprint(canary, h.words)
		tell("word %d", h.words)
	case 6:
		h.host = string(rune('a' + h.random.IntN(3)))
		tell("host %s", h.host)
	case 7:
		n := h.random.IntN(6)
		tell("cut after %d", n)
		mend := h.Line.CutAfter(n)
		h.attempt(h.request())
		mend()
	case 8:
		f := flyemulator.Fault{Action: []string{"secrets.update", "machines.update"}[h.random.IntN(2)], Skip: h.random.IntN(2), Count: 1 + h.random.IntN(4), Drop: flyemulator.DropAfter}
		tell("lost answers %s %d %d", f.Action, f.Skip, f.Count)
		mend := h.Fault(f)
		h.attempt(h.request())
		mend()
	}
	if h.random.IntN(2) == 0 {
		tell("converge")
		h.converge(h.request())
		h.remember()
	}
	if h.Failed() {
		h.Fatalf("after %q", h.told)
	}
}

func (h *history) touched(name string) {
	if name == "SESSION" {
		h.settledSession = ""
	}
}

// remember holds the session to what it was.
func (h *history) remember() {
	now := h.values("shop")["SESSION"]
	if h.settledSession != "" && now != h.settledSession {
		h.Errorf("the session was made anew, and nobody asked for that")
	}
	if now != foreign {
		h.settledSession = now
	}
}

// end has a person do what blocked steps say, and looks at what has come of it.
func (h *history) end() {
	h.restart()
	time.Sleep(time.Minute)
	if blocked := h.converge(h.request()); len(blocked) > 0 {
		h.rotation++
		h.session++
		if blocked := h.converge(h.request()); len(blocked) > 0 {
			h.Errorf("blocked: %v", blocked)
		}
	}
	shop, redis := h.values("shop"), h.values("shop-redis")
	if want := "redis://:" + redis["REDIS_PASSWORD"] + "@" + h.host + ":6379"; shop["REDIS_URL"] != want || len(redis["REDIS_PASSWORD"]) != 24 {
		h.Errorf("the URL is %q, want %q", shop["REDIS_URL"], want)
	}
	if shop["THEIRS"] != foreign || shop["WORD"] != h.env["WORD"] || len(shop["SESSION"]) != 24 || redis["OTHER"] != h.env["OTHER"] || len(shop) != 4 || len(redis) != 2 {
		h.Errorf("got %q %q", shop, redis)
	}
	if h.record().Pending {
		h.Error("something is pending")
	}
	if h.Failed() {
		h.Fatalf("after %q", h.told)
	}
}
