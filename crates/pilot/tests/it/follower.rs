//! Clients of the discovery server that know what they hold and what it leads to: as our proxy asks
//! for resources, as Envoy does by the delta protocol, and as Envoy does by the older one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use lateen_xds::client::{self, Client, ConnectError, Connection};
use lateen_xds::types::cluster::Cluster;
use lateen_xds::types::cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
use lateen_xds::types::core::Node;
use lateen_xds::types::discovery::DiscoveryRequest;
use lateen_xds::types::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use lateen_xds::types::endpoint::ClusterLoadAssignment;
use lateen_xds::types::listener::{Listener, filter};
use lateen_xds::types::network::hcm::HttpConnectionManager;
use lateen_xds::types::network::hcm::http_connection_manager::RouteSpecifier;
use lateen_xds::types::route::route::Action;
use lateen_xds::types::route::route_action::ClusterSpecifier;
use lateen_xds::types::route::{RouteConfiguration, VirtualHost};
use lateen_xds::types::rpc;
use lateen_xds::types::wkt::{Struct, Value, value};
use lateen_xds::{Any, TypeUrl, decode_any};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// A service of the test's world that has routes and, as no name resolves to it, no cluster.
const NEVER_THERE: &str = "any.example.net";
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(30);

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// As our proxy does.
    Ours,
    /// As Envoy does by the delta protocol.
    Delta,
    /// As Envoy does by the older protocol.
    StateOfTheWorld,
}

