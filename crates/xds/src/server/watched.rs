//! What one client asks for of one type and what it was sent. No I/O.

use super::name::Name;
use super::plan::Group;
use super::protocol::Wants;
use super::resource::NameSet;
use super::versions::{Change, Entry, Versions};
use crate::TypeUrl;

const EVERYTHING: &str = "*";

/// State of one type on one stream. What it knows by name it shares with all streams that know the
/// same.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) wildcard: bool,
    pub(super) names: NameSet,
    /// What the client has, or was sent, by name.
    pub(super) sent: Versions,
    /// What there was when the client was last found, or made, to have all of it.
    level: Option<Level>,
    /// Names of what it had then and is to get again.
    due: Vec<Name>,
    /// Number of the newest response; 0 for none.
    pub(super) n_response: u64,
    /// Whether the newest response is still to be answered.
    pub(super) unanswered: bool,
    /// Why the newest answered response was refused.
    pub(super) refused: Option<Box<str>>,
    /// How many resources are held back, as they name a cluster that the client lacks.
    pub(super) n_held: usize,
    /// What the client asked for when it came with what it holds, to be answered in its turn.
    pub(super) owed: Option<Reply>,
}

/// A state in which a client lacks nothing: what it has and asks for, and what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    group: Group,
    wildcard: bool,
    names: u128,
    sent: u128,
}

/// What a request asks to be sent at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Nothing.
    No,
    /// These names, found or not.
    Names(Vec<Name>),
    /// Everything subscribed; an answer is due even when it is empty.
    All,
}

impl Reply {
    fn and(self, more: Reply) -> Reply {
        match (self, more) {
            (Reply::All, _) | (_, Reply::All) => Reply::All,
            (Reply::No, reply) | (reply, Reply::No) => reply,
            (Reply::Names(mut names), Reply::Names(more)) => {
                names.extend(more);
                Reply::Names(names)
            }
        }
    }
}

fn asked(name: Name) -> Change {
    Change::Set(Entry {
        name,
        version: 0,
        resource: None,
    })
}

/// The names, each once, and whether everything is among them.
fn parse(mut names: Vec<Name>) -> (Vec<Name>, bool) {
    let n_all = names.len();
    names.retain(|name| *name != EVERYTHING);
    let named_all = names.len() < n_all;
    names.sort_unstable_by_key(Name::address);
    names.dedup();
    (names, named_all)
}

impl NameSet {
    /// A set of names.
    pub fn of(names: impl IntoIterator<Item = Name>) -> Self {
        NameSet::default().with(names)
    }

    pub(super) fn with(&self, names: impl IntoIterator<Item = Name>) -> Self {
        NameSet(self.0.after(names.into_iter().map(asked).collect()))
    }
}

impl Watched {
    /// The first request for this type on a stream.
    pub(super) fn open(type_url: &TypeUrl, wants: Wants) -> (Self, Reply) {
        let (asked, held) = match wants {
            Wants::Change {
                subscribe, held, ..
            } => (subscribe, held),
            Wants::Exactly(names) => (names, Default::default()),
        };
        let (names, named_all) = parse(asked);
        let wildcard = named_all || (names.is_empty() && type_url.is_wildcard());
        let held = held.into_iter().map(|(name, version)| {
            Change::Set(Entry {
                name,
                version,
                resource: None,
            })
        });
        let watched = Watched {
            wildcard,
            names: NameSet::of(names.iter().cloned()),
            sent: Versions::default().after(held.collect()),
            ..Watched::default()
        };
        let reply = match (wildcard, names.is_empty()) {
            (true, _) => Reply::All,
            (false, true) => Reply::No,
            (false, false) => Reply::Names(names),
        };
        (watched, reply)
    }

