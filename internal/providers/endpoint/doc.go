// Package endpoint judges from outside whether an app serves: it finds the load
// balancer of a Service and asks there, the way everybody reaches the app. It is
// for platforms that have no probes. It makes nothing.
package endpoint