/// What a client has: versions by type and name.
pub(crate) type Held = BTreeMap<(&'static str, String), String>;

/// A response in terms of both protocols.
struct Response {
    type_url: TypeUrl,
    /// Name, version and content.
    resources: Vec<(String, String, Any)>,
    removed: Vec<String>,
    /// What is not in it is gone.
    lists_all: bool,
}

/// What is to be asked for after a response.
#[derive(Default)]
struct Changes {
    more: Vec<String>,
    less: Vec<String>,
}

/// Follows names as a proxy does: endpoints of its clusters, route tables of its listeners.
#[derive(Default)]
pub(crate) struct Follower {
    pub(crate) held: Held,
    /// Names that each cluster or listener refers to.
    leads: BTreeMap<(&'static str, String), BTreeSet<String>>,
    /// Clusters that each table or virtual host leads to by the routes that services have of their
    /// own. (A user's rule may lead to what nobody knows.)
    routes: BTreeMap<(&'static str, String), BTreeSet<String>>,
    subscribed: BTreeMap<&'static str, BTreeSet<String>>,
    pub(crate) received: usize,
    /// Bytes of resources that came.
    pub(crate) bytes: usize,
    pub(crate) refuse_next: bool,
    pub(crate) refused: usize,
    /// Tables and virtual hosts that the client refused to change: what it keeps may lead to what
    /// goes, which is its own doing.
    kept: BTreeSet<(&'static str, String)>,
    /// Clusters that it refused and does not hold.
    declined: BTreeSet<String>,
    /// Clusters among these to which something led that the client had not held before: what is asked
    /// for by name is answered, and what is held is not changed to lead there anew.
    excused: BTreeMap<(&'static str, String), BTreeSet<String>>,
    /// On a new stream of the older protocol all clusters are listed before any route can be, so that
    /// until then routes of the stream before may lead nowhere.
    is_opening: bool,
    /// Routes to a cluster that was not there when they came, or went while they were there, and
    /// routes to a cluster whose endpoints went while they were there.
    pub(crate) astray: Vec<String>,
    /// What came last, for who wants to know how it came to that.
    pub(crate) log: VecDeque<String>,
}

/// Responses in a follower's log.
const LOGGED: usize = 30;

impl Follower {
    /// Takes or refuses a response: whether it was taken.
    fn take(&mut self, response: &Response) -> bool {
        let names: Vec<_> = response.resources.iter().map(|(name, ..)| name).collect();
        let gone = &response.removed;
        let (kind, refused) = (response.type_url.short(), self.refuse_next);
        let astray = self.astray.len();
        self.log.push_back(format!(
            "{kind} {names:?} without {gone:?}, refused: {refused}, astray so far: {astray}"
        ));
        if self.log.len() > LOGGED {
            self.log.pop_front();
        }
        self.received += response.resources.len();
        let bytes = response
            .resources
            .iter()
            .map(|(_, _, body)| body.value.len());
        self.bytes += bytes.sum::<usize>();
        let kind = kind_of(&response.type_url);
        if std::mem::take(&mut self.refuse_next) {
            self.refused += 1;
            if ["RDS", "VHDS"].contains(&kind) {
                let named = response.resources.iter().map(|(name, ..)| name);
                let named = named.chain(&response.removed);
                self.kept.extend(named.map(|name| (kind, name.clone())));
            }
            if kind == "CDS" {
                let named = response.resources.iter().map(|(name, ..)| name.clone());
                let lacking = named.filter(|name| !self.held.contains_key(&(kind, name.clone())));
                self.declined.extend(lacking);
            }
            return false;
        }
        if response.lists_all {
            let listed: BTreeSet<_> = response.resources.iter().map(|(n, ..)| n.clone()).collect();
            let unlisted = self
                .held
                .keys()
                .filter(|(of, n)| *of == kind && !listed.contains(n));
            for key in unlisted.cloned().collect::<Vec<_>>() {
                self.let_go(&key);
            }
        }
        for name in &response.removed {
            // That there are none of what is new is no loss.
            if kind == "EDS" && self.held.contains_key(&(kind, name.clone())) {
                self.look_for_routes_to(name);
            }
            self.let_go(&(kind, name.clone()));
        }
        // A response may cross an unsubscription on its way.
        let subscribed = match kind {
            "EDS" => self.subscribed.get("CDS").cloned(),
            "RDS" => self.subscribed.get("LDS").cloned(),
            _ => None,
        };
        let wanted = |name: &String| subscribed.as_ref().is_none_or(|names| names.contains(name));
        for (name, version, body) in response.resources.iter().filter(|(n, ..)| wanted(n)) {
            let key = (kind, name.clone());
            self.kept.remove(&key);
            if kind == "CDS" {
                self.declined.remove(name);
            }
            let routes = routes(kind, body);
            // What is held of an earlier stream of the older protocol is not known to the server.
            let mut excused: BTreeSet<_> = routes.intersection(&self.declined).cloned().collect();
            if self.held.contains_key(&key) && !self.is_opening {
                // Where it led before it may go on leading: it gets no worse by the change.
                let before = self.excused.get(&key);
                excused.retain(|cluster| before.is_some_and(|before| before.contains(cluster)));
            }
            self.excused.insert(key.clone(), excused);
            self.leads.insert(key.clone(), leads(kind, body));
            self.routes.insert(key.clone(), routes);
            self.held.insert(key, version.clone());
        }
        self.is_opening &= kind != "RDS";
        if !self.is_opening {
            self.look_for_routes_astray(kind);
        }
        true
    }

    fn let_go(&mut self, key: &(&'static str, String)) {
        self.held.remove(key);
        self.kept.remove(key);
        self.excused.remove(key);
        self.leads.remove(key);
        self.routes.remove(key);
    }

    fn look_for_routes_astray(&mut self, after: &str) {
        for ((kind, name), clusters) in &self.routes {
            if self.kept.contains(&(*kind, name.clone())) {
                continue;
            }
            let excused = self.excused.get(&(*kind, name.clone()));
            for cluster in clusters {
                if excused.is_some_and(|excused| excused.contains(cluster)) {
                    continue;
                }
                if !self.held.contains_key(&("CDS", cluster.clone())) {
                    let found = format!("{cluster} in {kind} {name} after {after}");
                    self.astray.push(found);
                }
            }
        }
    }

    /// The endpoints of a cluster are about to go.
    fn look_for_routes_to(&mut self, cluster: &str) {
        let routes = self
            .routes
            .iter()
            .filter(|(key, _)| !self.kept.contains(*key));
        let leading = routes.filter(|(_, clusters)| clusters.contains(cluster));
        let found = leading
            .map(|((kind, name), _)| format!("{cluster} in {kind} {name} when its endpoints went"));
        self.astray.extend(found);
    }

    /// What is named now that was not before, and the other way round.
    fn follow(&mut self, from: &'static str, to: &'static str) -> Changes {
        let leads = self.leads.iter().filter(|((kind, _), _)| *kind == from);
        let wanted: BTreeSet<String> = leads.flat_map(|(_, names)| names).cloned().collect();
        let had = self.subscribed.entry(from).or_default();
        let changes = Changes {
            more: wanted.difference(had).cloned().collect(),
            less: had.difference(&wanted).cloned().collect(),
        };
        *had = wanted;
        for name in &changes.less {
            self.let_go(&(to, name.clone()));
        }
        changes
    }
}

fn kind_of(type_url: &TypeUrl) -> &'static str {
    let known = ["CDS", "EDS", "LDS", "RDS", "VHDS"];
    let found = known.into_iter().find(|kind| *kind == type_url.short());
    found.expect("a type that was asked for")
}

/// Clusters of services' own routes.
fn routes(kind: &str, body: &Any) -> BTreeSet<String> {
    let hosts = match kind {
        "RDS" => {
            decode_any::<RouteConfiguration>(body)
                .expect("a table")
                .virtual_hosts
        }
        "VHDS" => vec![decode_any::<VirtualHost>(body).expect("a virtual host")],
        _ => Vec::new(),
    };
    let routes = hosts.iter().flat_map(|host| &host.routes);
    let cluster = |action: &Option<Action>| match action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => Some(cluster.clone()),
            _ => None,
        },
        _ => None,
    };
    routes
        .filter(|route| route.name == "default")
        .filter_map(|route| cluster(&route.action))
        .filter(|cluster| !cluster.ends_with(NEVER_THERE))
        .collect()
}

fn leads(kind: &str, body: &Any) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if kind == "CDS" {
        let cluster: Cluster = decode_any(body).expect("a cluster");
        let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
        if cluster.cluster_discovery_type == Some(eds) {
            names.insert(cluster.name);
        }
    } else if kind == "LDS" {
        let listener: Listener = decode_any(body).expect("a listener");
        let chains = listener.filter_chains.iter();
        for filter in chains.flat_map(|chain| &chain.filters) {
            let Some(filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
                continue;
            };
            let Ok(manager) = decode_any::<HttpConnectionManager>(config) else {
                continue;
            };
            if let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier {
                names.insert(rds.route_config_name);
            }
        }
    }
    names
}

/// A running follower.
pub(crate) struct Proxy {
    follower: Arc<Mutex<Follower>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A proxy with this node id, connected to the socket in a folder.
    pub(crate) fn start(dir: &Path, id: &str, dialect: Dialect) -> Proxy {
        let yes = value::Kind::StringValue("true".into());
        let says = Value { kind: Some(yes) };
        let mut metadata = Struct::default();
        if dialect == Dialect::Ours {
            metadata.fields.insert("LATEEN_VIRTUAL_HOSTS".into(), says);
        }
        let node = Node {
            id: id.into(),
            metadata: Some(metadata),
            ..Node::default()
        };
        let follower = Arc::new(Mutex::new(Follower::default()));
        let (path, state) = (dir.join("xds"), follower.clone());
        let task = match dialect {
            Dialect::Ours | Dialect::Delta => tokio::spawn(delta(node, path, state)),
            Dialect::StateOfTheWorld => tokio::spawn(state_of_the_world(node, path, state)),
        };
        Proxy { follower, task }
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&mut Follower) -> T) -> T {
        read(&mut self.follower.lock().expect("not poisoned"))
    }

    /// What it holds, once nothing has changed for a while.
    pub(crate) async fn at_rest(&self) -> Held {
        let mut last = (0, Held::new());
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            let now = self.with(|f| (f.received, f.held.clone()));
            if now == last && !now.1.is_empty() {
                return now.1;
            }
            last = now;
        }
    }
}

