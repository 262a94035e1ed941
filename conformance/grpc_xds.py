"""gRPC's own xDS client, and its xDS server, without a proxy, against the control plane."""

import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import plane

SERVICE = "/conformance.Where/Am"
TARGET = "xds:///greeter.default.svc.cluster.local:7070"


def routes(http):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "greeter", "namespace": "default"},
        "spec": {"hosts": ["greeter"], "http": http},
    }


SUBSETS = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "greeter", "namespace": "default"},
    "spec": {
        "host": "greeter",
        "subsets": [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")],
    },
}


def to(subset, **more):
    return {"destination": {"host": "greeter", "subset": subset}, **more}


def backend(grpc, name):
    """A server that says who it is, and on the wish of the caller that it cannot serve."""
    failures = collections.Counter()

    def answer(request, context):
        given = dict(context.invocation_metadata())
        failing = given.get("fail-first")
        if failing:
            failures[failing] += 1
            if failures[failing] == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        if "slow" in given:
            time.sleep(6)
        return name.encode()

    class Handler(grpc.GenericRpcHandler):
        def service(self, call):
            if call.method == SERVICE:
                return grpc.unary_unary_rpc_method_handler(answer)

    return Handler()


def serve(grpc, name):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((backend(grpc, name),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class Plane:
    """The control plane, with configuration that can be changed."""

    def __init__(self, folder, services):
        self.port = plane.free_port()
        self.config = folder / "config.yaml"
        self.write([])
        listed = folder / "services.json"
        listed.write_text(json.dumps(services))
        binary = os.environ["PLANE"]
        command = [binary, str(self.port), str(listed), str(self.config)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        plane.until_listening(self.port, self.process)

    def write(self, documents):
        self.config.write_text("\n---\n".join(json.dumps(d) for d in documents))

    def apply(self, *documents):
        self.write(documents)
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


def openssl(folder, *args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)


def certificates(folder):
    """A workload's certificate as an agent writes it, and the roots of the mesh."""
    (folder / "names").write_text("subjectAltName=URI:spiffe://cluster.local/ns/default/sa/default")
    request = ["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/O=conformance"]
    openssl(folder, *request, "-x509", "-days", "1", "-keyout", "ca.pem", "-out", "root-cert.pem")
    openssl(folder, *request, "-keyout", "key.pem", "-out", "request.pem")
    signing = ["-CA", "root-cert.pem", "-CAkey", "ca.pem", "-CAcreateserial", "-days", "1"]
    openssl(folder, "x509", "-req", "-in", "request.pem", *signing, "-extfile", "names", "-out", "cert-chain.pem")


def bootstrap(folder, port):
    certificates(folder)
    config = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {
            "id": "sidecar~127.0.0.1~client.default~default.svc.cluster.local",
            "metadata": {"GENERATOR": "grpc", "NAMESPACE": "default", "LABELS": {"app": "server"}},
        },
        "certificate_providers": {
            "default": {
                "plugin_name": "file_watcher",
                "config": {
                    "certificate_file": str(folder / "cert-chain.pem"),
                    "private_key_file": str(folder / "key.pem"),
                    "ca_certificate_file": str(folder / "root-cert.pem"),
                    "refresh_interval": "900s",
                },
            }
        },
        "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
    }
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(config))
    return path


def call(channel, timeout=20, **metadata):
    method = channel.unary_unary(SERVICE)
    pairs = [(key.replace("_", "-"), value) for key, value in metadata.items()]
    return method(b"", metadata=pairs, timeout=timeout, wait_for_ready=True).decode()


def until(what, holds, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def check_routes(grpc, control, channel):
    until("both are met", lambda: {call(channel) for _ in range(10)} == {"v1", "v2"})
    control.apply(SUBSETS, routes([{"route": [to("v1")]}]))
    until("all go to v1", lambda: {call(channel) for _ in range(20)} == {"v1"})
    by_header = {"match": [{"headers": {"user": {"exact": "jason"}}}], "route": [to("v2")]}
    control.apply(SUBSETS, routes([by_header, {"route": [to("v1")]}]))
    until("a header leads to v2", lambda: call(channel, user="jason") == "v2")
    assert {call(channel) for _ in range(20)} == {"v1"}
    control.apply(SUBSETS, routes([{"route": [to("v1", weight=80), to("v2", weight=20)]}]))
    until("v2 has a share", lambda: {call(channel) for _ in range(20)} == {"v1", "v2"})
    share = sum(call(channel) == "v2" for _ in range(1000))
    assert 120 < share < 280, f"{share} of 1000 requests went to v2"
    print(f"grpc_xds: {share} of 1000 requests went to v2, which has a share of 20 percent")


def check_failures(grpc, control, channel):
    control.apply(SUBSETS, routes([{"route": [to("v1")], "retries": {"attempts": 2, "retryOn": "unavailable"}}]))
    until("all go to v1", lambda: {call(channel) for _ in range(20)} == {"v1"})
    assert call(channel, fail_first="once") == "v1"
    no_retries = {"route": [to("v1")], "retries": {"attempts": 0}, "timeout": "3s"}
    control.apply(SUBSETS, routes([no_retries]))

    def code(**metadata):
        try:
            call(channel, **metadata)
        except grpc.RpcError as error:
            return error.code()

    wishes = iter(range(1000))
    unavailable = grpc.StatusCode.UNAVAILABLE
    until("nobody tries again", lambda: code(fail_first=f"n{next(wishes)}") == unavailable)
    assert code(slow="1") == grpc.StatusCode.DEADLINE_EXCEEDED
    abort = {"abort": {"httpStatus": 403, "percentage": {"value": 100}}}
    control.apply(SUBSETS, routes([{"route": [to("v1")], "fault": abort}]))
    denied = grpc.StatusCode.PERMISSION_DENIED
    until("the fault answers", lambda: code() == denied)


def check_server(grpc, control):
    """A server that is served by the control plane answers, also under its short name."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), xds=True)
    server.add_generic_rpc_handlers((backend(grpc, "xds"),))
    port = int(os.environ["SERVER_PORT"])
    credentials = grpc.xds_server_credentials(grpc.insecure_server_credentials())
    # It is bound once the control plane has said how it is to serve.
    server.add_secure_port(f"0.0.0.0:{port}", credentials)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        until("the server serves", lambda: call(channel) == "xds")
    with grpc.insecure_channel(f"xds:///server:{port}") as channel:
        assert call(channel) == "xds"
    server.stop(None)


def check_mutual_tls(grpc, control):
    """A server that takes the mesh's TLS alone, and a client that is told to use it."""
    host = "secure.default.svc.cluster.local"
    strict = {
        "kind": "PeerAuthentication",
        "metadata": {"name": "secure", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "server"}}, "mtls": {"mode": "STRICT"}},
    }
    mutual = {
        "kind": "DestinationRule",
        "metadata": {"name": "secure", "namespace": "default"},
        "spec": {"host": host, "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}},
    }
    control.apply(strict, mutual)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), xds=True)
    server.add_generic_rpc_handlers((backend(grpc, "secure"),))
    port = int(os.environ["SECURE_PORT"])
    insecure = grpc.insecure_server_credentials()
    server.add_secure_port(f"0.0.0.0:{port}", grpc.xds_server_credentials(insecure))
    server.start()
    credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    with grpc.secure_channel(f"xds:///{host}:{port}", credentials) as channel:
        until("mutual TLS is agreed on", lambda: call(channel) == "secure")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            call(channel, timeout=2)
            raise AssertionError("a plain connection was served")
        except grpc.RpcError as error:
            assert error.code() != grpc.StatusCode.OK
    server.stop(None)


