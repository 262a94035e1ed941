package suite

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// Version 4 has a stream for the outcome, as JSON.
const execProtocol = "v4.channel.k8s.io"

// translated is the configuration of a client whose requests go through this process: the suite runs
// commands in pods over SPDY, the local platform does so over WebSocket.
func translated(t *testing.T, config *rest.Config) *rest.Config {
	target, err := url.Parse(config.Host)
	require.NoError(t, err)
	transport, err := rest.TransportFor(config)
	require.NoError(t, err)
	others := httputil.NewSingleHostReverseProxy(target)
	others.Transport = transport
	others.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !httpstream.IsUpgradeRequest(r) {
			others.ServeHTTP(w, r)
			return
		}
		to := *target
		to.Path, to.RawQuery = r.URL.Path, r.URL.RawQuery
		exec(w, r, config, to.String())
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL, QPS: config.QPS, Burst: config.Burst}
}

func exec(w http.ResponseWriter, r *http.Request, config *rest.Config, to string) {
	if _, err := httpstream.Handshake(r, w, []string{execProtocol}); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// The client opens a stream for each of them before it waits for any.
	wanted := map[string]bool{core.StreamTypeError: true}
	for _, name := range []string{core.StreamTypeStdout, core.StreamTypeStderr} {
		if r.URL.Query().Get(name) == "true" {
			wanted[name] = true
		}
	}
	opened := make(chan httpstream.Stream, len(wanted))
	upgrader := spdy.NewResponseUpgrader()
	connection := upgrader.UpgradeResponse(w, r,
		func(stream httpstream.Stream, _ <-chan struct{}) error {
			opened <- stream
			return nil
		})
	if connection == nil {
		return
	}
	defer connection.Close()
	streams := map[string]httpstream.Stream{}
	for len(streams) < len(wanted) {
		select {
		case stream := <-opened:
			streams[stream.Headers().Get(core.StreamType)] = stream
		case <-time.After(time.Minute):
			return
		}
	}
	status := meta.Status{Status: meta.StatusSuccess}
	if err := run(r, config, to, streams); err != nil {
		status = meta.Status{Status: meta.StatusFailure, Message: err.Error()}
	}
	text, err := json.Marshal(status)
	if err == nil {
		_, _ = streams[core.StreamTypeError].Write(text)
	}
	for _, stream := range streams {
		_ = stream.Close()
	}
	// What was written must be read before the connection goes.
	select {
	case <-connection.CloseChan():
	case <-time.After(time.Second):
	}
}

func run(
	r *http.Request, config *rest.Config, to string, streams map[string]httpstream.Stream,
) error {
	executor, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet, to)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{}
	if out, ok := streams[core.StreamTypeStdout]; ok {
		options.Stdout = out
	}
	if err, ok := streams[core.StreamTypeStderr]; ok {
		options.Stderr = err
	}
	return executor.StreamWithContext(r.Context(), options)
}
