//! Transactions: changes that the kernel takes all at once or not at all.

use super::error::Error;
use super::socket;
use super::table::{Chain, Family, Policy, Table};
use super::wire::{Head, Writer};
use super::{Rule, table};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_SET_ELEMENT: u16 = 12;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// A list of changes to the tables of the current network namespace.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    /// What each message is for, by its sequence number.
    actions: Vec<String>,
    next_set: u32,
    /// Where the last change starts; only it asks for an acknowledgement.
    last_change: Option<usize>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        let mut batch = Self {
            writer: Writer::default(),
            actions: Vec::new(),
            next_set: 1,
            last_change: None,
        };
        batch.control(BATCH_BEGIN, REQUEST, "begin a netfilter batch");
        batch
    }

    /// Makes the table be exactly this one, whatever was there under its name.
    #[must_use]
    pub fn replace(self, table: &Table) -> Self {
        self.delete_if_exists(table.family, &table.name)
            .append(table)
    }

    /// Adds the table's chains and rules to whatever is there.
    #[must_use]
    pub fn append(mut self, table: &Table) -> Self {
        self.add_table(table.family, &table.name);
        for (chain, _) in &table.chains {
            self.add_chain(table, chain);
        }
        for (chain, rules) in &table.chains {
            for rule in rules {
                self.add_rule(table, &chain.name, rule);
            }
        }
        self
    }

    /// Adds an empty table; it is an error (`EEXIST`) if there is one of the name.
    #[must_use]
    pub fn create(mut self, family: Family, table: &str) -> Self {
        self.add_table_with(EXCLUSIVE, family, table);
        self
    }

    /// Deletes a table; it is an error if it does not exist.
    #[must_use]
    pub fn delete(mut self, family: Family, table: &str) -> Self {
        const NAME: u16 = 1;
        let action = format!("delete table {family} {table}");
        self.message(DEL_TABLE, 0, family, action, |w| w.string(NAME, table));
        self
    }

    /// Deletes a table if it exists.
    #[must_use]
    pub fn delete_if_exists(mut self, family: Family, table: &str) -> Self {
        // Kernels before 6.3 know no "destroy", so the table is made to exist first.
        self.add_table(family, table);
        self.delete(family, table)
    }

    /// Removes all rules of one chain.
    #[must_use]
    pub fn flush_chain(mut self, family: Family, table: &str, chain: &str) -> Self {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        let action = format!("flush chain {family} {table} {chain}");
        self.message(DEL_RULE, 0, family, action, |w| {
            w.string(TABLE, table);
            w.string(CHAIN, chain);
        });
        self
    }

    /// Hands the batch to the kernel and waits for its answer.
    ///
    /// # Errors
    /// Nothing was changed; the error names the first part that was refused.
    pub fn commit(mut self) -> Result<(), Error> {
        // Refusals are reported unasked, so one acknowledgement at the end is enough, and a large
        // batch does not overrun the socket's buffer with them.
        let Some(last) = self.last_change else {
            return Ok(());
        };
        self.writer.add_flags(last, ACK);
        self.control(BATCH_END, REQUEST, "commit a netfilter batch");
        socket::transact(&self.writer.into_bytes(), &self.actions)
    }

    fn add_table(&mut self, family: Family, table: &str) {
        self.add_table_with(0, family, table);
    }

    fn add_table_with(&mut self, flags: u16, family: Family, table: &str) {
        const NAME: u16 = 1;
        const FLAGS: u16 = 2;
        let action = format!("add table {family} {table}");
        self.message(NEW_TABLE, CREATE | flags, family, action, |w| {
            w.string(NAME, table);
            w.be32(FLAGS, 0);
        });
    }

    fn add_chain(&mut self, table: &Table, chain: &Chain) {
        const TABLE: u16 = 1;
        const NAME: u16 = 3;
        let action = format!("add chain {} {} {}", table.family, table.name, chain.name);
        self.message(NEW_CHAIN, CREATE, table.family, action, |w| {
            w.string(TABLE, &table.name);
            w.string(NAME, &chain.name);
            if let Some(base) = &chain.base {
                write_base(w, base);
            }
        });
    }

    fn add_rule(&mut self, table: &Table, chain: &str, rule: &Rule) {
        const TABLE: u16 = 1;
        const CHAIN: u16 = 2;
        const EXPRESSIONS: u16 = 4;
        const USER_DATA: u16 = 7;
        let action = format!("add rule {} {} {chain} {rule}", table.family, table.name);
        let mut set_ids = Vec::with_capacity(rule.exprs.len());
        for expr in &rule.exprs {
            set_ids.push(self.next_set);
            let Some(set) = expr.set() else { continue };
            let id = self.next_set;
            self.next_set += 1;
            self.message(NEW_SET, CREATE, table.family, action.clone(), |w| {
                set.write_definition(w, &table.name, id);
            });
            self.message(NEW_SET_ELEMENT, CREATE, table.family, action.clone(), |w| {
                set.write_elements(w, &table.name, id);
            });
        }
        self.message(NEW_RULE, CREATE | APPEND, table.family, action, |w| {
            w.string(TABLE, &table.name);
            w.string(CHAIN, chain);
            w.nest(EXPRESSIONS, |w| {
                for (expr, set_id) in rule.exprs.iter().zip(&set_ids) {
                    expr.write(w, *set_id);
                }
            });
            if let Some(comment) = &rule.comment {
                w.bytes(USER_DATA, &comment_data(comment));
            }
        });
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        action: String,
        body: impl FnOnce(&mut Writer),
    ) {
        let head = Head {
            kind: SUBSYSTEM << 8 | kind,
            flags: REQUEST | flags,
            seq: self.next_seq(action),
            family: family.number(),
            resource: 0,
        };
        self.last_change = Some(self.writer.len());
        self.writer.message(head, body);
    }

    fn control(&mut self, kind: u16, flags: u16, action: &str) {
        let seq = self.next_seq(action.to_owned());
        let head = Head {
            kind,
            flags,
            seq,
            family: 0,
            resource: SUBSYSTEM,
        };
        self.writer.message(head, |_| {});
    }

    fn next_seq(&mut self, action: String) -> u32 {
        self.actions.push(action);
        u32::try_from(self.actions.len() - 1).unwrap_or(u32::MAX)
    }
}

fn write_base(w: &mut Writer, base: &table::Base) {
    const HOOK: u16 = 4;
    const POLICY: u16 = 5;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    w.nest(HOOK, |w| {
        w.be32(HOOK_NUMBER, base.hook.number());
        w.be32(HOOK_PRIORITY, base.priority.cast_unsigned());
    });
    w.be32(
        POLICY,
        match base.policy {
            Policy::Drop => 0,
            Policy::Accept => 1,
        },
    );
    w.string(TYPE, base.kind.name());
}

/// A comment as `nft` stores it: type, length, text with its terminating zero.
fn comment_data(comment: &str) -> Vec<u8> {
    const COMMENT: u8 = 0;
    let mut data = vec![COMMENT, u8::try_from(comment.len() + 1).unwrap_or(u8::MAX)];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}
