//! The table's files, and what `explain` says of a case.

use std::path::Path;

use lateen_explain::{Behind, Call, Caller, Explanation, Platform, Security, Served, explain};
use lateen_registry::Documents;
use serde_json::Value;

use crate::DOMAIN;
use crate::client::Shown;

/// What a case may say; anything else is a misspelling.
const FIELDS: [&str; 35] = [
    "name",
    "call",
    "from",
    "at",
    "headers",
    "random",
    "security",
    "alpn",
    "sni",
    "routeOnly",
    "to",
    "status",
    "closed",
    "redirect",
    "chain",
    "timeoutMs",
    "retries",
    "path",
    "authority",
    "mirrors",
    "session",
    "faults",
    "tls",
    "pods",
    "object",
    "rule",
    "http2",
    "certificate",
    "then",
    "tries",
    "version",
    "server",
    "hosts",
    "missed",
    "sent",
];

/// The cases of one configuration.
pub(crate) struct Group {
    /// The name of the file.
    pub file: String,
    pub platform: Platform,
    pub cases: Vec<Case>,
}

/// A call and what is to come of it.
pub(crate) struct Case {
    pub name: String,
    /// All that it says.
    pub spec: Value,
    /// Why no proxy runs it.
    pub route_only: Option<String>,
}

/// A case put to `explain`.
pub(crate) struct Asked {
    pub caller: Caller,
    pub call: Call,
    pub told: Explanation,
}

impl Group {
    /// All files, by name.
    pub(crate) fn all() -> Vec<Group> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/table");
        let mut files: Vec<String> = std::fs::read_dir(&dir)
            .expect("the table")
            .map(|entry| entry.expect("an entry").file_name().into_string())
            .map(|name| name.expect("a name in ASCII"))
            .filter(|name| name != "platform.yaml")
            .collect();
        files.sort();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("readable");
        let base = read("platform.yaml");
        let groups = files.into_iter().map(|file| {
            let text = read(&file);
            Group::read(file, &text, &base)
        });
        groups.collect()
    }

    fn read(file: String, text: &str, base: &str) -> Group {
        let group: Value =
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let config = group["config"].as_str().expect("a configuration");
        let texts = [
            Documents::file("platform.yaml", base),
            Documents::file(&*file, config),
        ];
        let platform = Platform::read(&texts, DOMAIN);
        let platform = platform.unwrap_or_else(|faults| panic!("{file}: {faults:#?}"));
        assert!(platform.unused.is_empty(), "{file}: {:?}", platform.unused);
        let cases = group["cases"].as_array().expect("cases");
        Group {
            cases: cases.iter().map(|spec| Case::new(&file, spec)).collect(),
            file,
            platform,
        }
    }

    /// What `explain` says of a case.
    pub(crate) fn ask(&self, case: &Case) -> Result<Asked, String> {
        let platform = &self.platform;
        let who = case.who();
        let caller = platform.caller(who).ok_or(format!("no workload {who}"))?;
        let (method, url) = case
            .text("call")
            .and_then(|call| call.split_once(' '))
            .ok_or("a call is METHOD URL")?;
        let call = if case.is_inbound() {
            platform.call_to(&caller, method, url)
        } else {
            platform.call(&caller, method, url)
        };
        let mut call = call.map_err(|error| error.to_string())?;
        case.complete(&mut call)?;
        let offline = platform.offline(&caller);
        let served = Served::offline(&offline).map_err(|error| error.to_string())?;
        let behind = Behind {
            offline: Some(&offline),
            places: Some(&platform.places),
        };
        let told = explain(&served, &call, behind);
        Ok(Asked { caller, call, told })
    }
}

impl Case {
    fn new(file: &str, spec: &Value) -> Case {
        let name = spec["name"].as_str().expect("a case has a name").to_owned();
        for field in spec.as_object().expect("a case").keys() {
            let known = FIELDS.contains(&field.as_str());
            assert!(known, "{file}: {name}: a case has no field {field:?}");
        }
        Case {
            name,
            spec: spec.clone(),
            route_only: spec["routeOnly"].as_str().map(str::to_owned),
        }
    }

    fn text(&self, field: &str) -> Option<&str> {
        self.spec[field].as_str()
    }

    /// Whose proxy is asked: the caller's, or that of the workload that is called.
    pub(crate) fn who(&self) -> &str {
        let said = self.text("at").or(self.text("from"));
        said.unwrap_or("productpage-v1")
    }

    /// The certificate that the client shows.
    pub(crate) fn shown(&self) -> Shown {
        match self.text("certificate") {
            None => Shown::Nothing,
            Some("trusted") => Shown::Trusted,
            Some("foreign") => Shown::Foreign,
            Some(other) => panic!("{}: certificate {other:?}", self.name),
        }
    }

    pub(crate) fn is_inbound(&self) -> bool {
        self.text("at").is_some()
    }

    fn complete(&self, call: &mut Call) -> Result<(), String> {
        for (name, value) in self.spec["headers"].as_object().into_iter().flatten() {
            let value = value.as_str().ok_or("headers are texts")?;
            let name = name.to_ascii_lowercase();
            call.headers.push((name, value.to_owned()));
        }
        call.random = self.spec["random"].as_u64().unwrap_or(0);
        call.h2 = self.spec["http2"].as_bool().unwrap_or(false);
        match self.text("security") {
            Some("mesh") => call.security = Security::Mesh,
            Some("tls") => {
                call.security = Security::Tls {
                    server_name: None,
                    alpn: Vec::new(),
                    certificate: false,
                }
            }
            Some(other) => return Err(format!("security {other:?}")),
            None => {}
        }
        if let Security::Tls {
            server_name,
            alpn,
            certificate,
        } = &mut call.security
        {
            *certificate = self.text("certificate") == Some("trusted");
            // What the client of these tests speaks.
            *alpn = vec![if call.h2 { "h2" } else { "http/1.1" }.to_owned()];
            if let Some(said) = self.spec["alpn"].as_array() {
                let texts = said.iter().filter_map(Value::as_str);
                *alpn = texts.map(str::to_owned).collect();
            }
            match self.text("sni") {
                None => {}
                Some("") => *server_name = None,
                Some(name) => *server_name = Some(name.to_owned()),
            }
        }
        Ok(())
    }
}
