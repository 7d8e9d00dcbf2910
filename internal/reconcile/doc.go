// Package reconcile is the engine: it turns resources and what providers
// observe of them into a plan, carries the plan out in the order of their
// needs, and does so again whenever something changes. It knows no provider.
package reconcile
