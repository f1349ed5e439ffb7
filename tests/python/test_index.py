"""Index against exact answers, what it accepts, what it refuses, how it is kept."""

from __future__ import annotations

import ctypes
import sys
import threading
import time

import numpy as np
import pytest

import saccade
from saccade import _library

pytestmark = pytest.mark.usefixtures("library")

SETS = ["sift5k", "photosift10k", "tiny_vit"]


@pytest.fixture(scope="module", params=SETS)
def truth(request, vectors):
    """(base, queries, ids of the true neighbours)"""
    name = request.param
    return (
        vectors(f"{name}_base.fvecs"),
        vectors(f"{name}_query.fvecs"),
        vectors(f"{name}_groundtruth.ivecs"),
    )


@pytest.fixture(scope="module")
def photosift(vectors):
    return vectors("photosift10k_base.fvecs"), vectors("photosift10k_query.fvecs")


@pytest.fixture(scope="module")
def ivf(photosift):
    """A trained, filled and measured index; tests only read it."""
    base, _ = photosift
    index = saccade.Index(base.shape[1], "l2", "IVF64,PQ32")
    index.train(base)
    index.add(base)
    index.measure()
    return index


def flat(x, metric="l2"):
    index = saccade.Index(x.shape[1], metric, "Flat")
    index.add(x)
    return index


def overlap(found, true, k=10):
    """k-recall@k, in 0..1."""
    return np.mean([len(np.intersect1d(f[:k], t[:k])) / k for f, t in zip(found, true, strict=True)])


def random(n, dim, seed=1):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype("f4")


# ---- choosing ----------------------------------------------------------------------------------------


def test_only_allowed_ids_are_found(ivf, photosift):
    base, queries = photosift
    few, many = np.arange(0, len(base), 97), np.flatnonzero(np.arange(len(base)) % 3)
    for allow in (few, many):
        D, I = ivf.search(queries, 10, recall=0.99, allow=allow)
        part = flat(base[allow])
        true = allow[part.search(queries, 10)[1]]
        assert np.isin(I, allow).all()
        assert overlap(I, true) > 0.97


def test_each_query_may_have_ids_of_its_own(ivf, photosift):
    _, queries = photosift
    few, many = [5, 1, 10**12], np.arange(0, 9000)
    D, I = ivf.search(queries[:4], 10, allow=[few, None, many, []])
    assert sorted(I[0][:2]) == [1, 5] and (I[0][2:] == -1).all()
    assert (I[1] == ivf.search(queries[1:2], 10)[1][0]).all()
    assert (I[2] == ivf.search(queries[2:3], 10, allow=many)[1][0]).all()
    assert (I[3] == -1).all()
    with pytest.raises(ValueError, match="allow"):
        ivf.search(queries[:3], 10, allow=[few, None])
    with pytest.raises(ValueError, match="allow"):
        ivf.search(queries[:3], 10, allow=[0.5])


# ---- answers -----------------------------------------------------------------------------------------


def test_flat_gives_the_ground_truth(truth):
    base, queries, true = truth
    D, I = flat(base).search(queries, 100)
    assert D.dtype == np.float32 and I.dtype == np.int64 and D.shape == I.shape == (len(queries), 100)
    assert np.all(np.diff(D, axis=1) >= 0)
    exact = ((queries[:, None].astype("f8") - base[I].astype("f8")) ** 2).sum(axis=2)
    np.testing.assert_allclose(D, exact, rtol=1e-5, atol=1e-4)
    want = ((queries[:, None].astype("f8") - base[true].astype("f8")) ** 2).sum(axis=2)
    np.testing.assert_allclose(exact, want, rtol=1e-5, atol=1e-5)
    assert overlap(I, true, 100) > 0.999  # rounding may swap near ties


def test_ivf_reaches_the_recall_asked_for(truth):
    base, queries, true = truth
    index = saccade.Index(base.shape[1], "l2", "IVF32,PQ16")
    index.train(base)
    index.add(base)
    curve = index.measure()
    assert curve == sorted(curve) and curve == index.recall_curve
    assert overlap(index.search(queries, 10, recall=0.99)[1], true) >= 0.98
    exact = index.search(queries, 10, exact=True)[1]
    assert overlap(exact, true) > 0.999
    assert overlap(index.search(queries, 10, nprobe=32, depth=1000)[1], true) > 0.999


