package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"forged.dev/forged/internal/server"
)

func newApprove(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "approve TOKEN",
		Short: "Let the running forged destroy the data that a step names",
		Long: `Tell the forged that runs on this machine that a step may destroy the data that it
names. forged plan and forged status show such a step as blocked, with what would be
lost and with its token. A token is good for this step as it was planned, once.

It needs policy.destroyData: "with-token" in forge.cue. Without a daemon use
forged run --once --approve TOKEN.`,
		Example: `  forged status
  forged approve 3fa9c1d27b04`,
		Args: cobra.ExactArgs(1),
	}
	var address string
	c.Flags().StringVar(&address, "address", server.DefaultAddress, "where forged run listens")
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
		defer cancel()
		answer, err := approve(ctx, address, args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, answer)
		return err
	}
	return c
}

func approve(ctx context.Context, address, token string) (string, error) {
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/-/approve", form)
	if err != nil {
		return "", fmt.Errorf("--address %q: %w; want host:port", address, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", unanswered(address, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read the answer from %s: %w", address, err)
	}
	answer := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("not approved: %s", fit(strings.TrimPrefix(answer, "approve: "), 400))
	}
	return answer, nil
}
