"""Installing, injecting and going over to another version, on a real Kubernetes.

    cargo xtask image && cargo xtask image bookinfo
    cluster load target/images/*.tar
    cluster run python3 check.py LATEEN [manifests] [profiles] [revisions] [plugin] [charts]

KUBECONFIG names a cluster without a mesh, whose nodes have the mesh's images and Bookinfo's, and whose
services can be reached from here. CNI_CONF_DIR and CNI_BIN_DIR are where the node has its networks and
their plugins; `cluster run` says so. Charts are installed where `helm` is on the path. Ends with an
error at the first thing that is not as it should be.
"""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

LATEEN = sys.argv[1]
ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples/bookinfo"
# What the API server of a cluster, or its controllers, put there by themselves.
OF_PLATFORM = {"kube-root-ca.crt", "extension-apiserver-authentication",
               "kube-apiserver-legacy-service-account-token-tracking"}

# Workloads of a namespace take mutual TLS alone.
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
"""


def run(*command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*arguments, text=None):
    return run("kubectl", *arguments, text=text)


def lateen(*arguments):
    start = time.monotonic()
    said = run(LATEEN, *arguments)
    print(f"{time.monotonic() - start:6.1f} s  lateen {' '.join(arguments)}")
    return said


def address(service, namespace):
    return kubectl("get", "service", service, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")


def page(host):
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request("GET", "/productpage")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Requests(threading.Thread):
    """Asks again and again until it is told to stop, and remembers what failed."""

    def __init__(self, host):
        super().__init__(daemon=True)
        self.host, self.count, self.failed = host, 0, []
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.02):
            self.count += 1
            try:
                status, body = page(self.host)
                if status != 200 or b"reviews-v" not in body:
                    self.failed.append((time.strftime("%T"), status, body[:80]))
            except OSError as error:
                self.failed.append((time.strftime("%T"), repr(error)))

    def end(self):
        self.over.set()
        self.join()
        print(f"{self.count} requests, {len(self.failed)} failed")
        if self.failed or self.count < 100:
            sys.exit(f"requests failed: {self.failed[:5]}")


def manifests():
    """Every generated manifest is taken by the API server as it is."""
    for profile in ["minimal", "default", "demo", "preview"]:
        for more in [[], ["--set", "revision=canary"]]:
            manifest = run(LATEEN, "manifest", "generate", "--set", f"profile={profile}", *more)
            # Definitions and the namespace first: a dry run of the rest needs them.
            kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=manifest)
            kubectl("apply", "--dry-run=server", "-f", "-", text=manifest)
    lateen("uninstall", "--purge", "-y")


def nothing_is_left():
    kinds = "crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration,namespace"
    left = kubectl("get", kinds, "-o", "name").split()
    left += kubectl("get", "configmap,secret,service,deployment,role,rolebinding,serviceaccount", "-A", "-o", "name").split()
    # The Gateway API's own definitions are nobody's business.
    left = [name for name in left if ("istio" in name or "lateen" in name)
            and name.split("/")[-1] not in OF_PLATFORM]
    if left:
        sys.exit(f"left behind: {left}")


def profiles():
    for profile in ["minimal", "default", "demo", "preview", "minimal"]:
        lateen("install", "-y", "--set", f"profile={profile}")
        lateen("verify-install")
    lateen("upgrade", "-y")
    lateen("verify-install")
    lateen("uninstall", "--purge", "-y")


def bookinfo():
    kubectl("label", "namespace", "default", "istio-injection=enabled", "--overwrite")
    kubectl("apply", "-f", str(SAMPLES / "platform/kube/bookinfo.yaml"))
    kubectl("apply", "-f", str(SAMPLES / "networking/bookinfo-gateway.yaml"))
    ready()
    host = address("istio-ingressgateway", "istio-system")
    for _ in range(100):
        try:
            if page(host)[0] == 200:
                return host
        except OSError:
            pass
        time.sleep(0.5)
    sys.exit(f"the page is not there: {page(host)}")


def ready():
    for name in kubectl("get", "deployment", "-n", "default", "-o", "name").split():
        kubectl("rollout", "status", name, "-n", "default", "--timeout=180s")


def canary(host):
    requests = Requests(host)
    requests.start()
    lateen("install", "-y", "--set", "revision=canary")
    kubectl("label", "namespace", "default", "istio-injection-", "istio.io/rev=canary")
    kubectl("rollout", "restart", "deployment", "-n", "default")
    ready()
    lateen("uninstall", "-y", "--revision", "default")
    time.sleep(5)
    requests.end()


def bookinfo_ends():
    kubectl("delete", "-f", str(SAMPLES / "networking/bookinfo-gateway.yaml"))
    kubectl("delete", "-f", str(SAMPLES / "platform/kube/bookinfo.yaml"))
    kubectl("label", "namespace", "default", "istio-injection-", "istio.io/rev-")


def tenants():
    """Who may change one namespace changes nothing of the mesh's."""
    kubectl("create", "namespace", "team")
    kubectl("create", "rolebinding", "team", "-n", "team", "--clusterrole=edit", "--user=tenant")
    asked = [("yes", "create", "deployments.apps", "team"), ("yes", "patch", "services", "team"),
             ("no", "create", "deployments.apps", "istio-system"), ("no", "get", "secrets", "istio-system"),
             ("no", "patch", "configmaps", "istio-system"), ("no", "create", "pods", "default"),
             ("no", "patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io", None)]
    for want, verb, kind, namespace in asked:
        where = ["-n", namespace] if namespace else []
        said = subprocess.run(["kubectl", "auth", "can-i", verb, kind, "--as=tenant", *where],
                              capture_output=True, text=True).stdout.strip()
        if said != want:
            sys.exit(f"a tenant may {verb} {kind} in {namespace}: {said}, not {want}")
    kubectl("delete", "namespace", "team")


