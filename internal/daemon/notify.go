package daemon

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Notifier talks to the service manager over systemd's notification socket.
// The zero value talks to nobody, which is what it is outside of systemd.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// NewNotifier reads where and how often the service manager wants to hear of
// this process (sd_notify(3), sd_watchdog_enabled(3)). getenv is os.Getenv.
func NewNotifier(getenv func(string) string) Notifier {
	n := Notifier{socket: getenv("NOTIFY_SOCKET")}
	if n.socket == "" {
		return n
	}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n // meant for another process
	}
	if us, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && us > 0 {
		n.watchdog = time.Duration(us) * time.Microsecond
	}
	return n
}

// Watchdog is how long the service manager waits for a sign of life before it
// kills the process; 0: it does not.
func (n Notifier) Watchdog() time.Duration { return n.watchdog }

// Ready says that the service is up, or up to date again after Reloading.
func (n Notifier) Ready(status string) error { return n.send("READY=1", "STATUS="+status) }

// Reloading says that the configuration is being loaded again.
func (n Notifier) Reloading() error { return n.send("RELOADING=1", "STATUS=loading the configuration") }

// Stopping says that the service is going down.
func (n Notifier) Stopping() error { return n.send("STOPPING=1", "STATUS=finishing what is under way") }

// Alive is the sign of life the watchdog waits for.
func (n Notifier) Alive() error { return n.send("WATCHDOG=1") }

// send writes one datagram. Go reads a leading @ as the abstract namespace,
// just as systemd means it.
func (n Notifier) send(lines ...string) error {
	if n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