@pytest.mark.parametrize("metric", ["ip", "cosine"])
def test_similarities_descend(metric):
    base, queries = random(500, 24), random(9, 24, seed=2)
    D, I = flat(base, metric).search(queries, 7)
    scores = queries @ base.T
    if metric == "cosine":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(base, axis=1)
    np.testing.assert_array_equal(I, np.argsort(-scores, axis=1)[:, :7])
    np.testing.assert_allclose(D, -np.sort(-scores, axis=1)[:, :7], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("metric, worst", [("l2", np.inf), ("ip", -np.inf)])
def test_short_answers_are_filled_up(metric, worst):
    index = flat(np.eye(3, dtype="f4"), metric)
    D, I = index.search(np.ones((2, 3)), 5)
    assert np.all(I[:, 3:] == -1) and np.all(D[:, 3:] == worst) and np.all(I[:, :3] == [0, 1, 2])
    D, I = saccade.Index(3, metric, "Flat").search(np.ones((1, 3)), 2)
    assert np.all(I == -1) and np.all(D == worst)
    D, I = index.search(np.empty((0, 3)), 2)
    assert D.shape == I.shape == (0, 2)


def test_equal_distances_go_by_id():
    index = saccade.Index(2, "l2", "Flat")
    index.add(np.zeros((4, 2)), [30, 10, 40, 20])
    assert index.search([[0.0, 0.0]], 4)[1].tolist() == [[10, 20, 30, 40]]


def test_score_threshold():
    index = flat(np.arange(5, dtype="f4")[:, None])
    D, I = index.search([[0.0]], 5, score_threshold=-4.0)
    assert I.tolist() == [[0, 1, 2, -1, -1]]


def test_every_query_has_its_own_settings(ivf, photosift):
    _, queries = photosift
    nprobe = np.arange(1, 21)
    D, I = ivf.search(queries[:20], 10, nprobe=nprobe, exact=nprobe == 20)
    for row in range(20):
        d, i = ivf.search(queries[row], 10, nprobe=nprobe[row], exact=row == 19)
        np.testing.assert_array_equal(i[0], I[row])
        np.testing.assert_array_equal(d[0], D[row])


def test_without_rescoring_distances_are_those_of_the_codes(ivf, photosift):
    base, queries = photosift
    D, I = ivf.search(queries, 1, nprobe=64, rescore=False)
    real = ((queries - base[I[:, 0]]) ** 2).sum(axis=1)
    assert not np.allclose(D[:, 0], real, rtol=1e-4)
    np.testing.assert_allclose(D[:, 0], real, rtol=0.5, atol=real.mean() / 2)


# ---- what goes in --------------------------------------------------------------------------------------


class HasArray:
    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return self.x if dtype is None else self.x.astype(dtype)


class HasDlpack:
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.astype("f8"),
        lambda x: x.astype("f2"),
        lambda x: x.astype("u1"),
        lambda x: x.astype(">f4"),
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        lambda x: x.tolist(),
        HasArray,
        HasDlpack,
    ],
    ids=["f8", "f2", "u1", "big-endian", "fortran", "rows", "columns", "reversed", "lists", "array", "dlpack"],
)
def test_any_array_will_do(make):
    x = np.random.default_rng(3).integers(0, 100, (50, 16)).astype("f4")
    index = saccade.Index(16, "l2", "Flat")
    index.add(make(x))
    want = flat(x).search(x[:7], 5)
    for got in (index.search(x[:7], 5), index.search(make(x[:7]), 5)):
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])


def test_one_vector_is_one_row():
    x = random(10, 4)
    D, I = flat(x).search(x[3], 1)
    assert I.tolist() == [[3]] and D.shape == (1, 1)


@pytest.mark.parametrize("bits", ["i4", "u8", "i8", "u1"])
def test_ids_of_any_width(bits):
    x = random(3, 4)
    index = saccade.Index(4, "l2", "Flat")
    index.add(x, np.array([5, 200, 7], bits))
    assert index.search(x, 1)[1].tolist() == [[5], [200], [7]]
    assert 200 in index and 6 not in index and len(index) == index.ntotal == 3
    assert index.ids().tolist() == [5, 7, 200]


def test_the_largest_id():
    index = saccade.Index(2, "l2", "Flat")
    index.add([[1, 2]], [2**63 - 1])
    assert index.search([[1, 2]], 1)[1].tolist() == [[2**63 - 1]]


