package external

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// asked is a service that counts how often it is asked.
type asked struct {
	times atomic.Int64
	bad   atomic.Bool
	slow  time.Duration
}

func (a *asked) question(ctx context.Context) answer {
	a.times.Add(1)
	select {
	case <-time.After(a.slow):
	case <-ctx.Done():
	}
	if a.bad.Load() {
		return answer{trouble: &trouble{code: codeRefused, text: "refuses"}}
	}
	return answer{}
}

func newTestSchedule() *schedule[answer] {
	return newSchedule(usualPace(), causeAnswer, func(a answer) bool { return a.trouble == nil })
}

var checkID = forge.ID{Environment: "e", Kind: forge.KindCheck, Name: "postgres"}

func printOf(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

// bubble runs a schedule in virtual time; every event is followed by a look, as
// the engine does.
func bubble(t *testing.T, f func(t *testing.T, s *schedule[answer], a *asked, look func() answer)) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newTestSchedule(), &asked{}
		ctx, cancel := context.WithCancel(t.Context())
		look := func() answer {
			got, err := s.get(t.Context(), checkID, printOf("question"), a.question)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		ended := make(chan error, 1)
		go func() { ended <- s.watch(ctx, func(reconcile.Event) { look() }) }()
		f(t, s, a, look)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Looking is free: the service is asked once, however often somebody looks, and
// again after minutes.
func TestAnswersAreKept(t *testing.T) {
	bubble(t, func(t *testing.T, _ *schedule[answer], a *asked, look func() answer) {
		for range 1000 {
			look()
		}
		if a.times.Load() != 1 {
			t.Errorf("asked %d times", a.times.Load())
		}
		time.Sleep(time.Hour)
		if a.times.Load() < 12 || a.times.Load() > 15 {
			t.Errorf("asked %d times in an hour", a.times.Load())
		}
	})
}

// A service that is away is asked more often at first, and less and less. When
// it is back that is seen without anybody doing anything.
func TestBadAnswersAreAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T, _ *schedule[answer], a *asked, look func() answer) {
		a.bad.Store(true)
		if look().trouble == nil {
			t.Error("a bad answer was not seen")
		}
		time.Sleep(35 * time.Second)
		if a.times.Load() != 2 {
			t.Errorf("asked %d times in half a minute", a.times.Load())
		}
		time.Sleep(time.Hour)
		if a.times.Load() < 14 || a.times.Load() > 22 {
			t.Errorf("asked %d times in an hour of trouble", a.times.Load())
		}
		a.bad.Store(false)
		time.Sleep(5 * time.Minute)
		before := a.times.Load()
		if look().trouble != nil || a.times.Load() != before {
			t.Error("that it is well again was not seen")
		}
	})
}

// Whoever looks at a bad answer gets a new one, but not in a storm of looks.
func TestABadAnswerIsRenewedByALook(t *testing.T) {
	bubble(t, func(t *testing.T, _ *schedule[answer], a *asked, look func() answer) {
		a.bad.Store(true)
		for range 100 {
			look()
		}
		time.Sleep(11 * time.Second)
		a.bad.Store(false)
		if look().trouble != nil || a.times.Load() != 2 {
			t.Errorf("asked %d times", a.times.Load())
		}
	})
}

// Another question is asked at once.
func TestANewQuestionIsAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, b := newTestSchedule(), &asked{}, &asked{}
		b.bad.Store(true)
		if got, err := s.get(t.Context(), checkID, printOf("a"), a.question); err != nil || got.trouble != nil {
			t.Error(got, err)
		}
		if got, err := s.get(t.Context(), checkID, printOf("b"), b.question); err != nil || got.trouble == nil {
			t.Error(got, err)
		}
		s.forget(checkID)
		if len(s.kept) != 0 {
			t.Error("an answer is kept that nobody wants")
		}
	})
}

// One who never answers holds up whoever looks for so long as one question may
// take, and then nobody: the answer is renewed behind their backs.
func TestAServiceThatNeverAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, s *schedule[answer], a *asked, look func() answer) {
		a.slow = time.Hour
		a.bad.Store(true)
		began := time.Now()
		look()
		if d := time.Since(began); d != s.pace.limit {
			t.Errorf("held up for %s", d)
		}
		began = time.Now()
		look()
		if d := time.Since(began); d != 0 {
			t.Errorf("held up again for %s", d)
		}
	})
}

// A look that is cut off says nothing of the service.
func TestACutLookIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newTestSchedule(), &asked{slow: time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.get(ctx, checkID, printOf("q"), a.question); err == nil {
			t.Error("no error")
		}
		if len(s.kept) != 0 {
			t.Error("it is kept")
		}
	})
}

// What nobody looks at any more is not asked for ever.
func TestAnswersThatNobodyLooksAtEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newTestSchedule(), &asked{}
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := s.get(ctx, checkID, printOf("q"), a.question); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.watch(ctx, func(reconcile.Event) {}) }()
		time.Sleep(24 * time.Hour)
		if a.times.Load() > 10 {
			t.Errorf("asked %d times", a.times.Load())
		}
		cancel()
		<-ended
	})
}