def endpoint(port, version):
    return {"address": "127.0.0.1", "port": port, "labels": {"version": version}}


def service(name, port, endpoints, app=None):
    return {
        "app": app or name,
        "name": name,
        "namespace": "default",
        "port": port,
        "protocol": "grpc",
        "endpoints": endpoints,
    }


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="grpc-xds-"))
    server_port, secure_port = plane.free_port(), plane.free_port()
    os.environ["SERVER_PORT"], os.environ["SECURE_PORT"] = str(server_port), str(secure_port)
    # The library reads where its bootstrap is when it is first used.
    path = folder / "bootstrap.json"
    os.environ["GRPC_XDS_BOOTSTRAP"] = str(path)
    import grpc
    import grpc.experimental

    backends = [serve(grpc, version) for version in ("v1", "v2")]
    endpoints = [endpoint(port, v) for (_, port), v in zip(backends, ("v1", "v2"))]
    services = [
        service("greeter", 7070, endpoints),
        service("server", server_port, [endpoint(server_port, "v1")]),
        service("secure", secure_port, [endpoint(secure_port, "v1")], app="server"),
    ]
    control = Plane(folder, services)
    bootstrap(folder, control.port)
    with contextlib.ExitStack() as stack:
        stack.callback(control.stop)
        channel = stack.enter_context(grpc.insecure_channel(TARGET))
        check_routes(grpc, control, channel)
        check_failures(grpc, control, channel)
        check_server(grpc, control)
        check_mutual_tls(grpc, control)
    for server, _ in backends:
        server.stop(None)
    print("grpc_xds: routes, weights, headers, retries, timeouts, faults, a server, mutual TLS: passed")


if __name__ == "__main__":
    sys.exit(main())
