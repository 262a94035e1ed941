"""Autobahn's fuzzing client against an echo server, through the proxy over HTTP/1.1, and
from HTTP/1.1 to HTTP/2 and back, by two listeners of which one is behind the other.

Cases that fail are run again without the proxy: what fails there too is not ours.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import plane

#: By listener. Compression is the same bytes to a proxy, and most of the time that all cases take.
CASES = {
    "plain": ["*"],
    "bridged": [*(f"{group}.*" for group in range(1, 11)), "12.1.*", "13.1.*"],
}
PASSED = {"OK", "INFORMATIONAL", "NON-STRICT"}


def fuzz(folder, name, port, cases):
    """The result of each case."""
    spec = {
        "outdir": str(folder / name),
        "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(spec))
    with open(folder / f"{name}.log", "w") as log:
        subprocess.run(
            [os.environ["WSTEST"], "-m", "fuzzingclient", "-s", file],
            cwd=folder, stdout=log, stderr=log, check=True,
        )  # fmt: skip
    return json.loads((folder / name / "index.json").read_text())[name]


def bad(result):
    return [result[part] for part in ("behavior", "behaviorClose") if result[part] not in PASSED]


def judge(report, folder, through, echo_port):
    """Counts the cases; what fails without the proxy too is not its fault."""
    suspects = [case for case, result in through.items() if bad(result)]
    direct = fuzz(folder, "direct", echo_port, suspects) if suspects else {}
    for case, result in through.items():
        if bad(result) and bad(direct[case]):
            report.excuse(case, bad(direct[case]))
        else:
            report.case(case, not bad(result), bad(result))


def main():
    port = plane.free_port()
    outer = plane.free_port()
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        echo = pathlib.Path(__file__).with_name("echo.py")
        # Some cases send 4 MiB in fragments of 64 bytes, against which the library has a bound.
        env = {**os.environ, "WEBSOCKETS_MAX_FRAGMENTS": str(1 << 17)}
        server = subprocess.Popen([sys.executable, echo, str(port)], env=env)
        try:
            plane.until_listening(port, server)
            routes = {
                "plain": plane.Route(port),
                "inner": plane.Route(port, port=outer),
                "bridged": plane.Route(outer, http2=True),
            }
            with plane.Proxy(routes) as proxy:
                for name, cases in CASES.items():
                    reports.append(plane.Report(f"Autobahn, {name}"))
                    through = fuzz(folder, name, proxy.ports[name], cases)
                    judge(reports[-1], folder, through, port)
        finally:
            server.terminate()
            server.wait()
    return all([report.close() for report in reports])


if __name__ == "__main__":
    sys.exit(not main())
