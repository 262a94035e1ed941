//! Who is connected, by what they see: a change is worked out once for each kind of workload, and only
//! those are looked at one by one whom it concerns.

use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tokio::sync::watch;

use super::next::Next;
use super::scope::Scope;
use super::touched::Touched;
use super::{Counts, Facts, Served, Vantage};
use crate::envoy_filter::{Book, PatchReport};
use crate::key::Cache;
use crate::proxy::Proxy;
use crate::snapshot::Snapshot;

pub(super) type Scopes = HashMap<Arc<Vantage>, Arc<Scope>, RandomState>;

/// Everybody.
pub(super) struct Members {
    snapshot: Arc<Snapshot>,
    /// Not everybody was brought to the snapshot, because of a fault of ours.
    is_unfinished: bool,
    book: Book,
    /// By a number of their own.
    all: HashMap<u64, Member, RandomState>,
    next: u64,
    /// How many there may be before those that have left are dropped.
    enough: usize,
    by_ip: HashMap<IpAddr, Vec<u64>, RandomState>,
    kinds: HashMap<Arc<Vantage>, Kind, RandomState>,
    scopes: Scopes,
}

/// Fewer members than this are not worth a look.
const FEW: usize = 64;

/// One connected proxy.
struct Member {
    ip: IpAddr,
    /// What its node says, which counts until the registry knows the workload.
    node: Arc<Vantage>,
    facts: Facts,
    vantage: Arc<Vantage>,
    served: watch::Sender<Arc<Served>>,
}

/// Those who see the same, and the same of themselves.
struct Kind {
    /// What they see of the mesh, the same allocation for all who see that.
    reduced: Arc<Vantage>,
    /// `None` until it is made.
    served: Option<Arc<Served>>,
    members: Vec<u64>,
}

impl Member {
    fn is_gone(&self) -> bool {
        self.served.is_closed()
    }

    /// Is served this from now on.
    fn take(&self, served: &Arc<Served>) {
        if !Arc::ptr_eq(&self.served.borrow(), served) {
            self.served.send_replace(served.clone());
        }
    }
}

impl Members {
    pub(super) fn new(snapshot: Arc<Snapshot>) -> Members {
        let mut book = Book::default();
        book.renew(&snapshot.config);
        Members {
            snapshot,
            is_unfinished: false,
            book,
            all: HashMap::default(),
            next: 0,
            enough: FEW,
            by_ip: HashMap::default(),
            kinds: HashMap::default(),
            scopes: Scopes::default(),
        }
    }

    pub(super) fn patches(&self) -> Vec<PatchReport> {
        self.book.report()
    }

    pub(super) fn counts(&self) -> Counts {
        let named = self.scopes.values().map(|scope| scope.n_named());
        Counts {
            members: self.all.len(),
            vantages: self.kinds.len(),
            scopes: self.scopes.len(),
            named: named.sum(),
        }
    }

    pub(super) fn join(&mut self, cache: &Cache, proxy: &Proxy) -> watch::Receiver<Arc<Served>> {
        if self.all.len() >= self.enough {
            self.sweep();
        }
        let (node, facts) = (Arc::new(Vantage::of_node(proxy)), Facts::of(proxy));
        let vantage = self.vantage(proxy.ip, &node, &facts);
        let (served_tx, served_rx) = watch::channel(self.place(cache, &vantage));
        self.next += 1;
        let number = self.next;
        self.by_ip.entry(proxy.ip).or_default().push(number);
        let member = Member {
            ip: proxy.ip,
            node,
            facts,
            vantage: self.enter(vantage, number),
            served: served_tx,
        };
        self.all.insert(number, member);
        served_rx
    }

    /// Counts a member among those of its kind. Returns the vantage as all of them have it.
    fn enter(&mut self, vantage: Arc<Vantage>, number: u64) -> Arc<Vantage> {
        if let Some((known, kind)) = self.kinds.get_key_value_mut(&vantage) {
            kind.members.push(number);
            return known.clone();
        }
        let kind = Kind {
            reduced: self.reduced(&vantage),
            served: None,
            members: vec![number],
        };
        self.kinds.insert(vantage.clone(), kind);
        vantage
    }

    pub(super) fn served(&mut self, cache: &Cache, proxy: &Proxy) -> Arc<Served> {
        let vantage = self.vantage(proxy.ip, &Vantage::of_node(proxy), &Facts::of(proxy));
        self.place(cache, &vantage)
    }

    /// Where a proxy is.
    fn vantage(&mut self, ip: IpAddr, node: &Vantage, facts: &Facts) -> Arc<Vantage> {
        let workload = self.snapshot.world.workload(ip);
        let vantage = node.with(workload.map(|w| &**w), self.snapshot.node_counts());
        Arc::new(vantage.patched(&mut self.book, facts))
    }

