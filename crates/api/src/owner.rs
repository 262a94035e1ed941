//! What made a pod, as whoever wrote it knows it: a Deployment and not its ReplicaSet, whose name is
//! another with every change. Telemetry names workloads by it, so the injector, which tells a proxy its
//! name, and the registry, which names endpoints, go by the same.

use crate::labels::{DEPLOYMENT_CONFIG, POD_TEMPLATE_HASH, ROLLOUT_HASH};

/// Digits of the time that ends the name of a CronJob's Job: minutes since 1970, or seconds before
/// Kubernetes 1.21.
const TIME_DIGITS: std::ops::RangeInclusive<usize> = 8..=10;
/// Minutes from 1970 to 2019. Whoever ends a Job's name with a date, `20261126`, writes less.
const TIME_MIN: u64 = 26_000_000;

/// A controller, by the fields that references to owners have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker<'a> {
    /// `apps/v1`, or `v1` for what is in the core group.
    pub api_version: &'a str,
    /// `Deployment`.
    pub kind: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Maker<'a> {
    /// What stands behind a pod's controller, by its name and the pod's labels; else the controller.
    #[must_use]
    pub fn behind(self, label: impl Fn(&str) -> Option<&'a str>) -> Self {
        let before = |key: &str| self.name.strip_suffix(label(key)?)?.strip_suffix('-');
        let (api_version, kind, name) = match self.kind {
            "ReplicaSet" => match (before(POD_TEMPLATE_HASH), before(ROLLOUT_HASH)) {
                (Some(name), _) => (self.api_version, "Deployment", name),
                (None, Some(name)) => ("argoproj.io/v1alpha1", "Rollout", name),
                (None, None) => return self,
            },
            "ReplicationController" => match label(DEPLOYMENT_CONFIG) {
                Some(name) if is_numbered(self.name, name) => {
                    ("apps.openshift.io/v1", "DeploymentConfig", name)
                }
                _ => return self,
            },
            "Job" => match before_time(self.name) {
                Some(name) => ("batch/v1", "CronJob", name),
                None => return self,
            },
            _ => return self,
        };
        Self {
            api_version,
            kind,
            name,
        }
    }
}

/// `name-12`.
fn is_numbered(text: &str, name: &str) -> bool {
    let rest = text.strip_prefix(name);
    let number = rest.and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn before_time(job: &str) -> Option<&str> {
    let (name, time) = job.rsplit_once('-')?;
    let is_time = TIME_DIGITS.contains(&time.len()) && time.parse::<u64>().ok()? >= TIME_MIN;
    (is_time && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_is_passed_over() {
        type Parts = [&'static str; 3];
        let maker = |[api_version, kind, name]: Parts| Maker {
            api_version,
            kind,
            name,
        };
        let check = |of: Parts, label: (&str, &'static str), want: Parts| {
            let found = maker(of).behind(|key| (key == label.0).then_some(label.1));
            assert_eq!(found, maker(want));
        };
        let hash = ("pod-template-hash", "77bb");
        let set = ["apps/v1", "ReplicaSet", "a-77bb"];
        check(set, hash, ["apps/v1", "Deployment", "a"]);
        check(set, ("pod-template-hash", "88cc"), set);
        let hash = ("rollouts-pod-template-hash", "77bb");
        check(set, hash, ["argoproj.io/v1alpha1", "Rollout", "a"]);
        let replicas = ["v1", "ReplicationController", "a-3"];
        let label = ("deploymentconfig", "a");
        let config = ["apps.openshift.io/v1", "DeploymentConfig", "a"];
        check(replicas, label, config);
        check(replicas, ("app", "a"), replicas);
        let other = ["v1", "ReplicationController", "a-b"];
        check(other, label, other);
        let none = ("", "");
        let cron = ["batch/v1", "CronJob", "tick"];
        check(["batch/v1", "Job", "tick-29681234"], none, cron);
        check(["batch/v1", "Job", "tick-1608012345"], none, cron);
        for name in [
            "tick",
            "tick-1",
            "tick-20261126",
            "tick-2968123x",
            "29681234",
        ] {
            check(["batch/v1", "Job", name], none, ["batch/v1", "Job", name]);
        }
        let plain = ["apps/v1", "StatefulSet", "a-77bb"];
        check(plain, hash, plain);
    }
}