def charts():
    if not shutil.which("helm"):
        print("charts are not tried: no helm")
        return
    releases = [("istio-base", "base", ["--create-namespace"]), ("istiod", "istiod", []),
                ("istio-ingressgateway", "gateway", [])]
    with tempfile.TemporaryDirectory() as folder:
        lateen("manifest", "chart", "-o", folder)
        for name, chart, more in releases:
            run("helm", "install", name, f"{folder}/{chart}", "-n", "istio-system", *more)
            # Helm's own --wait would wait for a load balancer's address.
            for deployment in kubectl("get", "deployment", "-n", "istio-system", "-o", "name").split():
                kubectl("rollout", "status", deployment, "-n", "istio-system", "--timeout=180s")
    bookinfo()
    bookinfo_ends()
    for name, _, _ in reversed(releases):
        run("helm", "uninstall", name, "-n", "istio-system", "--wait")
    # Helm leaves definitions and what the control plane made: the root certificate in each namespace.
    definitions = kubectl("get", "crd", "-o", "name").split()
    kubectl("delete", *[name for name in definitions if name.endswith(".istio.io")])
    kubectl("delete", "namespace", "istio-system")
    kubectl("delete", "configmap", "-A", "-l", "istio.io/config=true")


def revisions():
    lateen("install", "-y")
    tenants()
    canary(bookinfo())
    bookinfo_ends()
    lateen("uninstall", "--purge", "-y")


def plugin():
    """A plugin of the node captures the traffic of pods that may not do it themselves."""
    networks, plugins = pathlib.Path(os.environ["CNI_CONF_DIR"]), pathlib.Path(os.environ["CNI_BIN_DIR"])
    before = read(networks)
    lateen("install", "-y", "--set", "components.cni.enabled=true",
           "--set", f"values.cni.cniConfDir={networks}", "--set", f"values.cni.cniBinDir={plugins}")
    lateen("verify-install")
    kubectl("label", "namespace", "default", "pod-security.kubernetes.io/enforce=baseline")
    bookinfo()
    names = kubectl("get", "pods", "-n", "default", "-o", "jsonpath={.items[*].spec.initContainers[*].name}").split()
    if "istio-validation" not in names or "istio-init" in names:
        sys.exit(f"pods have the containers {names}")
    # Whoever is not captured would send plain text, and get no answer.
    kubectl("apply", "-f", "-", text=STRICT)
    host = address("istio-ingressgateway", "istio-system")
    for _ in range(20):
        if page(host)[0] != 200:
            sys.exit(f"no page over mutual TLS: {page(host)}")
        time.sleep(0.5)
    kubectl("delete", "-f", "-", text=STRICT)
    bookinfo_ends()
    kubectl("label", "namespace", "default", "pod-security.kubernetes.io/enforce-")
    lateen("uninstall", "--purge", "-y")
    for _ in range(120):
        after = read(networks)
        if after == before and not (plugins / "istio-cni").exists():
            return
        time.sleep(1)
    sys.exit(f"the node is not as it was: {after}, before {before}")


def read(networks):
    """What networks are, however it is written."""
    return {file.name: json.loads(file.read_text()) for file in networks.iterdir()}


STEPS = {"manifests": manifests, "profiles": profiles, "revisions": revisions, "plugin": plugin, "charts": charts}
for step in sys.argv[2:] or STEPS:
    STEPS[step]()
    nothing_is_left()
print("all is as it should be")
