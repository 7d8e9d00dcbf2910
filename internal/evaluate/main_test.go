package evaluate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/schema"
)

// TestMain is a child's side when this binary is started as a child of one.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		// The race detector would have every child wait for a second.
		if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
			panic(err)
		}
		goleak.VerifyTestMain(m)
		return
	}
	if err := Serve(context.Background(), os.Stdin, os.Stdout, play); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// play is schema.Load, but for texts that ask for something else.
func play(ctx context.Context, src schema.Source) (*forge.Forge, schema.Diagnostics, error) {
	trick, ok := strings.CutPrefix(string(src.Files[0].Data), "test: ")
	if !ok {
		return schema.Load(ctx, src)
	}
	switch trick {
	case "hang":
		select {}
	case "overflow":
		debug.SetMaxStack(1 << 20)
		return nil, nil, fmt.Errorf("%d", overflow(1))
	case "panic":
		lost := make(chan bool)
		go func() { panic("a bug") }() // where nobody recovers from it
		<-lost
	case "exit":
		os.Exit(7)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "one step":
		return nil, nil, errors.New(strconv.Itoa(len(make([]byte, 1<<40))))
	case "grow":
		var all [][]byte
		for {
			all = append(all, make([]byte, 1<<20))
			clear(all[len(all)-1])
		}
	case "chatter":
		_, err := os.Stdout.WriteString("here I am\n")
		return &forge.Forge{}, nil, err
	case "large":
		return &forge.Forge{App: forge.App{Name: strings.Repeat("x", 1<<20)}}, nil, nil
	case "environment":
		return nil, nil, errors.New(strings.Join(os.Environ(), " "))
	case "error":
		return nil, nil, errors.New("something else is wrong")
	}
	return nil, nil, errors.New("unknown trick " + trick)
}

func overflow(n int) int {
	var room [64]int
	room[n%64] = n
	if n < 0 {
		return 0 // never
	}
	return overflow(n+1) + room[(n+1)%64]
}

func text(s string) schema.Source {
	return schema.Source{Files: []schema.File{{Name: "forge.cue", Data: []byte(s)}}}
}
