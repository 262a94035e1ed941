"""WebSocket over HTTP/2 (RFC 8441): the h2 library as the client of an HTTP/1.1 server, and
Hypercorn as the HTTP/2 server of an HTTP/1.1 client."""

import asyncio
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

import h2.config
import h2.connection
import h2.events
import h2.settings
import plane
from websockets.asyncio.client import connect
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

APP = """
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
    while (message := await receive())["type"] == "websocket.receive":
        message["type"] = "websocket.send"
        await send(message)
"""


class Http2Socket:
    """One WebSocket on one stream."""

    def __init__(self, port, path="/"):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration())
        self.connection.initiate_connection()
        self.reader, self.status, self.ended = StreamReader(), None, False
        self.settings = None
        self.flush()
        while self.settings is None:
            self.step()
        assert self.settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1
        self.stream = self.connection.get_next_available_stream_id()
        head = [
            (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
            (":path", path), (":authority", "echo.example"), ("sec-websocket-version", "13"),
        ]  # fmt: skip
        self.connection.send_headers(self.stream, head)
        self.flush()
        while self.status is None:
            self.step()

    def flush(self):
        self.socket.sendall(self.connection.data_to_send())

    def step(self):
        data = self.socket.recv(65536)
        assert data, "the connection was closed"
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                changed = event.changed_settings.items()
                self.settings = {code: setting.new_value for code, setting in changed}
            elif isinstance(event, h2.events.ResponseReceived):
                self.status = int(dict(event.headers)[b":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.reader.feed_data(event.data)
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.reader.feed_eof()
                self.ended = True
            elif isinstance(event, h2.events.StreamReset):
                raise AssertionError(f"the stream was reset: {event.error_code}")
        self.flush()

    def send(self, opcode, data, fin=True):
        data = Frame(opcode, data, fin).serialize(mask=True)
        while data:
            room = min(
                self.connection.local_flow_control_window(self.stream),
                self.connection.max_outbound_frame_size,
                len(data),
            )
            if room == 0:
                self.step()
                continue
            self.connection.send_data(self.stream, data[:room])
            self.flush()
            data = data[room:]

    def receive(self):
        parsing = Frame.parse(self.reader.read_exact, mask=False)
        while True:
            try:
                next(parsing)
            except StopIteration as done:
                return done.value
            self.step()

    def message(self):
        """A message, of as many frames as it comes in."""
        frame = self.receive()
        data = bytes(frame.data)
        while not frame.fin:
            frame = self.receive()
            data += frame.data
        return data


def over_http2(report, port):
    with report.check("extended CONNECT is answered"):
        stream = Http2Socket(port)
        assert stream.status == 200, stream.status
    with report.check("text"):
        stream.send(Opcode.TEXT, "h\u00e9llo".encode())
        frame = stream.receive()
        assert (frame.opcode, frame.data) == (Opcode.TEXT, "h\u00e9llo".encode())
    with report.check("fragments with a ping between"):
        stream.send(Opcode.BINARY, b"one", fin=False)
        stream.send(Opcode.PING, b"there?")
        stream.send(Opcode.CONT, b"two")
        pong = stream.receive()
        assert (pong.opcode, pong.data) == (Opcode.PONG, b"there?")
        assert stream.message() == b"onetwo"
    for size in (0, 125, 126, 65536, 16 << 20):
        with report.check(f"{size} bytes"):
            sent = os.urandom(size)
            stream.send(Opcode.BINARY, sent)
            assert stream.message() == sent
    with report.check("close"):
        stream.send(Opcode.CLOSE, Close(1000, "bye").serialize())
        frame = stream.receive()
        assert frame.opcode is Opcode.CLOSE
        assert Close.parse(frame.data).code == 1000
        while not stream.ended:
            stream.step()
    with report.check("text that is no UTF-8 is closed with 1007"):
        other = Http2Socket(port)
        other.send(Opcode.TEXT, b"\xff")
        assert Close.parse(other.receive().data).code == 1007


async def from_http1(report, port):
    url = f"ws://127.0.0.1:{port}/"
    with report.check("HTTP/1.1 to an HTTP/2 server: switch"):
        options = {"max_size": None, "subprotocols": ["chat"], "ping_interval": None}
        client = await connect(url, **options)
    with report.check("HTTP/1.1 to an HTTP/2 server: subprotocol"):
        assert client.subprotocol == "chat", client.subprotocol
    for size in (0, 126, 65536, 4 << 20):
        with report.check(f"HTTP/1.1 to an HTTP/2 server: {size} bytes"):
            sent = os.urandom(size)
            await client.send(sent)
            assert await asyncio.wait_for(client.recv(), 30) == sent
    with report.check("HTTP/1.1 to an HTTP/2 server: ping and close"):
        await asyncio.wait_for(await client.ping(), 10)
        await asyncio.wait_for(client.close(4000, "done"), 10)


def main():
    report = plane.Report("WebSocket over HTTP/2")
    echo_port, http2_port = plane.free_port(), plane.free_port()
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "app.py").write_text(APP)
        echo = pathlib.Path(__file__).with_name("echo.py")
        hypercorn = [
            sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{http2_port}",
            "--websocket-ping-interval", "60", "--log-level", "ERROR", "app:app",
        ]  # fmt: skip
        servers = [
            subprocess.Popen([sys.executable, echo, str(echo_port)]),
            # It tells of tasks that its end cancels.
            subprocess.Popen(hypercorn, cwd=folder, stderr=subprocess.DEVNULL),
        ]
        routes = {
            "http1": plane.Route(echo_port),
            "http2": plane.Route(http2_port, http2=True),
        }
        try:
            plane.until_listening(echo_port, servers[0])
            plane.until_listening(http2_port, servers[1])
            with plane.Proxy(routes) as proxy:
                over_http2(report, proxy.ports["http1"])
                asyncio.run(from_http1(report, proxy.ports["http2"]))
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    return report.close()


if __name__ == "__main__":
    sys.exit(not main())
