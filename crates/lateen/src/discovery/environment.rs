//! What the control plane is told by its environment. The names are Istio's.

use std::time::Duration;

use anyhow::{anyhow, bail};
use lateen_citadel::CaOptions;
use lateen_install::flag;
use lateen_pilot::Registering;
use tracing::warn;

use super::options::duration;

/// What may be set by variables alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Environment {
    /// Validity of a workload's certificate when the request names none.
    pub(super) default_ttl: Duration,
    /// The longest validity that a request may ask for.
    pub(super) max_ttl: Duration,
    /// Whether workloads may register themselves.
    pub(super) registers: bool,
    /// How long a workload may be away before its entry is removed.
    pub(super) grace: Duration,
    /// Whether the Gateway API's objects are read.
    pub(super) gateway_api: bool,
    /// Whether they are told what became of them.
    pub(super) gateway_statuses: bool,
    /// Whether what Gateways run on is made.
    pub(super) gateway_deployments: bool,
    /// Whether their class is declared.
    pub(super) gateway_class: bool,
    /// Whether debug pages are served without TLS.
    pub(super) debug_pages: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Self::of(&|_| None).expect("nothing is set that could be wrong")
    }
}

impl Environment {
    /// What this process was started with.
    ///
    /// # Errors
    /// A variable that cannot be understood: none of them may mean something else than was meant.
    pub(super) fn read() -> anyhow::Result<Self> {
        // What is no text is no variable of ours.
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        for (name, value) in texts {
            if lateen_install::is_unread(&name, &value) {
                warn!(name, "this variable is not supported and has no effect");
            }
        }
        Self::of(&|name| std::env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let set = |name: &str| variable(name).filter(|text| !text.is_empty());
        let is_on = |name: &str| match set(name) {
            Some(text) => {
                flag(&text).ok_or_else(|| anyhow!("{name}={text}: is neither true nor false"))
            }
            None => Ok(true),
        };
        let span = |name: &str| match set(name) {
            Some(text) => match duration(&text) {
                Ok(span) if !span.is_zero() => Ok(Some(span)),
                Ok(_) => Err(anyhow!("{name}={text}: must be longer than nothing")),
                Err(error) => Err(anyhow!("{name}={text}: {error}; write it like 24h or 90s")),
            },
            None => Ok(None),
        };
        let usual = CaOptions::default();
        let max_ttl = span("MAX_WORKLOAD_CERT_TTL")?.unwrap_or(usual.max_ttl);
        let asked = span("DEFAULT_WORKLOAD_CERT_TTL")?;
        if asked.is_some_and(|asked| asked > max_ttl) {
            bail!(
                "DEFAULT_WORKLOAD_CERT_TTL is longer than MAX_WORKLOAD_CERT_TTL; make one fit the other"
            );
        }
        let gateway_api = is_on("PILOT_ENABLE_GATEWAY_API")?;
        Ok(Environment {
            default_ttl: asked.unwrap_or(usual.default_ttl.min(max_ttl)),
            max_ttl,
            registers: is_on("PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION")?,
            grace: span("PILOT_WORKLOAD_ENTRY_GRACE_PERIOD")?.unwrap_or(Registering::GRACE),
            gateway_api,
            gateway_statuses: gateway_api && is_on("PILOT_ENABLE_GATEWAY_API_STATUS")?,
            gateway_deployments: gateway_api
                && is_on("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER")?,
            gateway_class: gateway_api
                && is_on("PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER")?,
            debug_pages: is_on("ENABLE_DEBUG_ON_HTTP")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> anyhow::Result<Environment> {
        Environment::of(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_say_what_they_say_to_istio() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        let nothing = of(&[]).expect("it is understood");
        assert_eq!(
            (nothing.default_ttl, nothing.max_ttl),
            (hours(24), hours(90 * 24))
        );
        assert!(nothing.gateway_api && nothing.registers && nothing.debug_pages);
        let some = of(&[
            ("MAX_WORKLOAD_CERT_TTL", "2h"),
            ("PILOT_WORKLOAD_ENTRY_GRACE_PERIOD", "1m"),
            ("PILOT_ENABLE_GATEWAY_API", "false"),
            ("PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", "0"),
            ("ENABLE_DEBUG_ON_HTTP", "F"),
        ]);
        let some = some.expect("it is understood");
        assert_eq!((some.default_ttl, some.max_ttl), (hours(2), hours(2)));
        assert_eq!(some.grace, Duration::from_secs(60));
        assert!(!some.registers && !some.debug_pages);
        assert!(!some.gateway_api && !some.gateway_statuses);
        assert!(!some.gateway_deployments && !some.gateway_class);
        let classless = of(&[("PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER", "false")]);
        let classless = classless.expect("it is understood");
        assert!(classless.gateway_deployments && !classless.gateway_class);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = |variables: &[(&str, &str)], reason: &str| {
            let error = of(variables).expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        };
        refused(
            &[("ENABLE_DEBUG_ON_HTTP", "no")],
            "ENABLE_DEBUG_ON_HTTP=no: is neither",
        );
        refused(
            &[("MAX_WORKLOAD_CERT_TTL", "1")],
            "MAX_WORKLOAD_CERT_TTL=1: ",
        );
        refused(&[("MAX_WORKLOAD_CERT_TTL", "0s")], "longer than nothing");
        let both = [
            ("DEFAULT_WORKLOAD_CERT_TTL", "3h"),
            ("MAX_WORKLOAD_CERT_TTL", "2h"),
        ];
        refused(&both, "make one fit the other");
    }
}
