"""Clients and servers that people use, through the proxy: curl, nghttp, node, Python's own and
others, with what is easily got wrong: pipelining, Expect, trailers, ranges, early hints, large
bodies with little memory, and many connections that do nothing."""

import http.client
import http.server
import os
import pathlib
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

import httpx
import plane
import requests

GIB = 1 << 30
#: Clients that are checked where they are installed.
NODE_FETCH = "fetch(process.argv[1], {method: 'POST', body: 'from node'}).then(r => r.text()).then(console.log)"
NODE_SERVER = """
const http = require('http');
http.createServer((req, res) => {
  res.writeEarlyHints({link: '</style.css>; rel=preload'});
  res.setHeader('Trailer', 'X-Sum');
  let n = 0;
  req.on('data', d => { n += d.length; });
  req.on('end', () => { res.write(String(n)); res.addTrailers({'X-Sum': String(n)}); res.end(); });
}).listen(Number(process.argv[1]), '127.0.0.1');
"""


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        """Yields the pieces of the request's body."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("content-length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 18))
            left -= len(piece)
            yield piece

    def reply(self, status, data=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 304:
            self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/large":
            self.send_response(200)
            self.send_header("content-length", query)
            self.end_headers()
            piece = bytes(1 << 18)
            for _ in range(int(query) // len(piece)):
                self.wfile.write(piece)
        elif path == "/304":
            self.reply(304, headers=[("etag", '"x"')])
        elif path == "/range":
            self.reply(206, b"cde", [("content-range", "bytes 2-4/10")])
        else:
            self.reply(200, self.path.encode())

    do_HEAD = do_GET

    def do_POST(self):
        if self.path == "/count":
            self.reply(200, b"%d" % sum(len(piece) for piece in self.body()))
        else:
            self.reply(200, b"".join(self.body()))

    do_PUT = do_POST

    def handle_expect_100(self):
        if self.path == "/refuse":
            self.close_connection = True
            self.reply(413)
            return False
        return super().handle_expect_100()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024

    def handle_error(self, *_):
        """Clients that go away are part of it."""


def run(*command, stdin=None):
    done = subprocess.run(command, capture_output=True, stdin=stdin, timeout=300, check=False)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr[-300:]}"
    return done.stdout


def equal(seen, wanted):
    assert seen == wanted, f"{seen!r:.200} instead of {wanted!r:.200}"


def curl(report, url, tls_url, folder):
    upload = pathlib.Path(folder, "upload")
    upload.write_bytes(os.urandom(8 << 20))
    ways = {
        "HTTP/1.1": ["--http1.1", url], "HTTP/1.0": ["--http1.0", url],
        "HTTP/2": ["--http2-prior-knowledge", url], "upgrade to h2c": ["--http2", url],
        "HTTP/2 over TLS": ["-k", "--http2", tls_url],
        "HTTP/1.1 over TLS": ["-k", "--http1.1", tls_url],
    }  # fmt: skip
    for name, (*options, base) in ways.items():
        with report.check(f"curl, {name}: GET"):
            equal(run("curl", "-sS", *options, base + "/a?b=c"), b"/a?b=c")
        with report.check(f"curl, {name}: HEAD"):
            assert b"content-length: 2\r\n" in run("curl", "-sSI", *options, base + "/x").lower()
        with report.check(f"curl, {name}: upload that expects 100"):
            expect = ["-H", "Expect: 100-continue", "--data-binary", f"@{upload}"]
            equal(run("curl", "-sS", *options, *expect, base + "/echo"), upload.read_bytes())
        if name != "HTTP/1.0":
            with report.check(f"curl, {name}: upload of unknown length"), upload.open("rb") as stdin:
                sent = run("curl", "-sS", *options, "-T", "-", base + "/echo", stdin=stdin)
                equal(sent, upload.read_bytes())
        with report.check(f"curl, {name}: upload that is refused"):
            expect = ["-H", "Expect: 100-continue", "--data-binary", f"@{upload}", "-w", "%{http_code}"]
            command = ["curl", "-sS", *options, *expect, base + "/refuse"]
            # It may complain that it could not send everything.
            done = subprocess.run(command, capture_output=True, timeout=300, check=False)
            equal(done.stdout, b"413")
        with report.check(f"curl, {name}: 304 and 206"):
            code = ["-o", "/dev/null", "-w", "%{http_code} "]
            equal(run("curl", "-sS", *options, *code, base + "/304"), b"304 ")
            equal(run("curl", "-sS", *options, "-r", "2-4", base + "/range"), b"cde")


def python(report, url, tls_url, port):
    with report.check("http.client: keep-alive and a chunked request"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for number in range(50):
            connection.request("GET", f"/{number}")
            equal(connection.getresponse().read(), b"/%d" % number)
        pieces = [b"one", b"two" * 10000]
        connection.request("POST", "/echo", iter(pieces), encode_chunked=True,
                           headers={"transfer-encoding": "chunked"})  # fmt: skip
        equal(connection.getresponse().read(), b"".join(pieces))
    with report.check("requests"), requests.Session() as session:
        for number in range(20):
            equal(session.get(f"{url}/{number}").text, f"/{number}")
        equal(session.post(url + "/echo", data=iter([b"a", b"b"])).text, "ab")
    with report.check("httpx over HTTP/2"):
        with httpx.Client(http2=True, verify=False) as client:
            response = client.post(tls_url + "/echo", content=b"x" * 3_000_000)
            equal((response.http_version, len(response.content)), ("HTTP/2", 3_000_000))
    with report.check("pipelining"), socket.create_connection(("127.0.0.1", port), 30) as stream:
        paths = [f"/{number}" for number in range(100)]
        stream.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths).encode())
        reader, seen = stream.makefile("rb"), []
        for _ in paths:
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length"):
                    length = int(line.split(b":")[1])
            seen.append(reader.read(length).decode())
        equal(seen, paths)


def others(report, url, folder):
    if shutil.which("nghttp"):
        with report.check("nghttp"):
            equal(run("nghttp", "--no-dep", url + "/a"), b"/a")
        with report.check("h2load"):
            out = run("h2load", "-n", "2000", "-c", "4", "-m", "50", url + "/a").decode()
            assert "2000 succeeded, 0 failed" in out, out
    if shutil.which("node"):
        with report.check("node's fetch"):
            equal(run("node", "-e", NODE_FETCH, url + "/echo"), b"from node\n")


def node_server(report):
    port = plane.free_port()
    server = subprocess.Popen(["node", "-e", NODE_SERVER, str(port)])
    try:
        plane.until_listening(port, server)
        with plane.Proxy({"node": plane.Route(port)}) as proxy:
            url = f"http://127.0.0.1:{proxy.ports['node']}/"
            for name, option in [("HTTP/1.1", "--http1.1"), ("HTTP/2", "--http2-prior-knowledge")]:
                with report.check(f"early hints and trailers of node, {name}"):
                    shown = ["-D", "-", option, "--data", "12345"]
                    seen = run("curl", "-sS", *shown, url).lower()
                    assert b" 103" in seen and b"link: </style.css>" in seen, seen
                    assert b"x-sum: 5\r\n" in seen, seen
    finally:
        server.terminate()
        server.wait()


def large(report, url, proxy):
    """A gigabyte each way; a reader who pauses must not make the proxy collect it."""
    for name, option in [("HTTP/1.1", "--http1.1"), ("HTTP/2", "--http2-prior-knowledge")]:
        with report.check(f"download of 1 GiB, {name}"):
            command = ["curl", "-sS", option, "-o", "/dev/null", "-w", "%{size_download}"]
            equal(run(*command, f"{url}/large?{GIB}"), b"%d" % GIB)
        with report.check(f"upload of 1 GiB, {name}"):
            producer = subprocess.Popen(["head", "-c", str(GIB), "/dev/zero"], stdout=subprocess.PIPE)
            command = ["curl", "-sS", option, "-T", "-", url + "/count"]
            equal(run(*command, stdin=producer.stdout), b"%d" % GIB)
            producer.wait()
    with report.check("memory after large bodies"):
        resident = proxy.memory()
        print(f"resident after 4 GiB: {resident >> 20} MiB")
        assert resident < 100 << 20


def never_read(report, port, proxy):
    with report.check("100 clients that ask for 1 GiB and read nothing"):
        before, clients = proxy.memory(), []
        for _ in range(100):
            clients.append(socket.create_connection(("127.0.0.1", port), 30))
            clients[-1].sendall(f"GET /large?{GIB} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        time.sleep(3)  # For the bodies to fill whatever takes them.
        grown = proxy.memory() - before
        print(f"100 responses that nobody reads: {grown >> 10} KiB more")
        for client in clients:
            client.close()
        assert grown < 100 << 20


def idle(report, url, port, proxy, count=10_000):
    with report.check(f"{count} idle connections, half of which have begun a head"):
        before, clients = proxy.memory(), []
        for number in range(count):
            clients.append(socket.create_connection(("127.0.0.1", port), 30))
            clients[-1].sendall(b"GET / HTTP/1.1\r\nHost" if number % 2 else b"")
        equal(requests.get(url + "/alive", timeout=30).text, "/alive")
        grown = proxy.memory() - before
        print(f"{count} idle connections: {grown // count} bytes each")
        for client in clients:
            client.close()
        assert grown < count * 16384


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The proxy inherits it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    report = plane.Report("clients")
    server = Server(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = server.server_address[1]
    routes = {"plain": plane.Route(backend), "tls": plane.Route(backend, tls=True)}
    with plane.Proxy(routes) as proxy, tempfile.TemporaryDirectory() as folder:
        port = proxy.ports["plain"]
        url, tls_url = f"http://127.0.0.1:{port}", f"https://localhost:{proxy.ports['tls']}"
        curl(report, url, tls_url, folder)
        python(report, url, tls_url, port)
        others(report, url, folder)
        never_read(report, port, proxy)
        idle(report, url, port, proxy)
        large(report, url, proxy)
    if shutil.which("node"):
        node_server(report)
    return report.close()


if __name__ == "__main__":
    sys.exit(not main())
