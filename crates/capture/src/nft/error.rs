//! What can go wrong between us and the kernel's packet filter, in words an operator can act on.

use nix::errno::Errno;

/// A failure to change the kernel's tables. Nothing of the batch was applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not let this process change the tables of its network namespace.
    #[error(
        "{action}: not permitted; this needs CAP_NET_ADMIN in the network namespace's user namespace"
    )]
    NotPermitted {
        /// The part of the batch that was refused.
        action: String,
    },
    /// The kernel lacks nf_tables or one of the expressions used.
    #[error(
        "{action}: the kernel does not support this ({errno}); it needs nf_tables with nat, redirect and conntrack (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_REDIR, CONFIG_NFT_MASQ, CONFIG_NFT_CT)"
    )]
    NotSupported {
        /// The part of the batch that was refused.
        action: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel refused one part of the batch.
    #[error("{action}: {errno}")]
    Refused {
        /// The part of the batch that was refused.
        action: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// The batch does not fit into one netlink message group.
    #[error(
        "a batch of {bytes} bytes exceeds what one netlink transaction may hold; raise net.core.wmem_max or split the tables"
    )]
    TooLarge {
        /// Size of the batch.
        bytes: usize,
    },
    /// The netlink socket could not be used.
    #[error("cannot {action} the netfilter netlink socket: {errno}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel took the batch but never said what became of it.
    #[error("the kernel did not answer a netfilter batch")]
    NoAnswer,
}

impl Error {
    /// The error for `action`, sorted by what its number means here.
    pub(super) fn from_errno(action: String, errno: Errno) -> Self {
        match errno {
            Errno::EPERM | Errno::EACCES => Self::NotPermitted { action },
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => {
                Self::NotSupported { action, errno }
            }
            // For a new rule or chain, ENOENT means that an expression or chain type has no module.
            Errno::ENOENT if action.starts_with("add ") => Self::NotSupported { action, errno },
            _ => Self::Refused { action, errno },
        }
    }

    /// Whether the thing that was to be deleted or changed did not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                errno: Errno::ENOENT,
                ..
            }
        )
    }
}
