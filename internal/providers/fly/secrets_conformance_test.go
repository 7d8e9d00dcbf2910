package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

func TestSecretsConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		s := newSafe(t, flyemulator.Options{})
		t.Cleanup(func() { s.accounts.Close() })
		asks := s.stack(0)
		changed := s.request(
			[]forge.SecretEntry{variable("WORD", "OTHER"), variable("MORE", "WORD"), joinRedis("REDIS_URL", "shop-redis.internal"), generate("SESSION", 1)},
			generate("REDIS_PASSWORD", 1),
		)
		return s.Harness(providertest.Harness{
			Resource: asks.Resource, Changed: changed.Resource,
			Policy:  forge.Policy{Mode: forge.ModeApply, Prune: true, Adopt: forge.AdoptIfUnowned},
			Secrets: []string{canary},
			Start: func(*testing.T) reconcile.Provider {
				s.restart()
				return s.p
			},
			Edit:   func(*testing.T) { s.set("shop", "WORD", foreign) },
			Delete: func(*testing.T) { s.set("shop", "WORD") },
			Settle: func(*testing.T) { time.Sleep(flytest.Patience / 10) },
		})
	})
}
