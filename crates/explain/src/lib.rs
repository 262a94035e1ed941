//! What a proxy would do with a request, and why.
//!
//! Configuration is read by the registry and judged by galley, pilot generates, `decode` reads what
//! it generated as the proxy does, `route` and `balance` choose as they do in the proxy. Nothing is
//! decided here; this crate asks and writes down the answers.

mod answer;
mod ask;
mod call;
mod described;
mod platform;
mod recorded;
mod served;
mod source;
mod text;

pub use answer::{
    Candidate, Carried, Choice, Cluster, Destination, Explanation, Host, Outcome, Redirection,
    Said, Source,
};
pub use ask::explain;
pub use call::{BadCall, Call, Security};
pub use described::{
    Agreement, DescribedPolicy, DescribedPort, DescribedRule, DescribedService, DescribedWorkload,
    Exposed, Leading, Mode, TlsCheck,
};
pub use platform::{Caller, Platform};
pub use recorded::{Group, Recorded, Recording, Replayer, changes, decisions};
pub use served::{ServeError, Served};
pub use source::Behind;
