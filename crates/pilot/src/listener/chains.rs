//! Filter chains of several origins in one listener.
//!
//! Envoy refuses a listener in which two chains ask for the same, and it compares server names and
//! address ranges one by one. Users who share a port know nothing of each other, so that one of them
//! must not take the listener from all.

use lateen_xds::types::core::CidrRange;
use lateen_xds::types::listener::{FilterChain, FilterChainMatch};

/// Drops from each chain the server names and ranges that an earlier one asks for, and chains that
/// have nothing left. What comes with a chain stays with it.
pub(super) fn distinct<T>(
    chains: impl IntoIterator<Item = (T, FilterChain)>,
) -> Vec<(T, FilterChain)> {
    let mut taken = Vec::new();
    let mut kept = Vec::new();
    for (with, mut chain) in chains {
        let Some(mine) = what_is_free(chain.filter_chain_match.as_ref(), &taken) else {
            continue;
        };
        taken.extend(single(&mine));
        if let Some(matches) = chain.filter_chain_match.as_mut() {
            *matches = mine;
        }
        kept.push((with, chain));
    }
    kept
}

/// The part of a match that is not taken, `None` when there is no such part.
fn what_is_free(
    of: Option<&FilterChainMatch>,
    taken: &[FilterChainMatch],
) -> Option<FilterChainMatch> {
    let mut mine = of.cloned().unwrap_or_default();
    let is_free = |matches: &FilterChainMatch| !single(matches).iter().any(|m| taken.contains(m));
    if is_free(&mine) {
        return Some(mine);
    }
    let whole = mine.clone();
    // A name counts while it is free with one range at least, and then a range that is free with
    // all those names.
    mine.server_names.retain(|name| {
        let mut ranges = each(&whole.prefix_ranges).into_iter();
        ranges.any(|range| is_free(&narrowed(&whole, Some(name), range)))
    });
    let names = mine.server_names.clone();
    mine.prefix_ranges.retain(|range| {
        let mut names = each(&names).into_iter();
        names.all(|name| is_free(&narrowed(&whole, name, Some(range))))
    });
    let n_names = whole.server_names.len().min(1);
    let n_ranges = whole.prefix_ranges.len().min(1);
    let nothing = mine.server_names.len() < n_names || mine.prefix_ranges.len() < n_ranges;
    (!nothing && is_free(&mine)).then_some(mine)
}

/// A match with one name and one range for each combination.
fn single(of: &FilterChainMatch) -> Vec<FilterChainMatch> {
    let names = each(&of.server_names).into_iter();
    names
        .flat_map(|name| {
            let ranges = each(&of.prefix_ranges).into_iter();
            ranges.map(move |range| narrowed(of, name, range))
        })
        .collect()
}

fn narrowed(
    of: &FilterChainMatch,
    name: Option<&String>,
    range: Option<&CidrRange>,
) -> FilterChainMatch {
    FilterChainMatch {
        server_names: name.cloned().into_iter().collect(),
        prefix_ranges: range.cloned().into_iter().collect(),
        ..of.clone()
    }
}

/// The items, or once nothing where there are none.
fn each<T>(items: &[T]) -> Vec<Option<&T>> {
    if items.is_empty() {
        return vec![None];
    }
    items.iter().map(Some).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Match<'a> = (&'a [&'a str], &'a [&'a str]);

    fn chain((names, ranges): &Match<'_>) -> FilterChain {
        let range = |address: &&str| CidrRange {
            address_prefix: (*address).to_owned(),
            ..CidrRange::default()
        };
        let matches = FilterChainMatch {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            prefix_ranges: ranges.iter().map(range).collect(),
            ..FilterChainMatch::default()
        };
        FilterChain {
            filter_chain_match: (matches != FilterChainMatch::default()).then_some(matches),
            ..FilterChain::default()
        }
    }

    #[test]
    fn the_first_one_counts() {
        let check = |chains: &[Match<'_>], want: &[Match<'_>]| {
            let found = distinct(chains.iter().map(|of| ((), chain(of))));
            let want: Vec<_> = want.iter().map(|of| ((), chain(of))).collect();
            assert_eq!(found, want, "{chains:?}");
        };
        check(&[(&[], &[]), (&[], &[])], &[(&[], &[])]);
        check(&[(&["a"], &[]), (&[], &[])], &[(&["a"], &[]), (&[], &[])]);
        check(
            &[(&["a", "b"], &[]), (&["b", "c"], &[]), (&["c", "a"], &[])],
            &[(&["a", "b"], &[]), (&["c"], &[])],
        );
        check(
            &[(&[], &["1", "2"]), (&[], &["2", "3"])],
            &[(&[], &["1", "2"]), (&[], &["3"])],
        );
        check(
            &[(&["a"], &["1"]), (&["a"], &["2"]), (&["a"], &["1", "2"])],
            &[(&["a"], &["1"]), (&["a"], &["2"])],
        );
        check(
            &[(&["a"], &["1"]), (&["a", "b"], &["1", "2"])],
            &[(&["a"], &["1"]), (&["a", "b"], &["2"])],
        );
    }
}
