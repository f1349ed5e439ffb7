"""Vector files in, exact neighbours out, against stored ground truth."""

import json

import numpy as np
import pytest


def hits_of(result, queries, k):
    ids = [hit["id"] for hit in result.lines()]
    assert len(ids) == queries * k
    return np.array(ids).reshape(queries, k)


def recall(found, truth):
    k = found.shape[1]
    return np.mean([len(set(row) & set(want[:k])) / k for row, want in zip(found, truth)])


@pytest.fixture(scope="module")
def sift(saccade, data, tmp_path_factory):
    """sift5k under an IVF index."""
    folder = tmp_path_factory.mktemp("sift") / "sift.sac"
    summary = saccade("build", data("vectors/sift5k_base.fvecs"), "--data", folder, "--collection", "sift",
                      "--index", "IVF32,PQ32", "--json").lines()[0]
    assert summary["stored"] == 4800 and summary["index"].startswith("IVF32,PQ32")
    return folder


def ask(saccade, data, folder, *options, k=10):
    return saccade("query", "--vector", data("vectors/sift5k_query.fvecs"), "-k", k, "--data", folder,
                   "--collection", "sift", "--json", *options)


def test_exact_search_equals_the_ground_truth(saccade, data, vectors, sift):
    found = hits_of(ask(saccade, data, sift, "--exact", k=100), 200, 100)
    assert np.array_equal(found, vectors("sift5k_groundtruth.ivecs")[:, :100])


def test_all_lists_miss_only_what_the_codes_hide(saccade, data, vectors, sift):
    found = hits_of(ask(saccade, data, sift, "--nprobe", "32"), 200, 10)
    assert recall(found, vectors("sift5k_groundtruth.ivecs")) >= 0.99


def test_recall_asked_for_is_recall_given(saccade, data, vectors, sift):
    truth = vectors("sift5k_groundtruth.ivecs")
    assert recall(hits_of(ask(saccade, data, sift, "--recall", "0.99"), 200, 10), truth) >= 0.98
    assert recall(hits_of(ask(saccade, data, sift, "--recall", "0.9"), 200, 10), truth) >= 0.88


def test_one_row_asks_alone(saccade, data, vectors, sift):
    name = f"{data('vectors/sift5k_query.fvecs')}:17"
    lines = saccade("query", "--vector", name, "--exact", "-k", "3", "--data", sift, "--collection", "sift",
                    "--json").lines()
    assert [hit["id"] for hit in lines] == vectors("sift5k_groundtruth.ivecs")[17, :3].tolist()
    assert lines[0]["query"] == name
    beyond = saccade("query", "--vector", name + "999", "--data", sift, "--collection", "sift", code=1)
    assert "200 rows" in beyond.err


def test_a_server_answers_vectors_as_the_files_do(saccade, serving, data, sift):
    here = ask(saccade, data, sift, "--exact").lines()
    with serving(sift) as server:
        there = saccade("query", "--vector", data("vectors/sift5k_query.fvecs"), "--collection", "sift", "--exact",
                        "--connect", server.address, "--json").lines()
    assert [(hit["query"], hit["id"]) for hit in there] == [(hit["query"], hit["id"]) for hit in here]


def test_info_shows_the_curve(saccade, sift):
    (collection,) = json.loads(saccade("info", "--data", sift, "--json").out)["collections"]
    assert collection["nlist"] == 32 and collection["model"] == ""
    recalls = [point["recall"] for point in collection["recall"]]
    assert recalls == sorted(recalls) and recalls[-1] > 0.95
    assert "recall@10" in saccade("info", "--data", sift).out


def test_pictures_and_vectors_do_not_mix(saccade, photos, data, sift, tmp_path):
    refused = saccade("query", photos(1)[0], "--data", sift, "--collection", "sift", code=1)
    assert "--vector or --id" in refused.err
    assert "vectors" in saccade("build", photos(1)[0], "--data", sift, "--collection", "sift", code=1).err
    saccade("build", photos(1)[0], "--data", tmp_path / "d")
    base = data("vectors/sift5k_base.fvecs")
    assert "unknown origin" in saccade("build", base, "--data", tmp_path / "d", code=1).err


def test_rows_resume_are_replaced_and_refused_one_by_one(saccade, tmp_path):
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((500, 24)).astype("f4")
    np.save(tmp_path / "rows.npy", rows)
    build = ["build", tmp_path / "rows.npy", "--data", tmp_path / "d", "--metric", "cosine", "--id-base", "1000",
             "--json"]
    assert saccade(*build).lines()[0]["stored"] == 500
    assert saccade(*build).lines()[0]["skipped"] == 500
    rows[3] *= -1
    rows[9] = 0  # has no direction
    rows[11, 2] = np.nan
    np.save(tmp_path / "rows.npy", rows)
    summary = saccade(*build).lines()[0]
    assert (summary["stored"], summary["skipped"], summary["failed"]) == (1, 497, 2)
    listed = (tmp_path / "d" / "photos.errors.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [f"{tmp_path}/rows.npy:{row}" for row in (9, 11)]
    np.save(tmp_path / "query.npy", rows[3:4])
    hit = saccade("query", "--vector", tmp_path / "query.npy", "-k", "1", "--data", tmp_path / "d", "--json").lines()
    assert hit[0]["id"] == 1003 and hit[0]["score"] > 0.9999


def test_several_files_are_numbered_through(saccade, tmp_path):
    rows = np.arange(40, dtype="f4").reshape(10, 4)
    np.save(tmp_path / "a.npy", rows[:6])
    np.save(tmp_path / "b.npy", rows[6:])
    summary = saccade("build", tmp_path / "a.npy", tmp_path / "b.npy", "--data", tmp_path / "d", "--json").lines()[0]
    assert summary["count"] == 10
    hit = saccade("query", "--id", "9", "-k", "1", "--data", tmp_path / "d", "--json").lines()[0]
    assert hit["id"] == 8 and hit["distance"] == 64
    np.save(tmp_path / "c.npy", np.ones((3, 5), "f4"))
    assert "5 components" in saccade("build", tmp_path / "c.npy", "--data", tmp_path / "d", code=1).err


@pytest.mark.parametrize("name, content", [
    ("cut.fvecs", b"\x04\0\0\0" + b"\0" * 15),
    ("huge.fvecs", b"\xff\xff\xff\x7f" + b"\0" * 100),
    ("empty.fvecs", b""),
    ("lying.fbin", b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    ("text.npy", b"hello"),
    ("pickle.npy", b"\x93NUMPY\x01\x00\x46\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,), }" + b" " * 14),
])
def test_files_that_are_none_are_refused(saccade, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert name in saccade("build", tmp_path / name, "--data", tmp_path / "d", code=1, timeout=5).err
