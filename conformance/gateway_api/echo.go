//go:build echo

// Keeps the suite's echo server, which is built beside its tests, in the list of what is needed.
package suite

import _ "sigs.k8s.io/gateway-api/conformance/echo-basic"
