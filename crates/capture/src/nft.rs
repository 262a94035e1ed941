//! A small nf_tables client that speaks netlink to the kernel itself.
//!
//! The mesh rewrites addresses in two places: in every pod, to lead its traffic through the proxy,
//! and in the node's namespace, to give services their virtual addresses. Both must work on a
//! machine that has neither `iptables` nor `nft`, and inside a user namespace, so the rules are
//! written straight to the kernel.
//!
//! ```no_run
//! use lateen_capture::nft::{Batch, Chain, ChainType, Family, Hook, L4, Rule, Table, priority};
//!
//! let mut table = Table::new(Family::Inet, "example");
//! table.add_chain(Chain::base("prerouting", ChainType::Nat, Hook::Prerouting, priority::DSTNAT));
//! table.add_rule("prerouting", Rule::new().dport(L4::Tcp, 80).redirect(8080));
//! Batch::new().replace(&table).commit()?;
//! # Ok::<(), lateen_capture::nft::Error>(())
//! ```
//!
//! Invariant: a [`Batch`] is one transaction. Either all of it holds afterwards or none of it.

mod batch;
mod error;
mod expr;
mod rule;
mod set;
mod socket;
mod table;
mod wire;

pub use batch::Batch;
pub use error::Error;
pub use expr::Verdict;
pub use rule::{Direction, L4, Ports, Rule, ct_state};
pub use table::{Chain, ChainType, Family, Hook, Policy, Table, priority};
