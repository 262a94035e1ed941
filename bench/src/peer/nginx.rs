//! nginx: one process, the same routes, kept connections to the backend. Towards an HTTP/2 backend
//! it speaks through its gRPC module, the only one that can.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Found, Side, Stage};
use crate::identity::{CHAIN, KEY, ROOTS};
use crate::ports::{BACKEND_H1, BACKEND_H2, Ports};
use crate::process::{PROXY_CORE, on_core};

pub(super) fn command(
    found: &Found,
    stage: &Stage,
    side: Side,
    ports: Ports,
    directory: &Path,
) -> Result<Command> {
    let path = directory.join("nginx.conf");
    let text = match side {
        Side::Plain => plain(ports, directory),
        Side::Inbound | Side::Outbound(_) => config(ports, &stage.server, directory),
    };
    fs::write(&path, text)?;
    let mut command = on_core(PROXY_CORE, &found.binary)?;
    command.arg("-p").arg(directory).arg("-c").arg(path);
    command.args(["-e", "stderr"]);
    Ok(command)
}

fn config(ports: Ports, identity: &Path, directory: &Path) -> String {
    let file = |name: &str| identity.join(name).display().to_string();
    let (chain, key, roots) = (file(CHAIN), file(KEY), file(ROOTS));
    let (h1, h2, tls) = (ports.h1(), ports.h2(), ports.tls());
    let temporary = directory.display();
    let user = user();
    let proxy = locations(
        "proxy_pass http://h1; proxy_http_version 1.1; proxy_set_header Connection \"\";",
        "proxy",
    );
    let grpc = locations("grpc_pass grpc://h2;", "grpc");
    format!(
        "{user}
daemon off; master_process off; pid {temporary}/pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 3600s; keepalive_requests 1000000000;
  client_body_buffer_size 64k; large_client_header_buffers 8 16k;
  client_body_temp_path {temporary}/body; proxy_temp_path {temporary}/proxy;
  fastcgi_temp_path {temporary}/fastcgi; uwsgi_temp_path {temporary}/uwsgi;
  scgi_temp_path {temporary}/scgi;
  upstream h1 {{ server 127.0.0.1:{BACKEND_H1}; keepalive 512; keepalive_requests 1000000000;
    keepalive_time 24h; }}
  upstream h2 {{ server 127.0.0.1:{BACKEND_H2}; keepalive 512; keepalive_requests 1000000000;
    keepalive_time 24h; }}
  server {{
    listen 127.0.0.1:{h1} backlog=4096;
    listen 127.0.0.1:{tls} ssl backlog=4096;
    ssl_certificate {chain}; ssl_certificate_key {key};
    ssl_client_certificate {roots}; ssl_verify_client on; ssl_verify_depth 3;
    ssl_protocols TLSv1.2 TLSv1.3;
{proxy}  }}
  server {{
    listen 127.0.0.1:{h2} http2 backlog=4096;
{grpc}  }}
}}
"
    )
}

/// Everything to the recorder, with kept connections.
fn plain(ports: Ports, directory: &Path) -> String {
    let (user, h1, recorder) = (user(), ports.h1(), ports.recorder());
    let temporary = directory.display();
    format!(
        "{user}
daemon off; master_process off; pid {temporary}/pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {temporary}/body; proxy_temp_path {temporary}/proxy;
  fastcgi_temp_path {temporary}/fastcgi; uwsgi_temp_path {temporary}/uwsgi;
  scgi_temp_path {temporary}/scgi;
  upstream backend {{ server 127.0.0.1:{recorder} max_fails=0; keepalive 16; }}
  server {{
    listen 127.0.0.1:{h1};
    location / {{
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

fn user() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    }
}

fn locations(pass: &str, module: &str) -> String {
    format!(
        "    location = /healthz {{ return 404; }}
    location /admin {{ return 404; }}
    location ~ ^/v[0-9]+/users/ {{ return 404; }}
    location /api/v1 {{
      if ($http_x_tenant != blue) {{ return 404; }}
      {module}_set_header Host $http_host;
      {module}_set_header X-Request-Id $request_id;
      {module}_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      {module}_set_header X-Forwarded-Proto $scheme;
      {pass}
    }}
    location / {{ return 404; }}
"
    )
}
