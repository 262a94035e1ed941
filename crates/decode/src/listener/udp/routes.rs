//! The tree by which datagrams find their cluster. Of all that a tree can be, a list of single tests
//! of addresses is understood; the rest is refused.

use arcstr::ArcStr;
use lateen_route::{
    DatagramPart, DatagramRoutes, DatagramRule, DatagramTest, StringMatch, StringTest,
};
use lateen_xds::types::matching::matcher::matcher_list::FieldMatcher;
use lateen_xds::types::matching::matcher::matcher_list::predicate::{
    MatchType, SinglePredicate, single_predicate::Matcher as Test,
};
use lateen_xds::types::matching::matcher::{MatcherType, OnMatch, on_match};
use lateen_xds::types::matching::{
    Matcher, RuntimeFraction, StringMatcher, TypedExtensionConfig, string_matcher::MatchPattern,
};
use lateen_xds::types::udp::Route;
use lateen_xds::{Any, TypeUrl};

use crate::common::fraction;
use crate::{DecodeError, Result, typed};

const INPUTS: &str = "envoy.extensions.matching.common_inputs.network.v3.";
const ROUTE: &str = "envoy.extensions.filters.udp.udp_proxy.v3.Route";
const SHARE: &str = "envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction";

/// Compiles it.
pub(super) fn routes(field: &str, spec: &Matcher) -> Result<DatagramRoutes> {
    let rules = match &spec.matcher_type {
        None => Vec::new(),
        Some(MatcherType::MatcherList(list)) => {
            let rule = |(n, of): (usize, &FieldMatcher)| {
                rule(&format!("{field}.matcher_list.matchers[{n}]"), of)
            };
            list.matchers
                .iter()
                .enumerate()
                .map(rule)
                .collect::<Result<_>>()?
        }
        Some(MatcherType::MatcherTree(_)) => {
            return Err(DecodeError::unsupported(
                format!("{field}.matcher_tree"),
                "a map of values",
            ));
        }
    };
    let otherwise = spec.on_no_match.as_deref();
    let otherwise = otherwise.map(|to| cluster(&format!("{field}.on_no_match"), to));
    Ok(DatagramRoutes {
        rules,
        otherwise: otherwise.transpose()?,
    })
}

fn rule(field: &str, spec: &FieldMatcher) -> Result<DatagramRule> {
    let predicate = spec
        .predicate
        .as_ref()
        .and_then(|of| of.match_type.as_ref());
    let at = format!("{field}.predicate");
    let single = match predicate {
        Some(MatchType::SinglePredicate(single)) => single,
        Some(_) => return Err(DecodeError::unsupported(at, "a combination of tests")),
        None => return Err(DecodeError::new(at, "is required")),
    };
    let to = spec.on_match.as_ref();
    let to = to.ok_or_else(|| DecodeError::new(format!("{field}.on_match"), "is required"))?;
    Ok(DatagramRule {
        part: part(&format!("{at}.input"), single)?,
        test: test(&at, single)?,
        cluster: cluster(&format!("{field}.on_match"), to)?,
    })
}

fn part(field: &str, spec: &SinglePredicate) -> Result<DatagramPart> {
    let any = packed(field, spec.input.as_ref())?;
    let kind = TypeUrl::new(&any.type_url);
    match kind.message().strip_prefix(INPUTS) {
        Some("SourceIPInput") => Ok(DatagramPart::SourceIp),
        Some("SourcePortInput") => Ok(DatagramPart::SourcePort),
        Some("DestinationIPInput") => Ok(DatagramPart::DestinationIp),
        Some("DestinationPortInput") => Ok(DatagramPart::DestinationPort),
        _ => {
            let what = format!("the input {}", kind.message());
            Err(DecodeError::unsupported(field, what))
        }
    }
}

fn test(field: &str, spec: &SinglePredicate) -> Result<DatagramTest> {
    match &spec.matcher {
        Some(Test::ValueMatch(text)) => {
            let field = format!("{field}.value_match");
            let pattern = pattern(&field, text)?;
            let test = StringTest::new(&field, pattern, text.ignore_case)?;
            Ok(DatagramTest::Text(test))
        }
        Some(Test::CustomMatch(custom)) => {
            let field = format!("{field}.custom_match");
            let any = packed(&field, Some(custom))?;
            let kind = TypeUrl::new(&any.type_url);
            if kind.message() != SHARE {
                let what = format!("the matcher {}", kind.message());
                return Err(DecodeError::unsupported(field, what));
            }
            let share: RuntimeFraction = typed(&field, any)?;
            let of = share.runtime_fraction.as_ref();
            let of = of.ok_or_else(|| DecodeError::new(&field, "has no runtime_fraction"))?;
            Ok(DatagramTest::Share {
                of: fraction(of.default_value.as_ref()),
                seed: share.seed,
            })
        }
        None => Err(DecodeError::new(field, "tests nothing")),
    }
}

fn pattern(field: &str, spec: &StringMatcher) -> Result<StringMatch> {
    match &spec.match_pattern {
        Some(MatchPattern::Exact(text)) => Ok(StringMatch::Exact(text.clone())),
        Some(MatchPattern::Prefix(text)) => Ok(StringMatch::Prefix(text.clone())),
        Some(MatchPattern::Suffix(text)) => Ok(StringMatch::Suffix(text.clone())),
        Some(MatchPattern::Contains(text)) => Ok(StringMatch::Contains(text.clone())),
        Some(MatchPattern::SafeRegex(regex)) => Ok(StringMatch::Regex(regex.regex.clone())),
        Some(MatchPattern::Custom(_)) => {
            Err(DecodeError::unsupported(field, "this string matcher"))
        }
        None => Err(DecodeError::new(field, "has no pattern")),
    }
}

fn cluster(field: &str, spec: &OnMatch) -> Result<ArcStr> {
    if spec.keep_matching {
        return Err(DecodeError::unsupported(
            format!("{field}.keep_matching"),
            "going on after a match",
        ));
    }
    let action = match &spec.on_match {
        Some(on_match::OnMatch::Action(action)) => action,
        Some(on_match::OnMatch::Matcher(_)) => {
            return Err(DecodeError::unsupported(field, "a tree within a tree"));
        }
        None => return Err(DecodeError::new(field, "has no action")),
    };
    let any = packed(field, Some(action))?;
    let kind = TypeUrl::new(&any.type_url);
    if kind.message() != ROUTE {
        let what = format!("the action {}", kind.message());
        return Err(DecodeError::unsupported(field, what));
    }
    let route: Route = typed(field, any)?;
    if route.cluster.is_empty() {
        return Err(DecodeError::new(field, "names no cluster"));
    }
    Ok(route.cluster.into())
}

fn packed<'a>(field: &str, config: Option<&'a TypedExtensionConfig>) -> Result<&'a Any> {
    let any = config.and_then(|config| config.typed_config.as_ref());
    any.ok_or_else(|| DecodeError::new(field, "has no typed config"))
}
