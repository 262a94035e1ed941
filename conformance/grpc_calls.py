"""gRPC's own library on both sides of the proxy, HTTP/2 without TLS in and out."""

import concurrent.futures
import contextlib
import os
import sys
import threading
import time

import grpc
import plane
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

LARGE = 24 << 20
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service(grpc.GenericRpcHandler):
    """Methods by name; messages are bytes as they come."""

    def __init__(self):
        self.cancelled = threading.Event()
        self.started = threading.Event()

    def service(self, call):
        name = call.method.rpartition("/")[2]
        method = getattr(self, name.lower(), None)
        kinds = {
            "uu": grpc.unary_unary_rpc_method_handler,
            "us": grpc.unary_stream_rpc_method_handler,
            "su": grpc.stream_unary_rpc_method_handler,
            "ss": grpc.stream_stream_rpc_method_handler,
        }
        return kinds[method.kind](method) if method else None

    def echo(self, request, context):
        context.send_initial_metadata([("initial", "first"), ("initial-bin", bytes(range(256)))])
        context.set_trailing_metadata([("trailing", "last"), ("trailing-bin", b"\0\xff")])
        given = dict(context.invocation_metadata())
        if given.get("custom") == "text" and given.get("custom-bin") != bytes(range(256)):
            context.abort(grpc.StatusCode.DATA_LOSS, "binary metadata was changed")
        return request

    def count(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def total(self, requests, context):
        return b"%d" % sum(len(request) for request in requests)

    def chat(self, requests, context):
        for request in requests:
            yield b"re: " + request

    def hang(self, request, context):
        context.add_callback(self.cancelled.set)
        self.started.set()
        yield b"here"
        self.cancelled.wait(30)

    def slow(self, request, context):
        time.sleep(float(request))
        return b"done"

    def fail(self, request, context):
        detail = any_pb2.Any()
        detail.Pack(wrappers_pb2.StringValue(value="why"))
        message = "nothing here: 100 % sure, \u00e4\u00f6\n"
        status = status_pb2.Status(code=code_pb2.NOT_FOUND, message=message, details=[detail])
        context.abort_with_status(rpc_status.to_status(status))

    def fail_late(self, request, context):
        yield b"one"
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")

    for method, kind in [
        (echo, "uu"), (count, "us"), (total, "su"), (chat, "ss"), (hang, "us"), (slow, "uu"),
        (fail, "uu"), (fail_late, "us"),
    ]:  # fmt: skip
        method.kind = kind


@contextlib.contextmanager
def served(options=()):
    """A server and a channel to it through the proxy."""
    service = Service()
    pool = concurrent.futures.ThreadPoolExecutor(64)
    server = grpc.server(pool, handlers=[service], options=[*LIMITS, *options])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with plane.Proxy({"grpc": plane.Route(port, http2=True)}) as proxy:
        target = f"127.0.0.1:{proxy.ports['grpc']}"
        with grpc.insecure_channel(target, options=[*LIMITS, ("grpc.enable_retries", 0)]) as channel:
            yield service, channel, proxy
    server.stop(0).wait()


def expect(seen, wanted):
    assert seen == wanted, f"{seen!r:.200} instead of {wanted!r:.200}"


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call did not fail")


def kinds(report, service, channel):
    echo = channel.unary_unary("/test/Echo")
    count = channel.unary_stream("/test/Count")
    total = channel.stream_unary("/test/Total")
    chat = channel.stream_stream("/test/Chat")
    with report.check("unary"):
        expect(echo(b"hello", timeout=10), b"hello")
    with report.check("empty message"):
        expect(echo(b"", timeout=10), b"")
    for size in (1 << 14, (1 << 16) - 5, 5 << 20, LARGE):
        with report.check(f"message of {size} bytes"):
            expect(len(echo(os.urandom(size), timeout=60)), size)
    with report.check("server streaming"):
        expect(list(count(b"1000", timeout=20)), [b"%d" % n for n in range(1000)])
    with report.check("server streaming without a message"):
        expect(list(count(b"0", timeout=10)), [])
    with report.check("client streaming"):
        expect(total((b"x" * 1000 for _ in range(1000)), timeout=20), b"1000000")
    with report.check("client streaming without a message"):
        expect(total(iter([]), timeout=10), b"0")
    with report.check("streaming both ways, each message after the answer to the one before"):
        answered = threading.Semaphore(1)

        def requests():
            for number in range(200):
                assert answered.acquire(timeout=10)
                yield b"%d" % number

        seen = []
        for reply in chat(requests(), timeout=30):
            seen.append(reply)
            answered.release()
        expect(seen, [b"re: %d" % n for n in range(200)])
    with report.check("streaming both ways, a lot"):
        replies = chat((b"y" * 65536 for _ in range(400)), timeout=60)
        expect(sum(len(reply) for reply in replies), 400 * 65540)


def metadata(report, service, channel):
    echo = channel.unary_unary("/test/Echo")
    sent = [("custom", "text"), ("custom-bin", bytes(range(256))), ("twice", "a"), ("twice", "b")]
    with report.check("metadata both ways"):
        reply, call = echo.with_call(b"", metadata=sent, timeout=10)
        initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
        expect(initial["initial"], "first")
        expect(initial["initial-bin"], bytes(range(256)))
        expect(trailing["trailing"], "last")
        expect(trailing["trailing-bin"], b"\0\xff")
    with report.check("8 KiB of metadata"):
        reply = echo(b"", metadata=[("large", "z" * 7000), ("large-bin", b"z" * 900)], timeout=10)
        expect(reply, b"")


def ends(report, service, channel):
    with report.check("status with details"):
        error = failure(lambda: channel.unary_unary("/test/Fail")(b"", timeout=10))
        status = rpc_status.from_call(error)
        expect(error.code(), grpc.StatusCode.NOT_FOUND)
        expect(status.message, "nothing here: 100 % sure, \u00e4\u00f6\n")
        value = wrappers_pb2.StringValue()
        assert status.details[0].Unpack(value)
        expect(value.value, "why")
    with report.check("status after messages"):
        seen = []
        error = failure(lambda: seen.extend(channel.unary_stream("/test/Fail_late")(b"", timeout=10)))
        expect(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        expect(error.details(), "no more")
    with report.check("unimplemented"):
        error = failure(lambda: channel.unary_unary("/test/Nothing")(b"", timeout=10))
        expect(error.code(), grpc.StatusCode.UNIMPLEMENTED)
    with report.check("deadline"):
        started = time.monotonic()
        error = failure(lambda: channel.unary_unary("/test/Slow")(b"5", timeout=0.3))
        expect(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        assert time.monotonic() - started < 4
    for what, end in [("cancel by the client", lambda call: call.cancel()), ("deadline", None)]:
        with report.check(f"the server sees the {what}"):
            service.cancelled.clear()
            hang = channel.unary_stream("/test/Hang")
            call = hang(b"", timeout=1 if end is None else 60)
            expect(next(call), b"here")
            if end:
                end(call)
            assert service.cancelled.wait(10), "the server was not told"
            failure(lambda: next(call))


def many(report, service, channel, calls=500):
    with report.check(f"{calls} calls at once on one channel"):
        echo = channel.unary_unary("/test/Echo")
        futures = [echo.future(b"%d" % number, timeout=60) for number in range(calls)]
        expect([future.result() for future in futures], [b"%d" % n for n in range(calls)])
    with report.check("100 streams at once"):
        chat = channel.stream_stream("/test/Chat")
        streams = [chat(iter([b"a", b"b"]), timeout=60) for _ in range(100)]
        for stream in streams:
            expect(list(stream), [b"re: a", b"re: b"])


def main():
    report = plane.Report("gRPC")
    with served() as (service, channel, proxy):
        for part in (kinds, metadata, ends, many):
            part(report, service, channel)
        print(f"gRPC: resident afterwards: {proxy.memory() >> 20} MiB")
    with served([("grpc.max_concurrent_streams", 3)]) as (service, channel, _):
        with report.check("calls beyond the streams that the server allows wait"):
            slow = channel.unary_unary("/test/Slow")
            futures = [slow.future(b"0.05", timeout=60) for _ in range(60)]
            expect([future.result() for future in futures], [b"done"] * 60)
    with plane.Proxy({"grpc": plane.Route(plane.free_port(), http2=True)}) as proxy:
        with report.check("no server is unavailable"):
            with grpc.insecure_channel(f"127.0.0.1:{proxy.ports['grpc']}") as channel:
                error = failure(lambda: channel.unary_unary("/test/Echo")(b"", timeout=10))
                expect(error.code(), grpc.StatusCode.UNAVAILABLE)
    return report.close()


if __name__ == "__main__":
    sys.exit(not main())