    /// A later request for this type.
    pub(super) fn change(&mut self, wants: Wants) -> Reply {
        match wants {
            Wants::Change {
                subscribe,
                unsubscribe,
                ..
            } => {
                self.unsubscribe(unsubscribe);
                self.subscribe(subscribe)
            }
            Wants::Exactly(names) => self.replace(names),
        }
    }

    /// What is to be sent at once: nothing while other things are owed, which go first.
    pub(super) fn now_or_owed(&mut self, reply: Reply) -> Reply {
        let Some(owed) = self.owed.take() else {
            return reply;
        };
        self.owed = Some(owed.and(reply));
        Reply::No
    }

    fn unsubscribe(&mut self, names: Vec<Name>) {
        if names.is_empty() {
            return;
        }
        let (mut names, all) = parse(names);
        if all {
            self.wildcard = false;
        }
        names.retain(|name| self.names.contains(name));
        self.names = NameSet(self.names.0.after(removals(&names)));
        if all {
            self.keep_only_named();
        } else if !self.wildcard {
            self.forget(&names);
        }
    }

    /// A name that is subscribed again is sent again: the client may have dropped it in between.
    fn subscribe(&mut self, asked: Vec<Name>) -> Reply {
        if asked.is_empty() {
            return Reply::No;
        }
        let (asked, all) = parse(asked);
        self.names = self.names.with(asked.iter().cloned());
        if all {
            self.wildcard = true;
            return Reply::All;
        }
        self.forget(&asked);
        Reply::Names(asked)
    }

    fn replace(&mut self, names: Vec<Name>) -> Reply {
        let (names, named_all) = parse(names);
        let before = std::mem::replace(&mut self.names, NameSet::of(names.iter().cloned()));
        // Nothing by name goes on meaning "all" until the client has named something.
        let wildcard = named_all || (self.wildcard && names.is_empty());
        if wildcard {
            let new = !self.wildcard;
            self.wildcard = true;
            return if new { Reply::All } else { Reply::No };
        }
        let was_wildcard = std::mem::take(&mut self.wildcard);
        if !was_wildcard && before.0.digest() == self.names.0.digest() {
            return Reply::No;
        }
        let is_new = |name: &Name| !before.contains(name);
        let added: Vec<Name> = names.into_iter().filter(is_new).collect();
        self.keep_only_named();
        self.forget(&added);
        match (was_wildcard, added.is_empty()) {
            (true, _) => Reply::All,
            (false, true) => Reply::No,
            (false, false) => Reply::Names(added),
        }
    }

    fn keep_only_named(&mut self) {
        let sent = self.sent.iter().map(|entry| &entry.name);
        let others: Vec<_> = sent.filter(|n| !self.names.contains(n)).cloned().collect();
        self.forget(&others);
    }

    /// Takes an answer to a response; `false` when it is about an older one.
    pub(super) fn answer(&mut self, n_response: u64, refused: Option<String>) -> bool {
        if n_response != self.n_response {
            return false;
        }
        self.unanswered = false;
        self.refused = refused.map(String::into_boxed_str);
        true
    }

    fn level_with(&self, group: Group) -> Level {
        Level {
            group,
            wildcard: self.wildcard,
            names: self.names.0.digest(),
            sent: self.sent.digest(),
        }
    }

    /// Takes note that the client has all that there is of what it asks for.
    pub(super) fn has_all_of(&mut self, group: Option<Group>) {
        self.level = group.map(|group| self.level_with(group));
        self.due = Vec::new();
    }

    /// Whether that is known without a look.
    pub(super) fn is_known_to_have_all_of(&self, group: Option<Group>) -> bool {
        self.due.is_empty() && group.is_some() && self.had_all_of() == group
    }

    /// The group of which the client has all that it asks for, but for what is [`Self::due`].
    pub(super) fn had_all_of(&self) -> Option<Group> {
        let level = self.level?;
        (level == self.level_with(level.group)).then_some(level.group)
    }

    /// What the client is to get again.
    pub(super) fn due(&self) -> &[Name] {
        &self.due
    }