def test_ids_count_on():
    index = saccade.Index(4, "l2", "Flat")
    index.add(random(3, 4))
    index.add(random(2, 4), [10, 20])
    index.add(random(2, 4))
    assert index.ids().tolist() == [0, 1, 2, 10, 20, 21, 22]
    index.remove_ids([21, 22])
    index.add(random(1, 4))
    assert index.ids().tolist() == [0, 1, 2, 10, 20, 23]


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda i: i.search(np.zeros((2, 5))), r"x: shape \[n\]\[4\] wanted, got \[2\]\[5\]"),
        (lambda i: i.search(np.zeros((2, 2, 4))), "shape"),
        (lambda i: i.search(np.zeros(3)), "shape"),
        (lambda i: i.search([["a"] * 4]), "numbers wanted"),
        (lambda i: i.search([[1, 2, 3, 4], [1, 2]]), "no array of numbers"),
        (lambda i: i.search(np.zeros((1, 4), complex)), "numbers wanted"),
        (lambda i: i.search(np.full((1, 4), np.nan)), "finite|NaN"),
        (lambda i: i.search(np.zeros((1, 4)), 0), "k: 1"),
        (lambda i: i.search(np.zeros((1, 4)), 100_000), "k"),
        (lambda i: i.search(np.zeros((1, 4)), nprobe=-1), "nprobe: 0"),
        (lambda i: i.search(np.zeros((1, 4)), nprobe=1.5), "nprobe"),
        (lambda i: i.search(np.zeros((1, 4)), nprobe=[1, 2]), r"nprobe: one value or \[1\]"),
        (lambda i: i.search(np.zeros((1, 4)), recall=1.5), "recall"),
        (lambda i: i.search(np.zeros((1, 4)), recall=np.nan), "recall"),
        (lambda i: i.search(np.zeros((1, 4)), exact=1), "exact"),
        (lambda i: i.add(np.full((1, 4), np.inf)), "finite|infin"),
        (lambda i: i.add(np.zeros((2, 4)), [1]), "one for each of 2"),
        (lambda i: i.add(np.zeros((1, 4)), [-1]), "0 to 2"),
        (lambda i: i.add(np.zeros((1, 4)), [1.0]), "whole numbers"),
        (lambda i: i.add(np.zeros((1, 4)), np.array([2**63], "u8")), "0 to 2"),
        (lambda i: i.reconstruct(-1), "id: 0"),
        (lambda i: i.remove_ids(["a"]), "whole numbers"),
    ],
)
def test_bad_arguments_are_value_errors(call, words):
    index = flat(random(3, 4))
    with pytest.raises(ValueError, match=words):
        call(index)
    assert len(index) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 0},
        {"dim": 5000},
        {"dim": -1},
        {"dim": 4, "metric": "manhattan"},
        {"dim": 4, "spec": "HNSW32"},
        {"dim": 4, "spec": ""},
        {"dim": 16, "spec": "IVF4,PQ8x9"},
        {"dim": 4, "seed": -1},
    ],
)
def test_bad_parameters(options):
    with pytest.raises(ValueError):
        saccade.Index(**options)


def test_errors_by_name():
    index = flat(random(3, 4))
    with pytest.raises(saccade.AlreadyExists):
        index.add(random(2, 4), [7, 1])
    assert 7 not in index and len(index) == 3
    with pytest.raises((saccade.AlreadyExists, saccade.InvalidArgument)):
        index.add(random(2, 4), [7, 7])
    with pytest.raises(saccade.NotFound):
        index.reconstruct(3)
    with pytest.raises(saccade.InvalidArgument):
        saccade.Index(4, "l2", "IVF4,PQ2").add(random(3, 4))
    with pytest.raises(saccade.InvalidArgument):
        saccade.Index(4, "l2", "IVF4,PQ2").train(random(3, 4))
    with pytest.raises(saccade.InvalidArgument):
        flat(np.zeros((1, 4), "f4"), "cosine")


def test_a_closed_index_says_so():
    index = flat(random(3, 4))
    index.close()
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.search(random(1, 4))
    assert "closed" in repr(index)


# ---- change, keep, share -------------------------------------------------------------------------------


def test_remove_and_reconstruct(photosift):
    base, _ = photosift
    index = saccade.Index(128, "l2", "IVF16,PQ16")
    index.train(base)
    index.add(base)
    np.testing.assert_array_equal(index.reconstruct(17), base[17])
    assert index.remove_ids(np.arange(0, 10_000, 2)) == 5000
    assert index.remove_ids([0, 1, 20_000]) == 1
    assert len(index) == 4999
    I = index.search(base[:50], 3, exact=True)[1]
    assert np.all(I % 2 == 1) and 1 not in I
    index.add(base[:1], [0])
    assert index.search(base[0], 1, exact=True)[1].tolist() == [[0]]


