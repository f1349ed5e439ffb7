"""A client in twenty lines that hides nothing: MessagePack-RPC over a socket, as PROTOCOL.md shows it."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import msgpack


class RpcError(Exception):
    @property
    def code(self) -> str:
        return str(self).split(":", 1)[0]


class Wire:
    """One connection. send() and receive() for pipelining, call() to wait for one answer."""

    def __init__(self, server, timeout: float = 20):
        host, port = server.address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=1 << 28)
        self.msgid = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, method: str, **fields) -> int:
        self.msgid += 1
        self.socket.sendall(msgpack.packb([0, self.msgid, method, [fields]]))
        return self.msgid

    def notify(self, method: str, *params) -> None:
        self.socket.sendall(msgpack.packb([2, method, list(params)]))

    def receive(self) -> tuple[int, str | None, object]:
        while True:
            for kind, msgid, error, result in self.unpacker:
                assert kind == 1 and (error is None or isinstance(error, str))
                return msgid, error, result
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("closed")
            self.unpacker.feed(data)

    def call(self, method: str, **fields):
        sent = self.send(method, **fields)
        msgid, error, result = self.receive()
        assert msgid == sent
        if error is not None:
            raise RpcError(error)
        return result


def page(server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(server) -> dict[str, float]:
    """/metrics as {'saccade_requests_total{method="ping",...}': 1.0}."""
    lines = page(server, "/metrics")[1].splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}
