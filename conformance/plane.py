"""A proxy with a static configuration, backends by port, and what the checks share."""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

TYPES = "type.googleapis.com/envoy.extensions."
HCM = TYPES + "filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = TYPES + "filters.http.router.v3.Router"
OPTIONS = TYPES + "upstreams.http.v3.HttpProtocolOptions"
DOWNSTREAM_TLS = TYPES + "transport_sockets.tls.v3.DownstreamTlsContext"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_listening(port, process=None, seconds=30):
    """Waits for a server; says so when its process ended instead."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the server on port {port} ended with {process.returncode}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port, http2=False):
    made = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    }
    if http2:
        config = {"http2_protocol_options": {"allow_connect": True}}
        made["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": OPTIONS,
                "explicit_http_config": config,
            }
        }
    return made


def listener(port, target, tls=None, codec="AUTO"):
    """All of a port to one cluster."""
    route = {"cluster": target, "timeout": "0s"}
    hcm = {
        "@type": HCM,
        "stat_prefix": "conformance",
        "codec_type": codec,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {"allow_connect": True},
        "route_config": {
            "name": "all",
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
            ],
        },
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": hcm}]}
    if tls:
        cert, key = (pathlib.Path(file).read_text() for file in tls)
        certificate = {
            "certificate_chain": {"inline_string": cert},
            "private_key": {"inline_string": key},
        }
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": DOWNSTREAM_TLS,
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [certificate],
                },
            },
        }
    return {
        "name": f"in-{port}",
        "address": address(port),
        "traffic_direction": "INBOUND",
        "filter_chains": [chain],
    }


def certificate(folder):
    """A certificate for localhost that lasts a day."""
    cert, key = (os.path.join(folder, name) for name in ("cert.pem", "key.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-out", cert, "-keyout", key],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return cert, key


@dataclasses.dataclass
class Route:
    """A way through the proxy."""

    backend: int
    #: Towards the backend; in cleartext.
    http2: bool = False
    #: Towards the client.
    tls: bool = False
    codec: str = "AUTO"
    #: Where it listens; any port where it is None.
    port: int | None = None


class Proxy:
    """The proxy with one listener, cluster and backend for each name in `routes`."""

    def __init__(self, routes):
        self.folder = tempfile.TemporaryDirectory()
        self.admin = free_port()
        self.ports = {name: route.port or free_port() for name, route in routes.items()}
        pair = None
        if any(route.tls for route in routes.values()):
            pair = certificate(self.folder.name)
        listeners = [
            listener(self.ports[name], name, pair if route.tls else None, route.codec)
            for name, route in routes.items()
        ]
        clusters = [cluster(name, route.backend, route.http2) for name, route in routes.items()]
        bootstrap = {
            "node": {"id": "sidecar~127.0.0.1~conformance.default~default.svc.cluster.local"},
            "admin": {"address": address(self.admin)},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        }
        file = pathlib.Path(self.folder.name, "bootstrap.json")
        file.write_text(json.dumps(bootstrap))
        self.process = subprocess.Popen([os.environ["SERVE"], file])
        for port in [self.admin, *self.ports.values()]:
            until_listening(port, self.process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def memory(self):
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


class Report:
    """Counts cases and names those that failed."""

    def __init__(self, name):
        self.name, self.passed, self.excused, self.failed = name, 0, 0, []

    def case(self, what, ok, why=""):
        if ok:
            self.passed += 1
        else:
            self.failed.append(what)
            print(f"FAILED {self.name}: {what}: {why}", flush=True)

    def excuse(self, what, why):
        """A case whose failure is not the proxy's."""
        self.excused += 1
        print(f"excused {self.name}: {what}: {why}", flush=True)

    @contextlib.contextmanager
    def check(self, what):
        """A case that fails where its block raises."""
        try:
            yield
        except Exception as error:  # noqa: BLE001: whatever it was, it is the case's result
            self.case(what, False, f"{type(error).__name__}: {error}")
        else:
            self.case(what, True)

    def close(self):
        excused = f", {self.excused} fail without the proxy too" if self.excused else ""
        print(f"{self.name}: {self.passed} passed, {len(self.failed)} failed{excused}", flush=True)
        return not self.failed
