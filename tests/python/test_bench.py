"""The comparison with other engines: its readers, makers, pruning, resuming and tables, with our engine and NumPy."""

from __future__ import annotations

import csv
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from needs import ROOT
from saccade import encoder, errors
from saccade.bench import batches, child, crops, environment, files, makers, measure, plots, report, run, standing
from saccade.bench import data as data_sets
from saccade.bench.engines import ENGINES, Shape, Unavailable
from saccade.bench.engines.base import Singles, ladder, lists_for, lists_of
from saccade.bench.engines.brute import nearest
from saccade.bench.makers import Clusters, Materials
from saccade.bench.progress import Progress, seconds

RECIPE = Clusters(count=3_000, queries=120, dim=24, clusters=40, rank=8, kinds=4)


@pytest.fixture(scope="module")
def source():
    return data_sets.Source(*makers.clusters(RECIPE), "l2", RECIPE.words)


@pytest.fixture
def small(source, tmp_path):
    return data_sets.prepare("small", source, tmp_path / "data", 10, 100)


# ---- files -----------------------------------------------------------------------------------------------


def rows(dtype, n=7, dim=5):
    return np.random.default_rng(2).integers(0, 100, (n, dim)).astype(dtype)


@pytest.mark.parametrize("suffix, dtype", [*files.VECS.items(), *files.BINS.items(), (".npy", "f8")])
def test_every_format_is_read(tmp_path, suffix, dtype):
    path, want = tmp_path / f"x{suffix}", rows(dtype)
    if suffix == ".npy":
        np.save(path, want)
    elif suffix in files.VECS:
        path.write_bytes(b"".join(struct.pack("<i", len(row)) + row.tobytes() for row in want))
    else:
        path.write_bytes(struct.pack("<II", *want.shape) + want.tobytes())
    got = files.read(path)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(files.read(path, 3), want[:3])


def test_long_headers_are_told_by_the_size(tmp_path):
    want = rows("<f4")
    path = tmp_path / "x.fbin"
    path.write_bytes(struct.pack("<QQ", *want.shape) + want.tobytes())
    np.testing.assert_array_equal(files.read(path), want)
    files.write_fbin(path, want)
    np.testing.assert_array_equal(files.read(path), want)


@pytest.mark.parametrize("name, content", [
    ("x.fbin", b""), ("x.fbin", struct.pack("<II", 3, 4) + b"\0" * 47), ("x.fvecs", b"\3\0\0\0" + b"\0" * 11),
    ("x.fvecs", b"\0\0\0\0"), ("x.fvecs", b"x"), ("x.txt", b"1 2 3"), ("x", b""),
])  # fmt: skip
def test_what_is_no_vectors_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError):
        files.read(path)


def test_true_neighbours_are_read(tmp_path):
    ids = rows("<i4", 4, 6)
    (tmp_path / "t.bin").write_bytes(struct.pack("<II", 4, 6) + ids.tobytes() + rows("<f4", 4, 6).tobytes())
    (tmp_path / "t.ibin").write_bytes(struct.pack("<II", 4, 6) + ids.tobytes())
    (tmp_path / "t.ivecs").write_bytes(b"".join(struct.pack("<i", 6) + row.tobytes() for row in ids))
    for name in ("t.bin", "t.ibin", "t.ivecs"):
        np.testing.assert_array_equal(files.read_truth(tmp_path / name), ids)
    (tmp_path / "t.bin").write_bytes(struct.pack("<II", 4, 6) + ids.tobytes()[:-1])
    with pytest.raises(ValueError, match="no ids of 6"):
        files.read_truth(tmp_path / "t.bin")