    /// What a vantage is served, whose kind is there then.
    fn place(&mut self, cache: &Cache, vantage: &Arc<Vantage>) -> Arc<Served> {
        let known = self.kinds.get(vantage);
        if let Some(served) = known.and_then(|kind| kind.served.as_ref()) {
            return served.clone();
        }
        let snapshot = self.snapshot.clone();
        let nothing = Touched::default();
        let reduced = self.reduced(vantage);
        let mut next = Next::new(cache, &snapshot, &nothing, Scopes::default());
        next.scopes = std::mem::take(&mut self.scopes);
        let served = next.served(vantage, &reduced, None);
        self.scopes = next.scopes;
        // One that a failed publication left unserved has its members already.
        let known = self.kinds.remove(vantage);
        let kind = Kind {
            reduced,
            served: Some(served.clone()),
            members: known.map_or_else(Vec::new, |kind| kind.members),
        };
        self.kinds.insert(vantage.clone(), kind);
        served
    }

    /// What a vantage sees of the mesh, the same allocation as others have.
    fn reduced(&self, vantage: &Vantage) -> Arc<Vantage> {
        let reduced = vantage.outbound(&self.snapshot);
        match self.scopes.get_key_value(&reduced) {
            Some((known, _)) => known.clone(),
            None => Arc::new(reduced),
        }
    }

    /// Brings everybody to a snapshot.
    pub(super) fn publish(&mut self, cache: &Cache, snapshot: Arc<Snapshot>, credentials: bool) {
        let mut touched = Touched::between(&self.snapshot, &snapshot);
        touched.all |= std::mem::replace(&mut self.is_unfinished, true);
        let before = std::mem::replace(&mut self.snapshot, snapshot.clone());
        let moved = self.move_on(&before, &touched);
        self.forget_empty();
        if touched.all || !snapshot.asks_the_same_as(&before) {
            self.reduce_all();
        }
        let mut next = Next::new(cache, &snapshot, &touched, std::mem::take(&mut self.scopes));
        next.credentials = credentials;
        for (vantage, kind) in &mut self.kinds {
            let served = next.served(vantage, &kind.reduced, kind.served.as_ref());
            let before = kind.served.replace(served.clone());
            if before.is_some_and(|before| Arc::ptr_eq(&before, &served)) {
                continue;
            }
            for member in kind
                .members
                .iter()
                .filter_map(|number| self.all.get(number))
            {
                member.served.send_replace(served.clone());
            }
        }
        self.scopes = next.scopes;
        for member in moved.iter().filter_map(|number| self.all.get(number)) {
            let kind = self.kinds.get(&member.vantage);
            if let Some(served) = kind.and_then(|kind| kind.served.as_ref()) {
                member.take(served);
            }
        }
        self.book.sweep();
        self.is_unfinished = false;
    }

    /// Lets those change their place whose workload is another one, or for whom other things count
    /// now: who they are.
    fn move_on(&mut self, before: &Snapshot, touched: &Touched) -> Vec<u64> {
        let snapshot = self.snapshot.clone();
        let repatched = self.book.renew(&snapshot.config);
        let numbers: Vec<u64> = if repatched || before.node_counts() != snapshot.node_counts() {
            self.all.keys().copied().collect()
        } else {
            let moved = touched.workloads.iter();
            let moved = moved.filter_map(|ip| self.by_ip.get(ip));
            moved.flatten().copied().collect()
        };
        for number in &numbers {
            self.move_one(*number);
        }
        numbers
    }

    fn move_one(&mut self, number: u64) {
        let Some(mut member) = self.all.remove(&number) else {
            return;
        };
        let vantage = self.vantage(member.ip, &member.node, &member.facts);
        if vantage != member.vantage {
            if let Some(kind) = self.kinds.get_mut(&member.vantage) {
                kind.members.retain(|of| *of != number);
            }
            member.vantage = self.enter(vantage, number);
        }
        self.all.insert(number, member);
    }

    /// Finds out anew what all kinds see of the mesh, where other things count for it now.
    fn reduce_all(&mut self) {
        let mut known: HashMap<Arc<Vantage>, (), RandomState> = HashMap::default();
        for (vantage, kind) in &mut self.kinds {
            let reduced = vantage.outbound(&self.snapshot);
            kind.reduced = match known.get_key_value(&reduced) {
                Some((known, ())) => known.clone(),
                None => {
                    let reduced = Arc::new(reduced);
                    known.insert(reduced.clone(), ());
                    reduced
                }
            };
        }
    }

    /// Forgets kinds of which nobody is left.
    fn forget_empty(&mut self) {
        let (all, kinds) = (&self.all, self.kinds.values());
        let is_there = |number: &u64| all.get(number).is_some_and(|member| !member.is_gone());
        let mut empty = kinds.filter(|kind| !kind.members.iter().any(is_there));
        if empty.next().is_some() {
            self.sweep();
        }
    }

    /// Forgets all who have left, and kinds of which nobody is left.
    fn sweep(&mut self) {
        self.all.retain(|_, member| !member.is_gone());
        self.enough = (self.all.len() * 2).max(FEW);
        let all = &self.all;
        self.by_ip.retain(|_, numbers| {
            numbers.retain(|number| all.contains_key(number));
            !numbers.is_empty()
        });
        self.kinds.retain(|_, kind| {
            kind.members.retain(|number| all.contains_key(number));
            !kind.members.is_empty()
        });
    }
}