async fn delta(node: Node, path: PathBuf, follower: Arc<Mutex<Follower>>) {
    let client = client::spawn(node, move || connect(path.clone()));
    let Client {
        subscriber,
        mut updates,
        ..
    } = client;
    subscriber.wildcard(TypeUrl::CLUSTER);
    subscriber.wildcard(TypeUrl::LISTENER);
    // Envoy asks for it by no wildcard, and is sent nothing.
    subscriber.wildcard(TypeUrl::VIRTUAL_HOST);
    while let Some(update) = updates.recv().await {
        let resource = |r: &client::Resource| {
            let body = r.body.clone().expect("a body");
            (r.name.clone(), r.version.clone(), body)
        };
        let response = Response {
            type_url: update.type_url.clone(),
            resources: update.resources.iter().map(resource).collect(),
            removed: update.removed.clone(),
            lists_all: false,
        };
        let follower = &mut *follower.lock().expect("not poisoned");
        if !follower.take(&response) {
            update.nack("not today");
            continue;
        }
        update.ack();
        for (from, to, url) in FOLLOWED {
            let Changes { more, less } = follower.follow(from, to);
            subscriber.subscribe(url.clone(), more);
            subscriber.unsubscribe(url, less);
        }
    }
}

/// What leads to what.
const FOLLOWED: [(&str, &str, TypeUrl); 2] = [
    ("CDS", "EDS", TypeUrl::ENDPOINT),
    ("LDS", "RDS", TypeUrl::ROUTE),
];

async fn connect(path: PathBuf) -> Result<Connection, ConnectError> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://xds");
    Ok(endpoint.connect_with_connector(connector).await?.into())
}