@pytest.mark.parametrize("spec", ["Flat", "IVF16,PQ16", "OPQ16,IVF16,PQ16x4,Refine(SQfp16)"])
def test_save_and_load(photosift, tmp_path, spec):
    base, queries = photosift
    index = saccade.Index(128, "l2", spec)
    index.train(base[:5000])
    index.add(base[:5000], np.arange(5000) * 3)
    index.measure()
    index.save(tmp_path / "an index")
    loaded = saccade.Index.load(tmp_path / "an index")
    assert loaded.info.spec == index.info.spec and loaded.metric == "l2" and loaded.dim == 128
    assert loaded.recall_curve == index.recall_curve
    for got, want in zip(loaded.search(queries, 10), index.search(queries, 10), strict=True):
        np.testing.assert_array_equal(got, want)
    loaded.add(base[5000:5001])
    assert loaded.ids()[-1] == 3 * 4999 + 1


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "index"
    with pytest.raises(saccade.NotFound):
        saccade.Index.load(path)
    flat(random(100, 8)).save(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1], whole[:-9] + b"\xff" + whole[-8:], b"x" * 4096):
        path.write_bytes(damaged)
        with pytest.raises(saccade.Error):
            saccade.Index.load(path)


def test_the_same_seed_gives_the_same_index(photosift):
    base, queries = photosift
    answers = []
    for _ in range(2):
        index = saccade.Index(128, "l2", "IVF16,PQ8", seed=5)
        index.train(base[:3000])
        index.add(base[:3000])
        answers.append(index.search(queries[:50], 10, nprobe=2, rescore=False))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_array_equal(answers[0][1], answers[1][1])


def test_auto_chooses(photosift):
    base, _ = photosift
    index = saccade.Index(128, "l2")
    index.train(base[:1000], expected=1_000_000)
    assert index.is_trained and index.info.spec != "auto"
    assert "1000" not in repr(index)


def test_info(ivf, photosift):
    info = ivf.info
    assert (info.dim, info.metric, info.count) == (128, "l2", len(photosift[0]))
    assert (info.nlist, info.m, info.nbits) == (64, 32, 8)
    assert info.trained and info.measured and info.list_imbalance >= 1
    assert info.bytes_codes >= 32 * info.count and info.bytes_vectors >= 512 * info.count


def test_progress_is_told_and_can_stop(photosift):
    base, _ = photosift
    seen = []
    index = saccade.Index(128, "l2", "IVF64,PQ32")
    index.train(base, progress=seen.append)
    assert seen and all(p.stage == "train" and 0 <= p.done <= p.total for p in seen)
    index.add(base, progress=seen.append)
    assert {p.stage for p in seen} == {"train", "add"}

    with pytest.raises(saccade.Cancelled):
        saccade.Index(128, "l2", "IVF64,PQ32").train(base, progress=lambda p: False)

    def broken(progress):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        saccade.Index(128, "l2", "IVF64,PQ32").train(base, progress=broken)


