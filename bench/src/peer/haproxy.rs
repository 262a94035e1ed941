//! haproxy: one thread, the same routes, kept connections to the backend.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Found, Side, Stage};
use crate::identity::{BUNDLE, ROOTS};
use crate::ports::{BACKEND_H1, BACKEND_H2, BACKEND_TCP, Ports};
use crate::process::{PROXY_CORE, on_core};

pub(super) fn command(
    found: &Found,
    stage: &Stage,
    side: Side,
    ports: Ports,
    directory: &Path,
) -> Result<Command> {
    let path = directory.join("haproxy.cfg");
    let text = match side {
        Side::Plain => plain(ports),
        Side::Inbound | Side::Outbound(_) => config(ports, &stage.server),
    };
    fs::write(&path, text)?;
    let mut command = on_core(PROXY_CORE, &found.binary)?;
    command.arg("-db").arg("-f").arg(path);
    Ok(command)
}

fn config(ports: Ports, identity: &Path) -> String {
    let bundle = identity.join(BUNDLE).display().to_string();
    let roots = identity.join(ROOTS).display().to_string();
    let (h1, h2, tls, tcp) = (ports.h1(), ports.h2(), ports.tls(), ports.tcp());
    let (plain, second) = (rules("h1"), rules("h2"));
    format!(
        "global
  maxconn 1800
  nbthread 1
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  maxconn 1800
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  http-reuse always
  backlog 4096
frontend h1
  bind 127.0.0.1:{h1}
  bind 127.0.0.1:{tls} ssl crt {bundle} ca-file {roots} verify required alpn http/1.1
{plain}frontend h2
  bind 127.0.0.1:{h2} proto h2
{second}backend h1
  server only 127.0.0.1:{BACKEND_H1}
backend h2
  server only 127.0.0.1:{BACKEND_H2} proto h2
listen tcp
  mode tcp
  bind 127.0.0.1:{tcp}
  server only 127.0.0.1:{BACKEND_TCP}
"
    )
}

/// Everything to the recorder, with kept connections.
fn plain(ports: Ports) -> String {
    let (h1, recorder) = (ports.h1(), ports.recorder());
    format!(
        "global
  maxconn 500
  nbthread 1
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  http-reuse always
  option forwardfor
frontend h1
  bind 127.0.0.1:{h1}
  default_backend plain
backend plain
  server only 127.0.0.1:{recorder}
"
    )
}

fn rules(backend: &str) -> String {
    format!(
        "  unique-id-format %[uuid()]
  unique-id-header x-request-id
  option forwardfor
  http-request set-header x-forwarded-proto https if {{ ssl_fc }}
  http-request set-header x-forwarded-proto http unless {{ ssl_fc }}
  http-request return status 404 if {{ path /healthz }}
  http-request return status 404 if {{ path_beg /admin }}
  http-request return status 404 if {{ path_reg ^/v[0-9]+/users/ }}
  http-request return status 404 unless {{ path_beg /api/v1 }} {{ req.hdr(x-tenant) -m str blue }}
  default_backend {backend}
"
    )
}
