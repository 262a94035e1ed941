"""Autobahn's fuzzing client against an echo server, through the proxy over HTTP/1.1.

Cases that fail are run again without the proxy: what fails there too is not ours.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import plane

PASSED = {"OK", "INFORMATIONAL", "NON-STRICT"}


def fuzz(folder, name, port):
    """The result of each case."""
    spec = {
        "outdir": str(folder / name),
        "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}],
        "cases": os.environ.get("CASES", "*").split(","),
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
    index = json.loads((folder / name / "index.json").read_text())
    return {case: result for case, result in index[name].items()}


def bad(result):
    return [result[part] for part in ("behavior", "behaviorClose") if result[part] not in PASSED]


def main():
    report = plane.Report("Autobahn over HTTP/1.1")
    port = plane.free_port()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        server = subprocess.Popen(
            [sys.executable, pathlib.Path(__file__).with_name("echo.py"), str(port)]
        )
        try:
            plane.until_listening(port, server)
            with plane.Proxy({"echo": plane.Route(port)}) as proxy:
                through = fuzz(folder, "proxied", proxy.ports["echo"])
            suspects = [case for case, result in through.items() if bad(result)]
            direct = {}
            if suspects:
                os.environ["CASES"] = ",".join(suspects)
                direct = fuzz(folder, "direct", port)
            for case, result in through.items():
                own = bad(result) and not bad(direct[case])
                if bad(result) and not own:
                    print(f"{case} fails without the proxy too: {bad(direct[case])}")
                report.case(case, not own, bad(result))
        finally:
            server.terminate()
            server.wait()
    return report.close()


if __name__ == "__main__":
    sys.exit(not main())