def test_ann_benchmarks_files(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.attrs["distance"] = "angular"
        file["train"], file["test"], file["neighbors"] = rows("f4", 30), rows("f4", 3), rows("i4", 3, 10)
    short, source = data_sets.source_of(tmp_path / "x.hdf5")
    assert short == "x" and source.metric == "cosine" and source.base.shape == (30, 5) and source.truth.shape == (3, 10)
    assert data_sets.source_of(tmp_path / "x.hdf5", limit=9)[1].truth is None  # it is of all vectors


def test_a_folder_and_what_is_missing(tmp_path):
    files.write_fbin(tmp_path / "base.fbin", rows("f4"))
    with pytest.raises(ValueError, match="query"):
        data_sets.source_of(tmp_path)
    files.write_fbin(tmp_path / "query.10k.fbin", rows("f4", 2))
    assert data_sets.source_of(tmp_path)[1].queries.shape == (2, 5)
    with pytest.raises(ValueError, match="--queries"):
        data_sets.source_of(tmp_path / "base.fbin")
    with pytest.raises(ValueError, match="no data set"):
        data_sets.source_of(tmp_path / "nothing")


# ---- makers ----------------------------------------------------------------------------------------------


def test_clusters_are_what_they_say(source):
    base, queries = makers.clusters(RECIPE)
    np.testing.assert_array_equal(base, source.base)
    np.testing.assert_allclose(np.linalg.norm(base, axis=1), 1, rtol=1e-5)
    assert base.shape == (3_000, 24) and queries.shape == (120, 24)
    assert not np.array_equal(makers.clusters(Clusters(3_000, 120, 24, 40, 8, 4, seed=2))[0], base)


def test_clusters_spread_over_so_many_axes_as_stated():
    one = makers.clusters(Clusters(2_000, 1, 64, clusters=1, rank=6, kinds=1, noise=0.0, spread=0.01))[0]
    values = np.linalg.svd(one - one.mean(axis=0), compute_uv=False)
    # Taking vectors to length 1 bends the flat by the square of the spread, no more.
    assert values[5] > 10 * values[7]
    steep, flat = (makers.clusters(Clusters(4_000, 1, 32, clusters=400, decay=d))[0] for d in (1.6, 0.1))
    share = [np.sort(np.linalg.eigvalsh(np.cov(x, rowvar=False)))[::-1][:4].sum() / np.cov(x, rowvar=False).trace()
             for x in (steep, flat)]  # fmt: skip
    assert share[0] > 2 * share[1]


def test_photos_stay_on_their_side(tmp_path):
    for i in range(60):
        (tmp_path / f"{i}.jpg").touch()
    base, queries = Materials(tmp_path).split()
    assert len(base) + len(queries) == 60 and 1 <= len(queries) <= 20
    (tmp_path / "another.jpeg").touch()
    again = Materials(tmp_path).split()
    assert set(base) <= set(again[0]) and set(queries) <= set(again[1])
    with pytest.raises(ValueError, match="--photos"):
        Materials(tmp_path / "none").split()


def test_crops_lie_in_the_picture():
    rng = np.random.default_rng(1)
    areas = []
    for height, width in [(100, 150)] * 200 + [(1, 1), (1, 300), (300, 1)]:
        x, y, w, h = crops.crop_box(height, width, rng)
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height
        areas.append(w * h / (height * width))
    assert min(areas) < 0.2 and max(areas) > 0.7


def test_embeddings_of_crops(library, data, tmp_path):
    photos = tmp_path
    for path in sorted(data("photos/caltech101").rglob("*.jpg"))[:12]:
        (photos / path.name).write_bytes(path.read_bytes())
    (photos / "broken.jpg").write_bytes(b"no picture")
    materials = Materials(photos, Path("builtin"))
    base, queries = crops.embeddings_of_crops(materials, 50, 5, tmp_path / "first")
    assert len(base) == 50 and len(queries) == 5 and len(np.unique(base, axis=0)) == 50
    np.testing.assert_allclose(np.linalg.norm(base, axis=1), 1, rtol=1e-4)
    again = crops.embeddings_of_crops(materials, 50, 5, tmp_path / "second")
    np.testing.assert_array_equal(again[0], base)
    np.testing.assert_array_equal(again[1], queries)
    with pytest.raises(ValueError, match="--model"):
        crops.embeddings_of_crops(Materials(photos), 50, 5, tmp_path / "third")


class Stopped(Exception):
    """Whoever waited has pressed Ctrl-C."""


@pytest.fixture
def crowd(tmp_path, monkeypatch):
    """crowd(stop_after): materials of 40 photos, four of them broken, and an encoder that is stopped after so many of
    them; its `asked` are the crops that it was given."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.jpg").write_text("" if i % 10 == 3 else str(i))

    def decoded(photo):
        if not photo.read_text():
            raise errors.Error("no picture")
        return np.random.default_rng(int(photo.read_text())).integers(0, 256, (20, 30, 3)).astype(np.uint8)

    class Stub:
        dim, asked, left = 4, [], 0

        def __init__(self, model):
            self.calls = 0

        def embed(self, pictures):
            self.calls += 1
            if self.calls > Stub.left:
                raise Stopped
            Stub.asked += [p.tobytes() for p in pictures]
            return np.array([[p.mean(), p.std(), *p.shape[:2]] for p in pictures], np.float32)

    def make(stop_after):
        Stub.left, Stub.asked = stop_after, []
        return Materials(folder, Path("model")), Stub

    monkeypatch.setattr(encoder, "Encoder", Stub)
    monkeypatch.setattr(encoder, "decode_image", decoded)
    return make


def test_a_maker_that_was_stopped_goes_on(crowd, tmp_path, capsys):
    materials, stub = crowd(1_000)
    whole = crops.embeddings_of_crops(materials, 211, 9, tmp_path / "whole")
    every = sorted(stub.asked)
    assert len(every) == 220
    taken = []
    for stop_after in (5, 1, 0, 20, 1_000):
        materials, stub = crowd(stop_after)
        try:
            parts = crops.embeddings_of_crops(materials, 211, 9, tmp_path / "parts")
        except Stopped:
            assert stop_after < 1_000
        taken += stub.asked
    assert sorted(taken) == every  # nothing was asked twice
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    words = capsys.readouterr().err
    assert "embedding crops, base 211/211" in words and "/s" in words


def test_a_maker_that_was_killed_loses_little(crowd, tmp_path, monkeypatch):
    whole = crops.embeddings_of_crops(crowd(1_000)[0], 211, 9, tmp_path / "whole")
    save, saved = crops.Kept.save, []

    def killed(self):
        if len(saved) < 3:
            saved.append(save(self))

    monkeypatch.setattr(crops, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(crops.Kept, "save", killed)
    with pytest.raises(Stopped):
        crops.embeddings_of_crops(crowd(12)[0], 211, 9, tmp_path / "parts")
    monkeypatch.setattr(crops.Kept, "save", save)
    materials, stub = crowd(1_000)
    parts = crops.embeddings_of_crops(materials, 211, 9, tmp_path / "parts")
    assert len(stub.asked) < 220
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_other_photos_gave_is_not_taken(crowd, tmp_path):
    crops.embeddings_of_crops(crowd(1_000)[0], 50, 5, tmp_path / "kept")
    materials, stub = crowd(1_000)
    crops.embeddings_of_crops(materials, 50, 5, tmp_path / "kept")
    assert not stub.asked
    (materials.photos / "new.jpg").write_text("99")
    crops.embeddings_of_crops(materials, 50, 5, tmp_path / "kept")
    assert len(stub.asked) >= 50
    for photo in materials.photos.iterdir():
        photo.write_text("")
    for _ in range(2):
        with pytest.raises(ValueError, match="none of"):
            crops.embeddings_of_crops(materials, 51, 5, tmp_path / "kept")


def test_what_is_left_of_a_job(capsys, monkeypatch):
    now = iter([0.0, 1.0, 70.0, 75.0, 80.0])
    monkeypatch.setattr("saccade.bench.progress.time.monotonic", lambda: next(now))
    shown = Progress("work", 1_000, 300)
    for done in (301, 370, 380, 1_000):
        shown.show(done)
    assert capsys.readouterr().err == "work 370/1,000, 1/s, 10 min left\nwork 1,000/1,000, 9/s\n"
    assert [seconds(s) for s in (5, 600, 9_000)] == ["5 s", "10 min", "2.5 h"]


def test_sift_of_photos(data, tmp_path):
    pytest.importorskip("cv2")
    for path in sorted(data("photos/caltech101").rglob("*.jpg"))[:24]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    base, queries = makers.sift_of_photos(Materials(tmp_path), 200, 20)
    assert base.shape == (200, 128) and queries.shape == (20, 128) and base.dtype == np.uint8
    np.testing.assert_array_equal(makers.sift_of_photos(Materials(tmp_path), 200, 20)[0], base)
    with pytest.raises(ValueError, match="more photos"):
        makers.sift_of_photos(Materials(tmp_path), 10_000_000, 20)


# ---- data sets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_truth_is_exact(source, tmp_path, metric):
    base, queries = source.base * np.linspace(1, 2, len(source.base), dtype="f4")[:, None], source.queries
    data = data_sets.prepare("x", data_sets.Source(base, queries, metric, ""), tmp_path, 10, 30)
    scores = queries[:30].astype("f8") @ data.base.T.astype("f8")
    distance = (data.base.astype("f8") ** 2).sum(axis=1) - 2 * scores if metric == "l2" else -scores
    np.testing.assert_array_equal(data.truth, np.argsort(distance, axis=1, kind="stable")[:, :10])
    assert data.recall(np.arange(30), data.truth) == 1
    assert data.metric == ("ip" if metric == "ip" else "l2")


def test_recall_counts_ties_once(tmp_path):
    base = np.zeros((40, 4), "f4")
    base[:, 0] = np.repeat(np.arange(10), 4)
    data = data_sets.prepare("x", data_sets.Source(base, base[:1], "l2", ""), tmp_path, 6, 1)
    assert data.truth[0].tolist() == [0, 1, 2, 3, 4, 5]
    asked = np.array([0])
    for ids, want in [
        ([0, 1, 2, 3, 6, 7], 1),
        ([0, 0, 0, 0, 0, 0], 1 / 6),
        ([-1] * 6, 0),
        ([8, 9, 10, 11, 0, 99], 1 / 6),
    ]:
        assert data.recall(asked, np.array([ids])) == pytest.approx(want)


def test_what_was_prepared_is_taken(source, tmp_path):
    first = data_sets.prepare("x", source, tmp_path, 10, 50)
    written = [(p, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))]
    second = data_sets.prepare("x", source, tmp_path, 10, 50)
    assert first.hash == second.hash and written == [(p, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))]
    other = data_sets.Source(source.base[::-1], source.queries, "l2", "")
    assert data_sets.prepare("x", other, tmp_path, 10, 50).hash != first.hash


def test_what_was_made_is_taken(tmp_path, monkeypatch):
    made = []

    def make(materials, folder):
        made.append(materials)
        folder.mkdir()
        return data_sets.Source(*makers.clusters(RECIPE), "cosine", "words")

    monkeypatch.setitem(data_sets.NAMES, "mine", data_sets.Named("", make))
    for limit in (0, 0, 5, 5):
        prepared = data_sets.prepare(
            "mine", data_sets.named("mine", Materials(limit=limit), tmp_path), tmp_path, 10, 20
        )
    assert len(made) == 2 and prepared.metric == "l2" and len(prepared.base) == 3_000
    assert not (tmp_path / "mine/unfinished").exists()


def test_what_an_older_version_made_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(data_sets.NAMES, "vit-crops", data_sets.Named("", lambda *_: pytest.fail("made again")))
    place = tmp_path / "vit-crops"
    place.mkdir()
    base, queries = makers.clusters(RECIPE)
    np.save(place / "base.npy", base)
    np.save(place / "every-query.npy", queries)
    materials = {"photos": "/photos", "model": "/model", "seed": "1", "limit": "0"}
    (place / "made.json").write_text(json.dumps({"materials": materials, "metric": "l2", "words": "w"}))
    source = data_sets.named("vit-crops", Materials(Path("/photos"), Path("/model")), tmp_path)
    np.testing.assert_array_equal(source.base, base)
    assert source.words == "w" and len(data_sets.prepare("vit-crops", source, tmp_path, 10, 20).queries) == 20


def test_vectors_that_cannot_be(tmp_path):
    good, bad = rows("f4", 20), rows("f4", 20)
    bad[3, 2] = np.nan
    for base, queries, words in [(bad, good, "NaN"), (good, good[:, :4], "dimension"), (good[:5], good, "neighbours")]:
        with pytest.raises(ValueError, match=words):
            data_sets.prepare("x", data_sets.Source(base, queries, "l2", ""), tmp_path, 10, 0)


def test_a_set_is_described(small):
    facts = data_sets.summary(small)
    assert 1 <= facts["dimensions_of_50_percent"] <= facts["dimensions_of_90_percent"] <= 24
    assert 2 < facts["intrinsic_dimension"] < 24 and facts["sha256"] == small.hash


# ---- engines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [
    Shape(1_000_000, 128, "l2"), Shape(1_000_000, 128, "l2", True), Shape(500, 3, "l2"), Shape(200_000, 768, "ip"),
])  # fmt: skip
@pytest.mark.parametrize("name", ENGINES)
def test_grids_are_sound(name, shape):
    engine = ENGINES[name]
    builds = engine.builds(shape)
    assert builds and engine.__doc__ and len({json.dumps(b) for b in builds}) == len(builds)
    for build in builds:
        settings = engine.settings(shape, build)
        assert settings and json.loads(json.dumps(settings)) == settings
        assert not any(run.no_dearer(b, a) for a, b in zip(settings, settings[1:], strict=False))


@pytest.mark.parametrize("shape", [Shape(1_000_000, 128, "l2", True), Shape(200_000, 768, "l2"), Shape(90, 7, "ip")])
def test_auto_is_always_built(shape):
    specs = [build["spec"] for build in ENGINES["saccade"].builds(shape)]
    assert specs[0] == "auto"
    for spec in specs:
        parts = spec.removesuffix(",Refine(SQfp16)").split(",")
        assert parts == ["auto"] or (int(parts[0].removeprefix("IVF")) * 39 <= shape.count and len(parts) == 2)


def test_lists_grow_with_the_vectors():
    specs = [[b["spec"] for b in ENGINES["saccade"].builds(Shape(n, 128, "l2"))] for n in (1_000_000, 10_000_000)]
    assert "IVF8192,PQ16,Refine(SQfp16)" in specs[0] and "IVF65536,PQ16,Refine(SQfp16)" in specs[1]
    assert lists_of(200_000, 122) == 2048 and lists_of(100, 122) == 1 and lists_of(1_000, 1) == 16


def test_bytes_are_only_tried_where_nothing_is_lost(small, tmp_path):
    def bytes_of(shape):
        return [b["factory"] for n in ("faiss-ivfpq", "faiss-ivfflat") for b in ENGINES[n].builds(shape)
                if "SQ8" in b["factory"]]  # fmt: skip

    assert not small.shape.whole and not bytes_of(small.shape)
    whole = data_sets.prepare("w", data_sets.Source(rows("u1", 400), rows("u1"), "l2", ""), tmp_path, 10, 0)
    assert whole.shape.whole and len(bytes_of(whole.shape)) > 1
    asked = data_sets.Source(rows("u1", 400), rows("f4") + np.float32(0.5), "l2", "")
    assert not data_sets.prepare("q", asked, tmp_path, 10, 0).shape.whole


def test_ladders():
    assert ladder(4, 24) == [4, 6, 8, 12, 16, 24]
    assert lists_for(1_000_000) == 1024 and lists_for(10) == 1
    assert lists_for(10_000, 100) * 39 <= 10_000


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_answers_alike_in_every_way(name, small, tmp_path, library):
    engine = ENGINES[name]
    try:
        engine.version()
    except Unavailable as reason:
        pytest.skip(str(reason))
    params = engine.builds(small.shape)[0]
    made = engine()
    made.build(small.base, small.metric, params, 2)
    (tmp_path / "partial").mkdir()
    made.save(tmp_path / "partial")
    made.close()
    (tmp_path / "partial").rename(tmp_path / "whole")
    asked = engine()
    asked.load(tmp_path / "whole", small.shape, params)
    asked.threads(1)
    asked.prepare(engine.settings(small.shape, params)[-1])
    queries = np.ascontiguousarray(small.queries)
    ids = asked.batch(queries, 10)
    assert small.recall(np.arange(100), ids) > 0.9
    singles, parts = asked.singles(queries, 10), asked.batches(queries, 10, 33)
    one = singles.decode(range(100), [singles.call(i) for i in range(100)])
    assert one.shape == ids.shape and one.dtype == ids.dtype == np.int64
    np.testing.assert_array_equal(parts.decode(range(4), [parts.call(i) for i in range(4)]), ids)
    assert (one == ids).mean() > 0.9  # a batch may be rounded in another way
    asked.threads(2)
    assert (asked.batch(queries, 10) == ids).mean() > 0.9
    asked.close()
    assert 0 < measure.overhead(engine, small) < 100_000


def test_numpy_orders_ties_by_id():
    base = np.zeros((5, 2), "f4")
    assert nearest(base, base[:1], 3, "l2").tolist() == [[0, 1, 2]]


def test_an_error_of_a_search_is_raised(small, library):
    engine = ENGINES["saccade"].tiny(np.array(small.base[:20]), "l2")
    engine.prepare({"recall": 3.0})
    with pytest.raises(ValueError, match="recall"):
        engine.singles(np.array(small.queries), 10).call(0)


# ---- choosing --------------------------------------------------------------------------------------------


def point(recall, qps):
    return run.Point(recall, qps, "i", {"n": round(recall * 1e4)})


def test_pruning():
    given = [(0.5, 9e4), (0.88, 5e4), (0.9, 1e4), (0.91, 4e4), (0.97, 3.5e4), (0.96, 3e4), (0.9995, 900), (1.0, 800)]
    points = [point(*pair) for pair in given]
    kept = [p.recall for p in run.chosen(points, 10)]
    assert kept == [0.88, 0.91, 0.96, 0.97, 0.9995]  # in range, near the front; one that finds all
    assert [p.recall for p in run.chosen([point(1.0, 5), point(0.3, 9)], 10)] == [1.0]
    assert run.chosen([point(0.3, 9)], 10) == []


def test_the_fastest_at_a_target_is_never_thinned_out():
    points = [point(0.86 + 0.002 * i, 9e4 - 1e3 * i) for i in range(69)]
    kept = run.chosen(points, 6)
    for target in run.TARGETS:
        best = max((p for p in points if p.recall >= target), key=lambda p: p.qps)
        assert best in kept
    assert len(kept) < 15 and kept[0].recall == pytest.approx(0.86)


def test_a_target_lies_between_two_that_are_measured():
    dense = [point(0.86 + 0.002 * i, 9e4 - 1e3 * i) for i in range(69)]
    beside = [point(0.86 + 0.002 * i, 8.8e4 - 1e3 * i) for i in range(69)]  # an index nearly as fast
    for target in run.TARGETS:
        margin = run.MARGIN * (1 - target)
        recalls = [p.recall for p in run.around(dense, target)]
        assert min(recalls) < target - margin + 1e-9 and max(recalls) >= target + margin - 1e-9
        assert any(target - 0.0021 < r < target for r in recalls)
        assert any(target <= r < target + 0.0021 for r in recalls)
        kept = run.chosen(dense + beside, 6)
        assert all(p in kept for p in run.around(dense, target))
    lone = [point(0.97, 100)]
    assert run.around(lone, 0.95) == [lone[0]] * 2 and run.around(lone, 0.99) == [lone[0]] * 2
    assert run.around([], 0.9) == []


def test_dearer():
    assert run.no_dearer({"a": 1, "b": 2}, {"a": 1, "b": 3}) and not run.no_dearer({"a": 2, "b": 2}, {"a": 1, "b": 3})
    assert not run.no_dearer({"a": 1}, {"b": 2})


def test_what_does_not_help_is_not_tried_further():
    tried = [
        ({"n": 4, "d": 20}, 0.80),
        ({"n": 4, "d": 40}, 0.83),
        ({"n": 4, "d": 80}, 0.8301),
        ({"n": 8, "d": 20}, 0.85),
    ]
    assert "d 80 found no more than 40" in run.saturated(tried, {"n": 4, "d": 160})
    assert not run.saturated(tried, {"n": 8, "d": 40}) and not run.saturated(tried, {"n": 16, "d": 20})
    assert not run.saturated([({"ef": 10}, 0.9), ({"ef": 12}, 0.9)], {"ef": 20})  # a single number may go on


# ---- comparing -------------------------------------------------------------------------------------------

FAST = {"repetitions": 2, "figure_seconds": 0.02, "builds": 1, "settings": 3, "batch": 40}


def compare(data, work, engines=("saccade", "numpy"), **options):
    comparison = run.Comparison(data, run.Options(engines=engines, **{**FAST, **options}), work)
    comparison.run()
    return comparison


def test_a_comparison_and_its_tables(small, tmp_path, library):
    found = report.results(compare(small, tmp_path / "work"))
    assert {f["engine"] for f in found["figures"]} == {"saccade", "numpy"}
    assert {f["mode"] for f in found["figures"]} == set(measure.MODES)
    for figure in found["figures"]:
        assert figure["repetitions"] == 2 and figure["k"] == 10 and 0.85 <= figure["recall"] <= 1
        assert 0 < figure["p50_us"] <= figure["p99_us"] and figure["qps_least"] <= figure["qps"] <= figure["qps_most"]
        assert figure["batch"] == (1 if figure["mode"] == "one" else 40)
    assert all(i["seconds"] > 0 and i["disk_bytes"] > 0 for i in found["indexes"])
    assert all(e["overhead_us"] > 0 for e in found["engines"])

    paths = report.write(found, tmp_path / "out", "x")
    assert json.loads(paths[0].read_text())["data"]["sha256"] == small.hash
    lines = list(csv.DictReader(paths[1].open()))
    assert len(lines) == len(found["figures"]) and all(x["data_sha256"] == small.hash and x["cpu"] for x in lines)
    text = paths[2].read_text()
    for words in ("**saccade**", "| numpy |", "0.95", "sha256", "Building and memory", "ours / it"):
        assert words in text
    drawn = plots.draw(found, tmp_path / "out", "x")
    assert all(p.stat().st_size > 1000 for p in drawn) and len(drawn) in (0, 5)


def test_a_run_that_was_stopped_goes_on(small, tmp_path, library, monkeypatch):
    first = compare(small, tmp_path)
    figures = len(list(first.log.find("figure")))
    assert figures > 0 and len(list(first.log.find("built"))) == 2
    lines = first.log.path.read_text().splitlines()
    # Killed while the last figure was written: half a line is there, one before it is lost.
    first.log.path.write_text("\n".join(lines[:-2]) + "\n" + lines[-1][:20])
    monkeypatch.setattr(child, "build", lambda *a: pytest.fail("built again"))
    second = compare(small, tmp_path)
    assert len(list(second.log.find("figure"))) == figures
    assert len(list(second.log.find("probe"))) == len(list(first.log.find("probe")))
    assert second.log.path.read_text().count("\n") >= len(lines)
    again = compare(small, tmp_path)
    assert len(again.log.records) == len(second.log.records)  # nothing was left to do


class Reckoned:
    """An engine whose times are said and not taken: [index][setting] = (recall, seconds alone, in a batch)."""

    native_loop = False

    def __init__(self, table):
        self.table, self.asked = table, []

    def glimpse(self, engine, data, mode, batch):
        recall, alone, together = self.table[engine.index][engine.setting]
        self.asked.append((engine.index, engine.setting, mode.name, batch))
        return recall + (0 if mode.name == "batch" else 0.003), 1 / (alone if mode.single else together)


@pytest.fixture
def reckoned(small, tmp_path, monkeypatch):
    """reckoned(table, **options): a comparison of which only the choice is made, by the times of a table."""

    def make(table, native_loop=False, **options):
        teller = Reckoned(table)
        grids = {"settings": classmethod(lambda cls, shape, build: [{"n": n} for n in table[build["spec"]]]),
                 "native_loop": native_loop}  # fmt: skip
        for name, value in grids.items():
            monkeypatch.setattr(ENGINES["saccade"], name, value)

        class Loaded:
            def __init__(self, index):
                self.index = index

            def prepare(self, setting):
                self.setting = setting["n"]

            def close(self):
                pass

        monkeypatch.setattr(measure, "glimpse", teller.glimpse)
        comparison = run.Comparison(small, run.Options(engines=("saccade",), **{**FAST, **options}), tmp_path)
        monkeypatch.setattr(comparison, "_loaded", lambda built: Loaded(built.params["spec"]))
        indexes = [run.Built("saccade", "1", {"spec": spec}) for spec in table]
        for index in indexes:
            comparison._probe(index)
        kept = comparison._worth_measuring(indexes)
        return teller, comparison, {i.params["spec"]: kept.get(i.key, {}) for i in indexes}

    return make


# One index is the faster alone, the other in batches.
TWO_KINDS = {"long": {1: (0.89, 10e-6, 90e-6), 2: (0.92, 20e-6, 95e-6), 3: (0.96, 40e-6, 99e-6)},
             "short": {1: (0.89, 70e-6, 10e-6), 2: (0.92, 90e-6, 20e-6), 3: (0.96, 99e-6, 40e-6)}}  # fmt: skip


def test_each_mode_has_its_own_choice(reckoned):
    teller, comparison, kept = reckoned(TWO_KINDS)
    every = [{"n": 1}, {"n": 2}, {"n": 3}]
    assert kept == {"long": {"one": every}, "short": {"batch": every, "all": every}}
    assert {(mode, batch) for _, _, mode, batch in teller.asked} == {("one", 1), ("batch", 40)}
    recalls = {(p["index"], p["setting"]["n"]): p["recall"] for p in comparison.log.find("probe", mode="one")}
    for probe in comparison.log.find("probe", mode="batch"):  # counted once, among more queries
        assert recalls[probe["index"], probe["setting"]["n"]] == probe["recall"]


def test_only_what_is_asked_for_is_tried(reckoned):
    assert {mode for *_, mode, _ in reckoned(TWO_KINDS, modes=("one",))[0].asked} == {"one"}
    teller, comparison, _ = reckoned(TWO_KINDS, modes=("one", "batch"))  # goes on
    assert {mode for *_, mode, _ in teller.asked} == {"batch"} and len(list(comparison.log.find("probe"))) == 12
    teller, _, _ = reckoned(TWO_KINDS, modes=("batch",), batch=50)
    assert {batch for *_, batch in teller.asked} == {50}


def test_a_glimpse_forgives_what_the_machine_does_meanwhile(small, monkeypatch):
    now, asked = [0.0], []

    class Stuttering:
        def singles(self, queries, k):
            return Singles(self.call, lambda calls, answers: np.concatenate(answers))

        def batches(self, queries, k, size):
            return self.singles(queries, k)

        def call(self, i):
            asked.append(i)
            now[0] += 10.0 if self.stuck(len(asked)) else 1e-3
            return small.truth[i : i + 1] if self.single else small.truth[i * 40 : i * 40 + 40]

    engine = Stuttering()
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure, "GLIMPSE_SECONDS", 1e9)
    engine.single, engine.stuck = True, lambda call: call % 70 == 0
    assert measure.glimpse(engine, small, measure.MODES["one"], 40) == (1.0, pytest.approx(1_000))
    assert len(asked) == 300
    engine.single, engine.stuck = False, lambda call: False
    assert measure.glimpse(engine, small, measure.MODES["batch"], 40) == (1.0, pytest.approx(100 / 3e-3))
    monkeypatch.setattr(measure, "GLIMPSE_SECONDS", 0.0)
    asked.clear()
    measure.glimpse(engine, small, measure.MODES["batch"], 40)
    assert asked == [0, 1, 2]


def test_a_native_loop_is_chosen_by_what_is_counted(reckoned):
    teller, _, kept = reckoned(TWO_KINDS, native_loop=True)
    assert {mode for *_, mode, _ in teller.asked} == {"batch"}
    assert set(kept["short"]) == set(measure.MODES) and kept["long"] == {}


def test_probes_of_an_older_kind_are_taken_again(reckoned, small, tmp_path):
    log = run.Comparison(small, run.Options(), tmp_path).log
    for key in [run.Built("saccade", "1", {"spec": spec}).key for spec in TWO_KINDS]:
        log.add("probe", index=key, setting={"n": 1}, recall=1.0, qps=1e9)
        log.add("probe", index=key, setting={"n": 2}, pruned="recall above 0.999 with n 1")
    _, comparison, kept = reckoned(TWO_KINDS)
    assert len(kept["long"]["one"]) == 3 and len(list(comparison.log.find("probe", mode="one"))) == 6


def test_what_is_hopeless_in_one_mode_is_tried_in_another(reckoned):
    table = {"long": {1: (0.92, 10e-6, 10e-6)}, "slow": {n: (0.88 + n / 100, 10e-6, 999e-6) for n in (1, 2, 3)}}
    teller, comparison, kept = reckoned(table, settings=9)
    assert [mode for name, n, mode, _ in teller.asked if name == "slow" and n > 1] == ["one", "one"]
    assert all("20 times behind" in p["pruned"] for p in comparison.log.find("probe", mode="batch") if "pruned" in p)
    assert len(kept["slow"]["one"]) == 3 and "batch" not in kept["slow"]


def test_a_peer_that_fails_is_left_out(small, tmp_path, library, monkeypatch):
    monkeypatch.setattr(ENGINES["numpy"], "prepare", lambda self, setting: 1 / 0)
    comparison = compare(small, tmp_path)
    assert [words for name, words in comparison.left_out if name == "numpy"][0].startswith("failed while its settings")
    assert {f["engine"] for f in report.results(comparison)["figures"]} == {"saccade"}


def test_another_version_is_measured_anew(small, tmp_path, library, monkeypatch):
    compare(small, tmp_path)
    monkeypatch.setattr(ENGINES["numpy"], "version", classmethod(lambda cls: "99"))
    second = compare(small, tmp_path)
    assert {b["version"] for b in second.log.find("built", engine="numpy")} > {"99"}
    assert {f["version"] for f in report.results(second)["figures"] if f["engine"] == "numpy"} == {"99"}


def test_who_takes_no_part_is_named(small, tmp_path, library, monkeypatch):
    def gone(cls):
        raise Unavailable("scann is not installed")

    monkeypatch.setattr(ENGINES["scann"], "version", classmethod(gone))
    monkeypatch.setattr(ENGINES["numpy"], "builds", classmethod(lambda cls, shape: [{"no such": 1}]))
    monkeypatch.setattr(ENGINES["numpy"], "settings", classmethod(lambda cls, shape, build: 1 / 0))
    options = run.Options(engines=("saccade", "scann"), **FAST)
    comparison = run.Comparison(small, options, tmp_path, {"scann": "no wheel for this Python"})
    comparison.run()
    text = report.markdown(report.results(comparison))
    assert "- scann: scann is not installed: no wheel for this Python" in text


def test_what_cannot_be_built_is_named(small, tmp_path, library, monkeypatch):
    monkeypatch.setattr(ENGINES["saccade"], "builds", classmethod(lambda cls, shape: [{"spec": "IVF1,PQ7x9"}]))
    comparison = compare(small, tmp_path)
    assert len(comparison.left_out) == 1 and "IVF1,PQ7x9" in comparison.left_out[0][0]
    assert "saccade" not in {f["engine"] for f in report.results(comparison)["figures"]}
    assert "building ended with 1" in report.markdown(report.results(comparison))


def test_a_bounded_run_ends(small, tmp_path, library):
    comparison = compare(small, tmp_path, seconds=0.5)
    assert comparison.left_out and all("left" in words or "--seconds" in words for _, words in comparison.left_out)
    report.markdown(report.results(comparison))


def figures_of(engine, mode, points):
    return [{"engine": engine, "mode": mode, "recall": r, "qps": q, "p99_us": 1e6 / q, "index": f"{engine}-{at}"}
            for at, (r, q) in enumerate(points)]  # fmt: skip


def test_curves_are_fronts():
    figures = figures_of("numpy", "one", [(0.9, 50), (0.95, 40), (0.93, 30), (0.99, 10)])
    results = {"engines": [{"name": "numpy"}], "figures": figures}
    assert standing.curves(results, "one") == {"numpy": [(0.9, 50), (0.95, 40), (0.99, 10)]}
    assert [r for r, _ in standing.curves(results, "one", "p99_us")["numpy"]] == [0.9, 0.95, 0.99]
    assert standing.best(results, "one", 0.91)["numpy"]["qps"] == 40 and standing.best(results, "batch", 0.9) == {}


@pytest.fixture
def measured():
    """Results of four engines, in one mode."""
    points = {"saccade": [(0.8, 1000), (0.9, 400), (0.99, 100), (1.0, 10)], "scann": [(0.95, 300), (0.97, 250)],
              "faiss-ivfpq": [(0.85, 160), (0.96, 40), (0.999, 5)], "hnswlib": [(0.9, 200), (0.99, 200)]}  # fmt: skip
    facts = {"spec": "IVF8,PQ32", "m": 32, "nbits": 8, "bytes_codes": 40_000, "bytes_other": 15_000}
    indexes = [
        {"index": f"{name}-{at}", "engine": name, "params": {"spec": f"s{at}"}, "seconds": 10.0 * (at + 1),
         "facts": facts}
        for name, each in points.items() for at in range(len(each))
    ]  # fmt: skip
    families = {"saccade": "ivf", "scann": "ivf", "faiss-ivfpq": "ivf", "hnswlib": "graph"}
    return {
        "targets": [0.9, 0.95, 0.99], "options": {"modes": ["one"]}, "data": {"count": 1_000}, "indexes": indexes,
        "engines": [{"name": name, "family": family} for name, family in families.items()],
        "figures": [f for name, each in points.items() for f in figures_of(name, "one", each)],
    }  # fmt: skip


def test_rates_at_just_one_recall(measured):
    at = standing.at_recall(measured, "one", 0.95)
    assert at["scann"] == 300 and at["hnswlib"] == pytest.approx(200)
    # 0.9 misses 0.1, 0.99 misses 0.01: 0.95 lies log(2) of log(10) along.
    assert at["saccade"] == pytest.approx(400 * (100 / 400) ** (np.log(2) / np.log(10)))
    assert standing.at_recall(measured, "one", 0.9)["saccade"] == pytest.approx(400)
    late = standing.at_recall(measured, "one", 0.995)
    assert late.keys() == {"saccade", "faiss-ivfpq"} and 10 < late["saccade"] < 100 and 5 < late["faiss-ivfpq"] < 40
    assert standing.at_recall(measured, "batch", 0.9) == {} and "saccade" in standing.at_recall(measured, "one", 1.0)


def test_ours_by_the_best_of_each_kind(measured):
    found = standing.queries(measured, "one", 0.9)
    assert found["ivf"].of == "scann" and found["ivf"].value == pytest.approx(400 / 300)
    assert found["graph"].of == "hnswlib" and found["graph"].value == pytest.approx(2)
    assert found["all"] == found["ivf"]
    assert standing.queries(measured, "one", 0.99)["all"].of == "hnswlib"
    assert standing.queries({**measured, "engines": measured["engines"][:1]}, "one", 0.9) == {}
    built = standing.builds(measured, "one", 0.95)  # ours: the third, 30 s; theirs: the second, 20 s, and the first
    assert built["fastest"] == standing.Ratio(20 / 30, "s1") and built["soonest"] == standing.Ratio(10 / 30, "s0")
    held = standing.memory(measured, "one", 0.95)
    assert held.of == "IVF8,PQ32" and held.value == pytest.approx(55_000 / (1_000 * 44))
    for index in measured["indexes"]:
        index["facts"] = {}
    assert standing.memory(measured, "one", 0.95) is None and standing.memory(measured, "batch", 0.95) is None


def test_the_table_of_ratios(measured):
    text = "\n".join(report._standing(measured))
    assert "| at recall | 0.90 | 0.95 | 0.99 |" in text and "1.33 (scann)" in text and "1.25 (IVF8,PQ32)" in text
    assert "by the best graph | 2.00 (hnswlib)" in text
    assert report._standing({**measured, "figures": [], "indexes": []}) == []


# ---- batches of every size -------------------------------------------------------------------------------


def test_sizes_are_powers_of_two_and_their_neighbours():
    assert batches.sizes(17) == [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17]
    assert batches.sizes(1) == [1] and batches.sizes(4097)[-4:] == [2049, 4095, 4096, 4097]
    assert len(batches.sizes(4097)) == 35


def test_every_size_is_timed_over_whole_batches():
    asked = []
    points = batches.measure(lambda at, n: asked.append((at, n)), 20, [1, 7, 20], 2, 0.002, 1)
    assert [p["size"] for p in points] == [1, 7, 20]
    assert all(0 < p["us"] <= p["us_median"] and p["cpu_us"] > 0 for p in points)
    assert {at for at, n in asked if n == 7} == {0, 7} and {at for at, n in asked if n == 20} == {0}
    assert {at for at, n in asked if n == 1} == set(range(20))


def test_what_is_slower_than_below_is_marked():
    given = {8: 12, 1: 20, 2: 10, 3: 11, 4: 11.6, 5: 30, 16: 13, 17: 14}
    points = [{"size": size, "us": us, "cpu_us": 5 if size == 3 else 4} for size, us in given.items()]
    marks = {p["size"]: (p["slower"], p["dearer"]) for p in batches.marked(points)}
    assert marks[4][0] == 2 and marks[5][0] == 3 and marks[3] == (None, 2)  # 5 has 3 and 4 below, 4 has 2 and 3
    assert [size for size, mark in marks.items() if mark != (None, None)] == [3, 4, 5]
    assert list(marks) == sorted(given)


def test_batches_are_measured_and_written(source, tmp_path, library):
    files.write_fbin(tmp_path / "base.fbin", source.base)
    files.write_fbin(tmp_path / "query.fbin", source.queries)
    arguments = ("--data", tmp_path, "--work", tmp_path / "work", "--most", "9", "--seconds", "0.02", "--rounds", "2")
    done = bench(*arguments, "--spec", "IVF16,PQ12", "--nprobe", "8", "--depth", "40", module="batches")
    assert done.returncode == 0, done.stderr
    assert "| 9 | " in done.stdout and "- processor time, 1 thread:" in done.stdout
    written = json.loads(next((tmp_path / "work/results").glob("batches-*.json")).read_text())
    assert written["recall"] > 0.8 and written["setting"] == {"nprobe": 8, "depth": 40}
    assert {p["size"] for p in written["points"]} == {1, 2, 3, 4, 5, 7, 8, 9} and written["points"][0]["threads"] == 1
    index = next((tmp_path / "work/indexes").rglob("index"))
    again = bench(*arguments, "--index", index, module="batches")
    assert again.returncode == 0 and "building" in done.stderr and "building" not in again.stderr
    assert bench("--most", "0", module="batches").returncode == 2
    assert bench("--data", "nothing", "--work", tmp_path / "work", module="batches").returncode == 1


# ---- environment and command line ------------------------------------------------------------------------


def test_packages_are_installed_one_by_one(tmp_path, monkeypatch):
    python = environment.python(tmp_path)
    python.parent.mkdir()
    python.touch()
    lacking, asked = {"numpy", "scann", "usearch"}, []

    def pip(command):
        asked.append(command[-1])
        if command[-1] == "scann":
            return "ERROR: no wheel"
        lacking.discard(command[-1])
        return ""

    monkeypatch.setattr(environment, "_run", pip)
    monkeypatch.setattr(environment, "_lacking", lambda folder: set(lacking))
    environment.ready(tmp_path)
    assert asked == ["numpy", "scann", "usearch"] and environment.why_missing(tmp_path) == {"scann": "ERROR: no wheel"}
    environment.ready(tmp_path)
    assert len(asked) == 3  # what failed is not tried every time
    environment.ready(tmp_path, retry=True)
    assert asked[3:] == ["scann"]


def bench(*arguments, module="", **extra):
    command = [sys.executable, "-m", f"saccade.bench.{module}".rstrip("."), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), **extra}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def test_command_line(tmp_path, library):
    files.write_fbin(tmp_path / "base.fbin", makers.clusters(RECIPE)[0])
    files.write_fbin(tmp_path / "query.fbin", makers.clusters(RECIPE)[1])
    done = bench("--smoke", "--here", "--data", tmp_path, "--engines", "saccade,numpy", "--work", tmp_path / "work",
                 "--out", tmp_path / "out", "--figure-seconds", "0.02")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "# Searching side by side" in done.stdout and "building saccade auto" in done.stderr
    assert {p.suffix for p in (tmp_path / "out").iterdir()} >= {".json", ".csv", ".md"}


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_every_benchmark_is_listed(word):
    done = subprocess.run([ROOT / "dev", "bench", word], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr and done.stdout.startswith("usage: ./dev bench")
    listed = re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE)
    built = re.findall(r"add_executable\(bench_(\w+)", (ROOT / "bench/CMakeLists.txt").read_text())
    assert sorted(listed) == sorted([*built, "peers", "batches"])
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize("arguments, code, words", [
    (["--list"], 0, "hnswlib"), (["--help"], 0, "--smoke"), ([], 2, "--list"), (["--engines", "bing"], 2, "no engine"),
    (["--modes", "two"], 2, "no mode"), (["--data", "nothing", "--here"], 1, "no data set"),
    (["--data", "sift-photos", "--here"], 1, "--photos"), (["--smoke", "--k", "0"], 2, "1 or more"),
])  # fmt: skip
def test_usage(arguments, code, words, tmp_path):
    done = bench(*arguments, "--work", tmp_path)
    assert done.returncode == code and words in done.stdout + done.stderr
