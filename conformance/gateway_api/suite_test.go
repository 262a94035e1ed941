// Runs the public conformance suite of the Gateway API, and says for each profile what came of it.

package suite

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
	v1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

var (
	mesh    = flag.Bool("mesh", false, "run the profiles of the mesh instead of those of gateways")
	usable  = flag.String("usable", "", "an address that a gateway can have")
	summary = flag.String("summary", "", "the file that the summary is written to")
)

// An address for documentation (RFC 5737), which no platform has.
const unusable = "192.0.2.1"

func address(value string) v1.GatewaySpecAddress {
	kind := v1.IPAddressType
	return v1.GatewaySpecAddress{Type: &kind, Value: value}
}

// No object of the standard channel says what the mesh can do; docs/gateway-api.md does.
var meshFeatures = []features.FeatureName{
	features.SupportMesh,
	features.SupportHTTPRoute,
	features.SupportGRPCRoute,
	features.SupportHTTPRouteResponseHeaderModification,
	features.SupportHTTPRoute303RedirectStatusCode,
	features.SupportHTTPRoute307RedirectStatusCode,
	features.SupportHTTPRoute308RedirectStatusCode,
	features.SupportMeshConsumerRoute,
	features.SupportMeshHTTPRouteBackendRequestHeaderModification,
	features.SupportMeshHTTPRouteNamedRouteRule,
	features.SupportMeshHTTPRouteQueryParamMatching,
	features.SupportMeshHTTPRouteRedirectPath,
	features.SupportMeshHTTPRouteRedirectPort,
	features.SupportMeshHTTPRouteRewritePath,
	features.SupportMeshHTTPRouteSchemeRedirect,
}

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	profiles := []suite.ConformanceProfile{
		suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile,
		suite.GatewayTLSConformanceProfile, suite.GatewayTCPConformanceProfile,
		suite.GatewayUDPConformanceProfile,
	}
	options.GatewayClassName = "istio"
	if *mesh {
		profiles = []suite.ConformanceProfile{
			suite.MeshHTTPConformanceProfile, suite.MeshGRPCConformanceProfile,
		}
		options.SupportedFeatures = meshFeatures
		options.RestConfig = translated(t, options.RestConfig)
		options.NamespaceLabels = map[string]string{"istio-injection": "enabled"}
	} else {
		options.SupportedFeatures = classFeatures(t, options)
		options.UsableNetworkAddresses = []v1.GatewaySpecAddress{address(*usable)}
		options.UnusableNetworkAddresses = []v1.GatewaySpecAddress{address(unusable)}
	}
	outcomes := map[string]outcome{}
	options.Hook = func(t *testing.T, test suite.ConformanceTest, s *suite.ConformanceTestSuite) {
		outcomes[test.ShortName] = outcomeOf(t, test, s)
	}
	s, err := suite.NewConformanceTestSuite(options)
	require.NoError(t, err)
	t.Cleanup(func() {
		text := ""
		for _, profile := range profiles {
			text += describe(profile, s, outcomes)
		}
		text += describeOthers(profiles, outcomes)
		fmt.Print(text)
		if *summary != "" {
			require.NoError(t, os.WriteFile(*summary, []byte(text), 0o600))
		}
	})
	s.Setup(t, tests.ConformanceTests)
	require.NoError(t, s.Run(t, tests.ConformanceTests))
}

// classFeatures are those that the GatewayClass declares.
func classFeatures(t *testing.T, options suite.ConformanceOptions) []features.FeatureName {
	var names []features.FeatureName
	require.Eventually(t, func() bool {
		class := v1.GatewayClass{}
		key := client.ObjectKey{Name: options.GatewayClassName}
		if err := options.Client.Get(t.Context(), key, &class); err != nil {
			return false
		}
		for _, feature := range class.Status.SupportedFeatures {
			names = append(names, features.FeatureName(feature.Name))
		}
		return len(names) > 0
	}, time.Minute, time.Second, "the GatewayClass declares no features")
	return names
}

type outcome int

const (
	passed outcome = iota
	failed
	unsupported
	skipped
)

func outcomeOf(t *testing.T, test suite.ConformanceTest, s *suite.ConformanceTestSuite) outcome {
	switch {
	case t.Failed():
		return failed
	case !s.SupportedFeatures.HasAll(test.Features...):
		return unsupported
	case t.Skipped():
		return skipped
	}
	return passed
}

// isOf holds for tests that need nothing but what the profile has.
func isOf(test suite.ConformanceTest, profile suite.ConformanceProfile) bool {
	return profile.CoreFeatures.Union(profile.ExtendedFeatures).HasAll(test.Features...)
}

// describe says how many tests of a profile passed, and names all others.
func describe(
	profile suite.ConformanceProfile, s *suite.ConformanceTestSuite, outcomes map[string]outcome,
) string {
	all := profile.CoreFeatures.Union(profile.ExtendedFeatures)
	names := map[bool]map[outcome][]string{true: {}, false: {}}
	for _, test := range tests.ConformanceTests {
		result, ran := outcomes[test.ShortName]
		if !ran {
			// The suite ended before it.
			result = failed
		}
		if isOf(test, profile) {
			core := profile.CoreFeatures.HasAll(test.Features...)
			names[core][result] = append(names[core][result], test.ShortName)
		}
	}
	text := fmt.Sprintf("%s\n", profile.Name)
	for _, part := range []struct {
		name string
		core bool
	}{{"core", true}, {"extended", false}} {
		of := names[part.core]
		text += fmt.Sprintf("  %-9s %d passed, %d failed, %d unsupported, %d skipped\n", part.name,
			len(of[passed]), len(of[failed]), len(of[unsupported]), len(of[skipped]))
		for _, other := range []struct {
			name string
			of   outcome
		}{{"failed", failed}, {"unsupported", unsupported}, {"skipped", skipped}} {
			if list := of[other.of]; len(list) > 0 {
				slices.Sort(list)
				text += fmt.Sprintf("    %s: %s\n", other.name, strings.Join(list, ", "))
			}
		}
	}
	if missing := all.Difference(s.SupportedFeatures); missing.Len() > 0 {
		list := missing.UnsortedList()
		slices.Sort(list)
		text += fmt.Sprintf("  features that are not supported: %s\n", join(list))
	}
	return text
}

// describeOthers names the tests that ran although no profile has all of their features.
func describeOthers(profiles []suite.ConformanceProfile, outcomes map[string]outcome) string {
	text := ""
	for _, test := range tests.ConformanceTests {
		in := func(profile suite.ConformanceProfile) bool { return isOf(test, profile) }
		result, ran := outcomes[test.ShortName]
		if !ran || result == unsupported || slices.ContainsFunc(profiles, in) {
			continue
		}
		word := map[outcome]string{passed: "passed", failed: "failed", skipped: "skipped"}[result]
		text += fmt.Sprintf("of no profile: %s %s\n", test.ShortName, word)
	}
	return text
}

func join(list []features.FeatureName) string {
	texts := make([]string, len(list))
	for n, name := range list {
		texts[n] = string(name)
	}
	return strings.Join(texts, ", ")
}
