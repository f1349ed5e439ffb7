"""Client and AsyncClient against the real server."""

from __future__ import annotations

import asyncio
import io
import threading

import numpy as np
import pytest

import saccade
from saccade import AsyncClient, Client, Item
from saccade.demo import scenes

DIM = 24


@pytest.fixture(scope="module")
def server(serving, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data") / "client.sac") as server:
        yield server


@pytest.fixture
def client(server):
    with Client(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def base():
    return np.random.default_rng(7).standard_normal((600, DIM)).astype("f4")


@pytest.fixture(scope="module")
def points(server, base):
    """A collection of 600 vectors with attributes and sources."""
    items = [Item(i, vector=v, attributes={"row": i, "half": i / 2, "name": f"n{i}"}) for i, v in enumerate(base)]
    with Client(server.address) as client:
        client.create("points", dim=DIM, metric="l2")
        assert client.put("points", items) == 600
    return "points"


def jpeg(name):
    buffer = io.BytesIO()
    scenes.paint(name).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def nearest(base, query, k):
    distances = ((base.astype("f8") - query) ** 2).sum(axis=1)
    order = np.argsort(distances, kind="stable")[:k]
    return order.tolist(), distances[order]


def test_server_tells_what_it_is(client):
    assert client.ping() == "pong"
    info = client.info()
    assert info["protocol"] == 1 and "jpeg" in info["image_formats"] and info["limits"]
    assert {"ping", "search", "put"} <= set(info["methods"])
    assert client.stats()["uptime_s"] >= 0


def test_collections_come_and_go(client):
    assert client.create("brief", dim=3, metric="ip", index="Flat")["dim"] == 3
    client.create("brief", dim=3, metric="ip", index="Flat")
    with pytest.raises(saccade.AlreadyExists):
        client.create("brief", dim=4)
    assert "brief" in client.list() and client.count("brief") == 0
    assert client.info("brief")["metric"] == "ip"
    client.drop("brief")
    assert "brief" not in client.list()
    with pytest.raises(saccade.NotFound):
        client.drop("brief")


def test_searches_are_exact(client, points, base):
    queries = np.random.default_rng(8).standard_normal((20, DIM))
    for query, result in zip(queries, client.search_many(points, vectors=queries, k=5), strict=True):
        ids, distances = nearest(base, query.astype("f4"), 5)
        assert [hit.id for hit in result.hits] == ids
        np.testing.assert_allclose([hit.distance for hit in result.hits], distances, rtol=1e-4)
        assert [hit.score for hit in result.hits] == [-hit.distance for hit in result.hits]
        assert [hit.id for hit in client.search(points, vector=query, k=5).hits] == ids
    assert len(result.query_id) == 32 and result.took_ms >= 0


def test_hits_carry_what_is_asked_for(client, points, base):
    hit = client.search(points, id=3, k=1, with_=["attributes", "vector", "source"]).hits[0]
    assert hit.id != 3 and hit.attributes == {"row": hit.id, "half": hit.id / 2, "name": f"n{hit.id}"}
    np.testing.assert_array_equal(hit.vector, base[hit.id])
    assert hit.source is None
    bare = client.search(points, id=3, k=1).hits[0]
    assert bare.id == hit.id and bare.attributes is None and bare.vector is None


def test_options_reach_the_search(client, points, base):
    assert len(client.search(points, vector=base[0], k=100, score_threshold=-1e-6).hits) == 1
    exact = client.search(points, vector=base[0], exact=True).hits
    assert exact == client.search(points, vector=base[0], recall=1.0, oversampling=4.0, rescore=True).hits


def test_items_live_and_die(client):
    client.create("life", dim=2, metric="l2")
    odd = "caf\udce9.jpg"  # a file name that is no UTF-8
    client.put("life", [Item("a", vector=[1, 0], source=odd), Item(2**63 - 1, vector=[0, 1], attributes={"x": -5})])
    a, big, none = client.get("life", ["a", 2**63 - 1, "nobody"], with_=["attributes", "vector", "source"])
    assert a.source == odd and a.vector.tolist() == [1, 0] and none is None
    assert big.id == 2**63 - 1 and big.attributes == {"x": -5}
    client.put("life", [Item("a", vector=[5, 5])])
    assert client.count("life") == 2
    assert client.search("life", vector=[5, 5], k=1).hits[0].id == "a"
    assert client.delete("life", ["a", "nobody"]) == 1
    assert [hit.id for hit in client.search("life", vector=[5, 5]).hits] == [2**63 - 1]


def test_a_bad_item_spoils_the_put_and_is_named(client):
    client.create("strict", dim=2, metric="l2")
    with pytest.raises(saccade.InvalidArgument, match=r"items\[1\]"):
        client.put("strict", [Item(1, vector=[1, 2]), Item(2, vector=[1, 2, 3])])
    assert client.count("strict") == 0


def test_errors_have_their_class(client, points):
    with pytest.raises(saccade.NotFound, match="nowhere") as caught:
        client.search("nowhere", id=1)
    assert isinstance(caught.value, saccade.ServerError) and caught.value.code == "NOT_FOUND"
    with pytest.raises(saccade.InvalidArgument, match="k"):
        client.search(points, id=1, k=100_000)
    with pytest.raises(saccade.InvalidArgument):
        client.search(points, vector=[1.0])
    with pytest.raises(saccade.InvalidArgument):
        client.search(points, vector=[float("nan")] * DIM)
    with pytest.raises(saccade.Unsupported):
        client.search(points, image=jpeg("sea-noon"))
    with pytest.raises((saccade.ImageRejected, saccade.ImageCorrupt)):
        client.embed([b"no picture"])
    assert client.ping() == "pong"


def test_a_message_too_large_is_told_and_the_client_goes_on(client):
    with pytest.raises(saccade.TooLarge):
        client.search("points", image=bytes(20 << 20))
    assert client.ping() == "pong"


def test_pictures(client, tmp_path):
    names = ["balloons-dawn", "sea-noon", "truchet-candy", "forest-blue", "plaid-sea"]
    client.create("pictures", model="builtin")
    for name in names:
        (tmp_path / name).write_bytes(jpeg(name))
    client.put("pictures", [Item(name, image=tmp_path / name) for name in names])
    results = client.search_many("pictures", images=[jpeg(name) for name in names], k=2)
    assert [result.hits[0].id for result in results] == names
    assert all(result.hits[0].score == pytest.approx(1, abs=1e-5) for result in results)
    cropped = client.search("pictures", image=tmp_path / "sea-noon", crop=(0, 0, 160, 120), k=1)
    assert cropped.hits[0].score < 0.9999


def test_embedding_here_and_there_is_the_same(client, library):
    images = [jpeg("sea-noon"), jpeg("plaid-sea")]
    there = client.embed(images)
    here = saccade.Encoder("builtin")
    assert there.fingerprint == here.fingerprint
    np.testing.assert_allclose(there.vectors, here.embed(images), atol=1e-6)


def test_many_threads(client, points, base):
    wrong = []

    def ask(start):
        for i in range(start, 600, 8):
            if client.search(points, vector=base[i], k=1).hits[0].id != i:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_async_many_in_flight(server, points, base):
    async def ask():
        async with AsyncClient(server.address) as client:
            found = await asyncio.gather(*(client.search(points, vector=v, k=1, timeout=20) for v in base))
            with pytest.raises(saccade.NotFound):
                await client.count("nowhere")
            return [result.hits[0].id for result in found]

    assert asyncio.run(ask()) == list(range(600))


def test_cancelling_one_leaves_the_others(server, points, base):
    async def ask():
        async with AsyncClient(server.address) as client:
            await client.ping()
            tasks = [asyncio.create_task(client.search(points, vector=v, k=1)) for v in base[:50]]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert await client.ping() == "pong"
            return found

    found = asyncio.run(ask())
    assert [result.hits[0].id for result in found[1::2]] == list(range(1, 50, 2))


def test_unix_socket(serving, tmp_path):
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    with serving(tmp_path / "data.sac", "--socket", folder / "s"), Client(f"unix:{folder / 's'}") as client:
        assert client.ping() == "pong"

        async def ask():
            async with AsyncClient(f"unix:{folder / 's'}") as other:
                return await other.ping()

        assert asyncio.run(ask()) == "pong"


def test_a_drained_server_and_its_successor(serving, tmp_path):
    data = tmp_path / "data.sac"
    with serving(data) as server, Client(server.address) as client:
        client.create("kept", dim=2)
        client.put("kept", [Item(1, vector=[1, 1])])
        server.process.terminate()
        server.process.wait(15)
        with pytest.raises(saccade.Disconnected):
            client.count("kept")
    with serving(data) as server, Client(server.address) as client:
        assert client.count("kept") == 1
