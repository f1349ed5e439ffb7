"""Client and AsyncClient where the server errs, is slow, or goes away; the same cases for both."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time

import numpy as np
import pytest
from fake_server import CLOSE, FakeServer, always

import saccade
from saccade.errors import server_error


class Blocked:
    """An AsyncClient with the face of a Client, so that both run the same cases."""

    def __init__(self, address: str, **options) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(self._make(address, options))

    async def _make(self, address, options):
        return saccade.AsyncClient(address, **options)

    def __getattr__(self, name):
        async def method(*args, **kwargs):
            await asyncio.sleep(0.01)  # the loop stood still since the last call: let it see what happened
            return await getattr(self._client, name)(*args, **kwargs)

        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


@pytest.fixture(params=[saccade.Client, Blocked], ids=["blocking", "asyncio"])
def connect(request):
    return request.param


def search_result(ids):
    return {"query_id": "00", "hits": [{"id": i, "score": 1.0, "distance": 0.0} for i in ids], "took_ms": 0.5}


def test_both_have_the_same_methods():
    for name, function in inspect.getmembers(saccade.Client, inspect.isfunction):
        if not name.startswith("_"):
            other = getattr(saccade.AsyncClient, name)
            assert inspect.signature(function) == inspect.signature(other), name
            assert name == "close" or function.__doc__ == other.__doc__


def test_fields_on_the_wire(connect):
    with FakeServer(always(search_result([7, "a"]))) as server, connect(server.address) as client:
        found = client.search("c", vector=np.arange(3, dtype="f8"), k=np.int64(2), with_=["source"], timeout=2)
    _, _, method, [fields] = server.received[0]
    timeout_ms = fields.pop("timeout_ms")
    assert method == "search" and 1900 < timeout_ms <= 2000
    assert fields == {"collection": "c", "vector": np.arange(3, dtype="<f4").tobytes(), "k": 2, "with": ["source"]}
    assert [hit.id for hit in found.hits] == [7, "a"]


def test_put_sends_items_and_mappings(connect, tmp_path):
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"\xff\xd8")
    items = [
        saccade.Item(1, vector=[1, 2]),
        {"id": "two", "image": picture, "crop": (0, 0, 5, 5), "attributes": {"year": np.int32(1999)}},
        saccade.Item(3, image=b"\0\1", source="caf\udce9.jpg"),  # a file name that is no UTF-8
    ]
    with FakeServer(always({"stored": 3, "took_ms": 1.0})) as server, connect(server.address) as client:
        assert client.put("c", items) == 3
    assert server.received[0][3][0]["items"] == [
        {"id": 1, "vector": np.array([1, 2], "<f4").tobytes()},
        {"id": "two", "image": b"\xff\xd8", "crop": [0, 0, 5, 5], "attributes": {"year": 1999}},
        {"id": 3, "image": b"\0\1", "source": "caf\udce9.jpg"},
    ]


@pytest.mark.parametrize(
    "message, kind, also, retry_after_ms, outcome",
    [
        ("NOT_FOUND: no collection c: create it first", saccade.NotFound, LookupError, None, None),
        ("INVALID_ARGUMENT: k is 0 [k=0]", saccade.InvalidArgument, ValueError, None, None),
        ("OVERLOADED: full [retry_after_ms=12 outcome=not_applied]", saccade.Overloaded, Exception, 12, "not_applied"),
        ("DEADLINE_EXCEEDED: in embed", saccade.DeadlineExceeded, TimeoutError, None, None),
        ("A_CODE_OF_TOMORROW: text", saccade.Internal, Exception, None, None),
        ([0, "not a string"], saccade.Internal, Exception, None, None),
    ],
)  # fmt: skip
def test_errors_keep_what_the_server_said(message, kind, also, retry_after_ms, outcome):
    error = server_error(message)
    assert isinstance(error, saccade.ServerError) and isinstance(error, kind) and isinstance(error, also)
    assert (error.retry_after_ms, error.outcome) == (retry_after_ms, outcome)
    assert error.code == kind.code and error.text


def test_server_error_is_raised_and_the_connection_goes_on(connect):
    def answer(msgid, method, fields):
        if fields["collection"] == "no":
            return [[1, msgid, "NOT_FOUND: no collection no", None]]
        return [[1, msgid, None, {"count": 3}]]

    with FakeServer(answer) as server, connect(server.address) as client:
        with pytest.raises(saccade.ServerError, match="no collection no") as caught:
            client.count("no")
        assert caught.value.code == "NOT_FOUND" and isinstance(caught.value, saccade.NotFound)
        assert client.count("yes") == 3
        assert server.connections == 1


@pytest.mark.parametrize("message", ["OVERLOADED: full [retry_after_ms=30]", "UNAVAILABLE: draining"])
def test_refused_reads_are_tried_again(connect, message):
    asked = []

    def answer(msgid, method, fields):
        asked.append(time.monotonic())
        return [[1, msgid, message if len(asked) < 3 else None, {"count": 1}]]

    with FakeServer(answer) as server, connect(server.address) as client:
        assert client.count("c") == 1
    assert len(asked) == 3
    assert asked[1] - asked[0] >= 0.03


def test_refused_writes_are_not_tried_again(connect):
    with FakeServer(lambda msgid, *_: [[1, msgid, "OVERLOADED: full [retry_after_ms=1]", None]]) as server:
        with connect(server.address) as client, pytest.raises(saccade.Overloaded):
            client.put("c", [saccade.Item(1, vector=[1.0])])
        assert len(server.received) == 1


def test_no_retry_beyond_the_deadline(connect):
    with FakeServer(lambda msgid, *_: [[1, msgid, "OVERLOADED: full [retry_after_ms=60000]", None]]) as server:
        start = time.monotonic()
        with connect(server.address) as client, pytest.raises(saccade.Overloaded):
            client.count("c", timeout=1)
        assert time.monotonic() - start < 0.5 and len(server.received) == 1


def test_silence_ends_at_the_deadline_and_a_late_answer_goes_to_nobody(connect):
    late = []

    def answer(msgid, method, fields):
        if fields["collection"] == "slow":
            late.append(msgid)
            return None
        return [*([1, m, None, {"count": -1}] for m in late), [1, msgid, None, {"count": 2}]]

    with FakeServer(answer) as server, connect(server.address) as client:
        start = time.monotonic()
        with pytest.raises(saccade.DeadlineExceeded):
            client.count("slow", timeout=0.1)
        assert time.monotonic() - start < 2
        late = late if connect is Blocked else []  # the blocking client has a new connection
        assert client.count("fast") == 2
        if connect is Blocked:
            assert [m for m in server.received if m[0] == 2] == [[2, "cancel", [late[0]]]]


def test_reads_survive_a_lost_connection_and_writes_report_it(connect):
    calls = []

    def answer(msgid, method, fields):
        calls.append(method)
        return [CLOSE] if len(calls) % 2 else [[1, msgid, None, {"count": 1, "deleted": 1}]]

    with FakeServer(answer) as server, connect(server.address) as client:
        assert client.count("c") == 1
        with pytest.raises(saccade.Disconnected):
            client.delete("c", [1])
        assert calls == ["count", "count", "delete"]


def test_an_idle_connection_that_the_server_closed_is_replaced(connect):
    """Also before a write, which would not be tried again."""
    asked = []

    def answer(msgid, method, fields):
        asked.append(method)
        return [[1, msgid, None, {"count": 1, "deleted": 1}], CLOSE]

    with FakeServer(answer) as server, connect(server.address) as client:
        assert client.count("c") == 1
        time.sleep(0.05)
        assert client.delete("c", [1]) == 1
        assert server.connections == 2


def test_no_server(connect):
    with FakeServer(always(None)) as server:
        pass
    with connect(server.address, retries=1) as client, pytest.raises(saccade.Disconnected, match="no server at"):
        client.ping()


@pytest.mark.parametrize("junk", [b"\xc1", b"HTTP/1.1 400 Bad Request\r\n", b"\x94\x01\x01", b"\x93\x01\x01\xc0"])
def test_bytes_that_are_no_response(connect, junk):
    with FakeServer(lambda *_: [junk]) as server, connect(server.address) as client:
        with pytest.raises((saccade.Malformed, saccade.DeadlineExceeded)):
            client.ping(timeout=0.3)


def test_result_of_another_shape(connect):
    with FakeServer(always({"unexpected": 1})) as server, connect(server.address) as client:
        with pytest.raises(saccade.Malformed, match="search"):
            client.search("c", id=1)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda c: c.search("c"), "one of vector, image and id"),
        (lambda c: c.search("c", vector=[1], id=2), "one of vector, image and id"),
        (lambda c: c.search("c", vector=[[1]]), "one vector"),
        (lambda c: c.search("c", vector=["a"]), "numbers wanted"),
        (lambda c: c.search("c", id=1, crop=(1, 2, 3)), "crop"),
        (lambda c: c.search_many("c", vectors=[1.0]), r"\[n\]\[dim\]"),
        (lambda c: c.search_many("c", images=b"jpeg"), "a single one"),
        (lambda c: c.put("c", [saccade.Item(1)]), "one of vector and image"),
        (lambda c: c.put("c", [{"id": 1, "vektor": [1]}]), "vektor"),
        (lambda c: c.count("c", timeout=0), "timeout"),
    ],
)
def test_bad_arguments_send_nothing(connect, call, words):
    with FakeServer(always({})) as server, connect(server.address) as client:
        with pytest.raises((ValueError, TypeError), match=words):
            call(client)
        assert server.received == []


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":7700", "h:0", "h:70000", "h:x"])
def test_bad_addresses(address):
    with pytest.raises(ValueError, match="address"):
        saccade.Client(address)


def test_one_client_many_threads():
    def answer(msgid, method, fields):
        time.sleep(0.01)
        return [[1, msgid, None, search_result([fields["id"]])]]

    wrong = []
    with FakeServer(answer) as server, saccade.Client(server.address) as client:

        def ask(start):
            for i in range(start, start + 10):
                if client.search("c", id=i).hits[0].id != i:
                    wrong.append(i)

        threads = [threading.Thread(target=ask, args=(100 * t,)) for t in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and server.connections <= 8


def test_pipelined_answers_out_of_order():
    held = []

    def answer(msgid, method, fields):
        held.append([1, msgid, None, search_result([fields["id"]])])
        if len(held) < 50:
            return None
        replies, held[:] = list(reversed(held)), []
        return replies

    async def ask():
        async with saccade.AsyncClient(server.address) as client:
            results = await asyncio.gather(*(client.search("c", id=i) for i in range(50)))
        return [result.hits[0].id for result in results]

    with FakeServer(answer) as server:
        assert asyncio.run(ask()) == list(range(50))
        assert server.connections == 1


def test_no_more_in_flight_than_allowed():
    waiting = []

    def answer(msgid, method, fields):
        waiting.append(msgid)
        time.sleep(0.005)
        assert len(waiting) <= 4
        waiting.remove(msgid)
        return [[1, msgid, None, {"count": 1}]]

    async def ask():
        async with saccade.AsyncClient(server.address, in_flight=4) as client:
            return await asyncio.gather(*(client.count("c") for _ in range(20)))

    with FakeServer(answer) as server:
        assert asyncio.run(ask()) == [1] * 20
