//! How far a rolling update may go in one step. Pure.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// One ReplicaSet as the arithmetic sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// What it is told to have.
    pub(super) wanted: i32,
    /// What it has that is available.
    pub(super) available: i32,
}

/// The new sizes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) new: i32,
    /// In the order of the old sets given.
    pub(super) old: Vec<i32>,
}

/// Pods that may be there beyond, and lack from, the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    surge: i32,
    unavailable: i32,
}

impl Limits {
    /// Out of a deployment. Percentages of surge round up, of unavailability down; both zero would never move.
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let rolling = spec
            .strategy
            .clone()
            .unwrap_or_default()
            .rolling_update
            .unwrap_or_default();
        let surge = resolve(rolling.max_surge.as_ref(), replicas, true);
        let unavailable = resolve(rolling.max_unavailable.as_ref(), replicas, false);
        let unavailable = if surge == 0 && unavailable == 0 {
            1
        } else {
            unavailable
        };
        Self {
            surge,
            unavailable: unavailable.min(replicas),
        }
    }

    /// How many of the wanted pods may lack.
    pub(super) fn max_unavailable(self) -> i32 {
        self.unavailable
    }
}

fn resolve(value: Option<&IntOrString>, replicas: i32, up: bool) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return (*number).max(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(25),
        None => 25,
    };
    let scaled = i64::from(percent) * i64::from(replicas);
    let rounded = if up {
        (scaled + 99) / 100
    } else {
        scaled / 100
    };
    i32::try_from(rounded.max(0)).unwrap_or(i32::MAX / 2)
}

/// The next step from `new` and `old` towards `replicas` new pods.
pub(super) fn step(replicas: i32, limits: Limits, new: Set, old: &[Set]) -> Sizes {
    let old_wanted: i32 = old.iter().map(|set| set.wanted).sum();
    let room = (replicas + limits.surge - old_wanted - new.wanted).max(0);
    let new_size = if new.wanted > replicas {
        replicas
    } else {
        new.wanted + room.min(replicas - new.wanted)
    };
    let mut sizes: Vec<i32> = old.iter().map(|set| set.wanted).collect();
    // Old pods that serve nobody cost no availability; new ones that do not serve yet are not counted on.
    let min_available = replicas - limits.unavailable;
    let new_unavailable = new_size - new.available.min(new_size);
    let mut may_go = (old_wanted + new_size - min_available - new_unavailable).max(0);
    for (size, set) in sizes.iter_mut().zip(old) {
        let broken = (set.wanted - set.available).clamp(0, may_go);
        *size -= broken;
        may_go -= broken;
    }
    let available: i32 = new.available
        + old
            .iter()
            .map(|set| set.available.min(set.wanted))
            .sum::<i32>();
    let mut may_go = (available - min_available).clamp(0, may_go);
    for size in &mut sizes {
        let going = (*size).min(may_go);
        *size -= going;
        may_go -= going;
    }
    Sizes {
        new: new_size,
        old: sizes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn set(wanted: i32, available: i32) -> Set {
        Set { wanted, available }
    }

    #[test]
    fn limits_round_towards_safety() {
        let spec = |replicas| DeploymentSpec {
            replicas: Some(replicas),
            ..DeploymentSpec::default()
        };
        assert_eq!(
            Limits::of(&spec(1)),
            Limits {
                surge: 1,
                unavailable: 0
            }
        );
        assert_eq!(
            Limits::of(&spec(10)),
            Limits {
                surge: 3,
                unavailable: 2
            }
        );
        let huge = Limits::of(&spec(i32::MAX)).surge;
        assert!(huge > 0, "a percentage of very many overflows: {huge}");
    }

    #[test]
    fn one_replica_is_replaced_only_when_the_new_one_serves() {
        let limits = Limits {
            surge: 1,
            unavailable: 0,
        };
        assert_eq!(
            step(1, limits, set(0, 0), &[set(1, 1)]),
            Sizes {
                new: 1,
                old: vec![1]
            }
        );
        assert_eq!(
            step(1, limits, set(1, 0), &[set(1, 1)]),
            Sizes {
                new: 1,
                old: vec![1]
            }
        );
        assert_eq!(
            step(1, limits, set(1, 1), &[set(1, 1)]),
            Sizes {
                new: 1,
                old: vec![0]
            }
        );
    }

    #[test]
    fn broken_old_pods_go_first() {
        let limits = Limits {
            surge: 1,
            unavailable: 0,
        };
        assert_eq!(
            step(1, limits, set(1, 0), &[set(1, 0)]).old,
            [1],
            "nothing is below the minimum yet"
        );
        let limits = Limits {
            surge: 1,
            unavailable: 1,
        };
        assert_eq!(
            step(3, limits, set(1, 0), &[set(1, 0), set(2, 2)]).old,
            [0, 2]
        );
    }

    #[test]
    fn every_path_ends_with_new_pods_alone_and_never_breaks_the_limits() {
        for replicas in 1..7 {
            for limits in [
                Limits {
                    surge: 1,
                    unavailable: 0,
                },
                Limits {
                    surge: 0,
                    unavailable: 1,
                },
                Limits {
                    surge: 3,
                    unavailable: 2,
                },
            ] {
                let (mut new, mut old) = (set(0, 0), set(replicas, replicas));
                for _ in 0..50 {
                    let sizes = step(replicas, limits, new, &[old]);
                    old = set(sizes.old[0], sizes.old[0]);
                    assert!(new.available + old.available >= replicas - limits.unavailable);
                    assert!(sizes.new + old.wanted <= replicas + limits.surge);
                    new = set(sizes.new, sizes.new);
                }
                assert_eq!((new.wanted, old.wanted), (replicas, 0));
            }
        }
    }
}
