//! The simulation table: configuration, then a call, then what is to come of it.
//!
//! `table/platform.yaml` is the platform of all files beside it; each of those has a configuration and
//! cases. The cases run three ways: on what `explain` asks, which is the code of the proxy without its
//! sockets; through our proxy; and through Envoy, the judge of what the configuration means. Nothing
//! is skipped silently: a case that no socket can show says `routeOnly` and why, in a word.

mod backend;
mod client;
mod compare;
mod expect;
mod mutations;
mod proxies;
mod table;
mod through;

use std::collections::BTreeMap;

use crate::proxies::Kind;
use crate::table::Group;

/// The domain of the cluster's services.
const DOMAIN: &str = "cluster.local";

/// The least number of cases: losing some must be noticed.
const LEAST: usize = 400;

#[test]
fn on_route_alone() {
    let (mut n_cases, mut faults) = (0, Vec::new());
    for group in Group::all() {
        for case in &group.cases {
            n_cases += 1;
            let told = group.ask(case).map(|asked| (asked.call, asked.told));
            let judged = told.and_then(|(call, told)| {
                let judged = expect::judge(&case.spec, &call, &told);
                judged.map_err(|fault| format!("{fault}\n{told}"))
            });
            if let Err(fault) = judged {
                faults.push(format!("{}: {}: {fault}", group.file, case.name));
            }
        }
    }
    finish("on route alone", n_cases, &BTreeMap::new(), &faults);
    assert!(n_cases >= LEAST, "{n_cases} cases");
}

#[test]
fn through_our_proxy() {
    through("through our proxy", &Kind::Ours);
}

#[test]
fn through_envoy() {
    if let Some(envoy) = lateen_testkit::find_envoy("the table through Envoy") {
        through("through Envoy", &Kind::Envoy(envoy));
    }
}

fn through(how: &str, kind: &Kind) {
    let (mut n_cases, mut faults) = (0, Vec::new());
    let mut passed_over = BTreeMap::new();
    let only = std::env::var("SIMULATION").unwrap_or_default();
    for group in Group::all() {
        if !group.file.contains(&only) {
            continue;
        }
        for case in &group.cases {
            if let Some(why) = &case.route_only {
                *passed_over.entry(why.clone()).or_insert(0) += 1;
            } else {
                n_cases += 1;
            }
        }
        let found = through::run(kind, &group).into_iter();
        faults.extend(found.map(|fault| format!("{}: {fault}", group.file)));
    }
    finish(how, n_cases, &passed_over, &faults);
}

#[allow(clippy::print_stdout, reason = "figures for who runs the test")]
fn finish(how: &str, n_cases: usize, passed_over: &BTreeMap<String, usize>, faults: &[String]) {
    println!("{n_cases} cases {how}, {} failed", faults.len());
    for (why, count) in passed_over {
        println!("{count} cases not {how}: {why}");
    }
    assert!(faults.is_empty(), "{how}:\n{}", faults.join("\n"));
}