/// One stream after the other. What was held stays, and each stream is told everything again.
async fn state_of_the_world(node: Node, path: PathBuf, follower: Arc<Mutex<Follower>>) {
    loop {
        // The server is gone for a while; that is part of the test.
        let _ = one_stream(&node, &path, &follower).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn one_stream(
    node: &Node,
    path: &Path,
    follower: &Arc<Mutex<Follower>>,
) -> Result<(), ConnectError> {
    let connection = connect(path.to_owned()).await?;
    follower.lock().expect("not poisoned").is_opening = true;
    let (requests_tx, requests) = mpsc::unbounded_channel();
    let mut asked = Asked {
        requests_tx,
        versions: BTreeMap::new(),
    };
    requests_of(&mut asked, follower, node);
    let mut client = AggregatedDiscoveryServiceClient::new(connection.channel)
        .max_decoding_message_size(1 << 26);
    let requests = UnboundedReceiverStream::new(requests);
    let mut responses = client
        .stream_aggregated_resources(requests)
        .await?
        .into_inner();
    while let Some(response) = responses.next().await {
        let response = response?;
        let type_url = TypeUrl::new(&response.type_url);
        let kind = kind_of(&type_url);
        let resources = response.resources.into_iter();
        let read = Response {
            lists_all: type_url.is_wildcard(),
            resources: resources.map(|body| named(kind, body)).collect(),
            removed: Vec::new(),
            type_url: type_url.clone(),
        };
        let follower = &mut *follower.lock().expect("not poisoned");
        let taken = follower.take(&read);
        let accepted = asked.versions.get(kind).map(|(version, _)| version.clone());
        let version = match taken {
            true => response.version_info,
            false => accepted.unwrap_or_default(),
        };
        asked.versions.insert(kind, (version, response.nonce));
        let refused = (!taken).then(|| rpc::Status {
            code: 3,
            message: "not today".into(),
            ..rpc::Status::default()
        });
        asked.ask(&type_url, names_of(follower, kind), None, refused);
        for (from, to, url) in FOLLOWED {
            let Changes { more, less } = follower.follow(from, to);
            if !more.is_empty() || !less.is_empty() {
                asked.ask(&url, names_of(follower, to), None, None);
            }
        }
    }
    Ok(())
}

/// The first requests of a stream: for all types that something is known of.
fn requests_of(asked: &mut Asked, follower: &Arc<Mutex<Follower>>, node: &Node) {
    let follower = &*follower.lock().expect("not poisoned");
    let mut node = Some(node.clone());
    for url in [
        TypeUrl::CLUSTER,
        TypeUrl::ENDPOINT,
        TypeUrl::LISTENER,
        TypeUrl::ROUTE,
    ] {
        let names = names_of(follower, kind_of(&url));
        if url.is_wildcard() || !names.is_empty() {
            asked.ask(&url, names, node.take(), None);
        }
    }
}

/// What is asked for by name.
fn names_of(follower: &Follower, kind: &str) -> Vec<String> {
    let from = FOLLOWED.into_iter().find(|(_, to, _)| *to == kind);
    let names = from.and_then(|(from, ..)| follower.subscribed.get(from));
    names.into_iter().flatten().cloned().collect()
}

/// The requests of one stream.
struct Asked {
    requests_tx: mpsc::UnboundedSender<DiscoveryRequest>,
    /// Version and nonce of the newest response, by type.
    versions: BTreeMap<&'static str, (String, String)>,
}

impl Asked {
    fn ask(
        &self,
        type_url: &TypeUrl,
        resource_names: Vec<String>,
        node: Option<Node>,
        error_detail: Option<rpc::Status>,
    ) {
        let known = self.versions.get(kind_of(type_url)).cloned();
        let (version_info, response_nonce) = known.unwrap_or_default();
        // The stream may be over already.
        let _ = self.requests_tx.send(DiscoveryRequest {
            version_info,
            node,
            resource_names,
            type_url: type_url.to_string(),
            response_nonce,
            error_detail,
            ..DiscoveryRequest::default()
        });
    }
}

/// A resource with its name, and its content in place of a version.
fn named(kind: &str, body: Any) -> (String, String, Any) {
    let name = match kind {
        "CDS" => decode_any::<Cluster>(&body).expect("a cluster").name,
        "LDS" => decode_any::<Listener>(&body).expect("a listener").name,
        "RDS" => {
            decode_any::<RouteConfiguration>(&body)
                .expect("a table")
                .name
        }
        _ => {
            let read = decode_any::<ClusterLoadAssignment>(&body);
            read.expect("endpoints").cluster_name
        }
    };
    let hash =
        std::hash::BuildHasher::hash_one(&foldhash::fast::FixedState::default(), &body.value);
    (name, format!("{hash:x}"), body)
}