def test_threads_search_at_once_beside_a_writer(ivf, photosift):
    base, queries = photosift
    want = ivf.search(queries, 10, recall=0.95)
    index = saccade.Index(128, "l2", "IVF64,PQ32")
    index.train(base)
    index.add(base)
    failures = []
    stop = threading.Event()

    def search():
        try:
            while not stop.is_set():
                D, I = index.search(queries[:64], 10, exact=True)
                assert np.all(I[:, 0] < len(base)) and np.all(np.diff(D, axis=1) >= 0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    far = base[:200] + np.float32(1000)
    for start in range(0, 2000, 200):
        index.add(far, np.arange(200) + 50_000 + start)
        index.remove_ids(np.arange(200) + 50_000 + start)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and len(index) == len(base)
    assert np.array_equal(ivf.search(queries, 10, recall=0.95)[1], want[1])


def asks(queries):
    """Searches of every kind: keyword arguments of each."""
    ids = np.arange(0, 10_000, 3)
    one, some = queries[0], queries[:9]
    return [
        dict(x=one), dict(x=one, k=1), dict(x=one.tolist(), k=3, recall=1), dict(x=one, exact=True),
        dict(x=queries[1:2], k=10, recall=0.99), dict(x=one.astype("f8"), nprobe=2, depth=20),
        dict(x=one, k=40, rescore=False, nprobe=np.int32(1)), dict(x=one, k=100, nprobe=1, score_threshold=-5e4),
        dict(x=one, score_threshold=0.0), dict(x=one, allow=[7, 9]), dict(x=queries[:0]), dict(x=some, k=10),
        dict(x=queries[:1], recall=[0.9], exact=[False], rescore=np.array(True)), dict(x=queries[:70], recall=0.95),
        dict(x=some, k=4, nprobe=np.arange(1, 10), exact=np.arange(9) > 7), dict(x=queries[60:3:-7], k=10),
        dict(x=some, k=10, allow=ids), dict(x=queries[3:5], k=10, allow=[None, ids[:4]]),
        dict(x=some, k=10, score_threshold=np.float32(-3e4)), dict(x=queries[2:4].astype("f8"), k=300, nprobe=1),
    ]  # fmt: skip


def plainly(index, x, k=10, allow=None, **settings):
    """The same search, one query after another through the C API, each with structs of its own."""
    D, I = [np.empty((0, k), "f4")], [np.empty((0, k), "i8")]
    for at, row in enumerate(np.array(x, "f4").reshape(-1, index.dim)):
        hits = (_library.Hit * k)()
        query = _library.Query(vector=row.ctypes.data, k=k, hits=ctypes.addressof(hits), score_threshold=-np.inf)
        for name, value in settings.items():
            value = np.ravel(value)[at if np.ndim(value) else 0].item()
            setattr(query, *(("no_rescore", not value) if name == "rescore" else (name, value)))
        ids = allow[at] if isinstance(allow, list) and np.ndim(allow[-1]) else allow
        if ids is not None:
            ids = np.array(ids, "u8")
            query.allow, query.allow_count = ids.ctypes.data, len(ids)
        _library.check("sac_index_search", index._handle, ctypes.byref(query), 1)
        found = [(h.distance, h.label) for h in hits[: query.hit_count]] + [(np.inf, -1)] * (k - query.hit_count)
        D.append(np.array([[d for d, _ in found]], "f4"))
        I.append(np.array([[label for _, label in found]], "i8"))
    return np.concatenate(D), np.concatenate(I)


@pytest.fixture(scope="module")
def answers(ivf, photosift):
    """[(arguments, answer)]"""
    return [(ask, plainly(ivf, **ask)) for ask in asks(photosift[1])]


def same(got, want):
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(got, want, strict=True))


def test_no_search_leaves_anything_to_the_next(ivf, answers):
    rng = np.random.default_rng(4)
    kept = []
    for i in rng.integers(0, len(answers), 400):
        ask, want = answers[i]
        got = ivf.search(**ask)
        assert same(got, want), ask
        assert all(array.flags.owndata and array.flags.c_contiguous for array in got)
        kept.append((got, want))
        if i % 7 == 0:
            with pytest.raises(ValueError):
                ivf.search(**{**ask, "recall": 2.0})
            with pytest.raises(ValueError):
                ivf.search(ask["x"], 1001)
    assert all(same(got, want) for got, want in kept)  # answers are the caller's: no later search wrote into them


def test_threads_ask_each_for_their_own(ivf, answers):
    failures = []

    def search(seed):
        rng = np.random.default_rng(seed)
        try:
            for i in rng.integers(0, len(answers), 150):
                ask, want = answers[i]
                assert same(ivf.search(**ask), want), ask
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads meet in the middle of everything
    threads = [threading.Thread(target=search, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert not failures


def test_other_threads_run_during_a_call(photosift):
    base, _ = photosift
    ticks = []
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    index = saccade.Index(128, "l2", "IVF64,PQ32", device=saccade.Device(threads=1))
    thread.start()
    start = time.monotonic()
    index.train(base)
    seconds = time.monotonic() - start
    done.set()
    thread.join()
    during = sum(start < t < start + seconds for t in ticks)
    assert during >= 3, f"{during} ticks in {seconds:.3f} s"


def test_devices():
    reference = saccade.Device("ref")
    x = random(300, 40)
    slow = saccade.Index(40, "l2", "Flat", device=reference)
    slow.add(x)
    np.testing.assert_array_equal(slow.search(x, 5)[1], flat(x).search(x, 5)[1])
    assert "ref" in reference.description and saccade.Device(threads=1).threads == 1
    assert reference.memory.budget > 2**28 and reference.memory.used == 0 and not reference.lost
    with pytest.raises(saccade.InvalidArgument):
        saccade.Device("abacus")
    with pytest.raises(saccade.InvalidArgument, match="GPU is required"):
        saccade.Device("cpu", require_gpu=True)
