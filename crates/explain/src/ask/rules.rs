//! The rules that a virtual host was made of, beside the routes that they became.

use lateen_pilot::{Condition, RuleFate, RuleTrace};
use lateen_route::Miss;
use lateen_xds::types::route as pb;

use super::Asker;
use crate::answer::{Candidate, Source};

/// The rules for a virtual host, in their order.
pub(super) struct Rules {
    rules: Vec<RuleTrace>,
    /// Those that have been told.
    told: Vec<bool>,
}

impl Rules {
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn rule(&self, at: usize) -> &RuleTrace {
        &self.rules[at]
    }

    /// The rule that became a route. A patch may have changed what the route does, so it is known by
    /// its name and its conditions; of several that are alike, the first comes first.
    pub(super) fn find(&mut self, route: &pb::Route) -> Option<usize> {
        let is_made = |rule: &RuleTrace| match &rule.fate {
            RuleFate::Route(made) => made.name == route.name && made.r#match == route.r#match,
            _ => false,
        };
        let mut places = 0..self.rules.len();
        let found = places.find(|at| !self.told[*at] && is_made(&self.rules[*at]))?;
        self.told[found] = true;
        Some(found)
    }
}

impl Asker<'_> {
    /// The rules for a virtual host of a table; none where nothing is known of them.
    pub(super) fn rules(&self, table: &str, host: &str) -> Rules {
        let offline = self.behind.offline;
        let rules = offline.map(|of| of.trace_routes(table, host));
        let rules = rules.unwrap_or_default();
        Rules {
            told: vec![false; rules.len()],
            rules,
        }
    }

    /// Those that did not become routes and stand before a rule, or anywhere; each is told once.
    pub(super) fn left_out(&self, rules: &mut Rules, before: Option<usize>) -> Vec<Candidate> {
        let end = before.unwrap_or(rules.rules.len());
        let mut all = Vec::new();
        for (rule, told) in rules.rules[..end].iter().zip(&mut rules.told) {
            let is_new = !std::mem::replace(told, true);
            if let Some(candidate) = self.kept_out(rule).filter(|_| is_new) {
                all.push(candidate);
            } else if is_new {
                // A route after all, which has its turn.
                *told = false;
            }
        }
        all
    }

    /// Why a rule did not become a route.
    fn kept_out(&self, rule: &RuleTrace) -> Option<Candidate> {
        let whole = || self.behind.sources(&rule.origins());
        let (why, from) = match &rule.fate {
            RuleFate::Route(_) => return None,
            RuleFate::Elsewhere { field, why } => {
                let origin = rule.elsewhere(field);
                let from = origin.map_or_else(whole, |of| vec![self.behind.source(&of)]);
                (why.clone(), from)
            }
            RuleFate::Nowhere => ("it leads nowhere".to_owned(), whole()),
            RuleFate::Behind => ("a rule before it is for all requests".to_owned(), whole()),
        };
        Some(Candidate {
            name: rule.name().to_owned(),
            why,
            from,
        })
    }

    /// Why a request does not take the route of a rule.
    pub(super) fn missed(
        &self,
        rule: Option<&RuleTrace>,
        miss: Miss<'_>,
        whole: impl FnOnce() -> Vec<Source>,
    ) -> Candidate {
        let condition = match &miss {
            Miss::Path(_) => Some(Condition::Path),
            Miss::Header(test) => Some(Condition::Header {
                name: test.name(),
                inverted: test.is_inverted(),
            }),
            Miss::Query(query) => Some(Condition::Query(&query.name)),
            Miss::Grpc | Miss::Fraction(_) => None,
        };
        let origin = rule
            .zip(condition)
            .and_then(|(rule, of)| rule.condition(of));
        let told = miss.told(self.call);
        let (why, from) = match origin {
            Some(origin) => (told, vec![self.behind.source(&origin)]),
            None => (format!("{}: {told}", miss.subject()), whole()),
        };
        Candidate {
            name: String::new(),
            why,
            from,
        }
    }
}
