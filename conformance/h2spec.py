"""All cases of h2spec, in cleartext and after TLS, in front of a backend that answers 200."""

import http.server
import os
import re
import subprocess
import sys
import threading

import plane


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if self.headers.get("transfer-encoding"):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            while self.rfile.readline().strip():
                pass
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "12")
        self.end_headers()
        self.wfile.write(b"hello world\n")

    do_GET = do_POST = do_HEAD = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """Illegal requests are broken off, and so are what they had become here."""


def main():
    server = Server(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    backend = server.server_address[1]
    # In cleartext the listener speaks HTTP/2 alone: where HTTP/1 is spoken too, an invalid preface
    # is a bad request of that.
    routes = {
        "cleartext": plane.Route(backend, codec="HTTP2"),
        "tls": plane.Route(backend, tls=True),
    }
    good = True
    with plane.Proxy(routes) as proxy:
        for name, port in proxy.ports.items():
            command = [os.environ["H2SPEC"], "-h", "127.0.0.1", "-p", str(port), "-o", "5"]
            if routes[name].tls:
                command += ["-t", "-k"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            counts = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
            passed = counts and counts[1] == counts[2] and int(counts[1]) > 0
            if not passed:
                good = False
                print(done.stdout[done.stdout.find("Failures:") :], done.stderr)
            print(f"h2spec, {name}: {counts[0] if counts else 'no result'}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(not main())