    /// Makes the next difference contain these although they have not changed, of those that are
    /// asked for.
    pub(super) fn send_again(&mut self, names: &[Name]) {
        let had_all_of = self.had_all_of();
        self.forget(names);
        if let Some(group) = had_all_of {
            let asked = names.iter().filter(|name| self.asks_for(name));
            let asked: Vec<_> = asked.cloned().collect();
            self.due.extend(asked);
            self.level = Some(self.level_with(group));
        }
    }

    /// Whether a resource of this name would be sent.
    pub(super) fn asks_for(&self, name: &Name) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// How many names are kept for the client.
    pub(super) fn n_known(&self) -> usize {
        self.names.len() + self.sent.len()
    }

    /// Whether the client has anything, or was sent it.
    pub(super) fn holds_any(&self) -> bool {
        self.sent.len() > 0
    }

    /// Counts these as not sent.
    pub(super) fn forget(&mut self, names: &[Name]) {
        if !names.is_empty() {
            self.sent = self.sent.after(removals(names));
        }
    }
}

pub(super) fn removals(names: &[Name]) -> Vec<Change> {
    names.iter().cloned().map(Change::Remove).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<Name> {
        of.iter().map(Name::new).collect()
    }

    fn change(subscribe: &[&str], unsubscribe: &[&str]) -> Wants {
        Wants::Change {
            subscribe: names(subscribe),
            unsubscribe: names(unsubscribe),
            held: Vec::new(),
        }
    }

    fn exactly(of: &[&str]) -> Wants {
        Wants::Exactly(names(of))
    }

    #[test]
    fn first_requests() {
        let check = |url: TypeUrl, wants, wildcard, want| {
            let (watched, reply) = Watched::open(&url, wants);
            assert_eq!((watched.wildcard, reply), (wildcard, want), "{url:?}");
        };
        check(TypeUrl::CLUSTER, change(&[], &[]), true, Reply::All);
        check(TypeUrl::CLUSTER, change(&["*"], &[]), true, Reply::All);
        check(TypeUrl::CLUSTER, exactly(&[]), true, Reply::All);
        check(TypeUrl::ENDPOINT, exactly(&[]), false, Reply::No);
        let a = || Reply::Names(names(&["a"]));
        check(TypeUrl::ENDPOINT, change(&["a"], &[]), false, a());
        check(TypeUrl::CLUSTER, exactly(&["a"]), false, a());
    }

    #[test]
    fn state_of_the_world_names_replace_names() {
        let (mut watched, _) = Watched::open(&TypeUrl::ENDPOINT, exactly(&["a"]));
        assert_eq!(watched.change(exactly(&["a"])), Reply::No, "an ACK");
        assert_eq!(
            watched.change(exactly(&["a", "b"])),
            Reply::Names(names(&["b"]))
        );
        assert_eq!(watched.change(exactly(&[])), Reply::No, "unsubscribes all");
        assert!(watched.names.is_empty());

        let (mut watched, _) = Watched::open(&TypeUrl::CLUSTER, exactly(&[]));
        assert_eq!(watched.change(exactly(&[])), Reply::No, "an ACK");
        assert!(watched.wildcard);
        assert_eq!(watched.change(exactly(&["a"])), Reply::All, "no longer all");
        assert_eq!(watched.change(exactly(&[])), Reply::No);
        assert!(!watched.wildcard, "once named, nothing means nothing");
    }

    #[test]
    fn only_the_newest_response_can_be_answered() {
        let (mut watched, _) = Watched::open(&TypeUrl::CLUSTER, exactly(&[]));
        watched.n_response = 2;
        watched.unanswered = true;
        assert!(!watched.answer(1, None));
        assert!(watched.unanswered);
        assert!(watched.answer(2, Some("bad".into())));
        assert_eq!(watched.refused.as_deref(), Some("bad"));
    }
}
