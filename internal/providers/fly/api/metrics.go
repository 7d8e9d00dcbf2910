package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"time"
)

// Sample is a value of a metric.
type Sample struct {
	Labels map[string]string
	At     time.Time
	Value  float64
}

// UnmarshalJSON implements json.Unmarshaler: Prometheus writes {"metric",
// "value":[seconds,"value"]}.
func (s *Sample) UnmarshalJSON(b []byte) error {
	var f struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	seconds, ok := f.Value[0].(float64)
	text, also := f.Value[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	if !ok || !also || err != nil {
		return errors.New("a sample has no value")
	}
	*s = Sample{f.Metric, time.Unix(0, int64(seconds*1e9)).UTC(), value}
	return nil
}

// Query asks an organization's metrics, in the language of Prometheus, for
// their values now.
func (c *Client) Query(ctx context.Context, org, expression string) ([]Sample, error) {
	reply, err := get[data[struct {
		Result []Sample `json:"result"`
	}]](ctx, c, request{
		service: prometheus, action: "metrics.query", ident: org,
		path: "/prometheus/" + segment(org) + "/api/v1/query", query: url.Values{"query": {expression}},
	})
	return reply.Data.Result, err
}
