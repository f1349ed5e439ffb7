"""saccade tune: which index for a recall or a latency, over files and collections."""

import json

import numpy as np
import pytest

FIELDS = {"index", "recall", "recall_error", "reaches", "verified", "extrapolated", "rows", "nprobe", "depth", "ask",
          "queries_per_second", "seconds_mean", "seconds_p50", "seconds_p99", "batch_queries_per_second", "bytes",
          "build_seconds"}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """3,000 vectors around 50 centres."""
    random = np.random.default_rng(5)
    rows = random.normal(size=(50, 24))[np.arange(3000) % 50] * 3 + random.normal(size=(3000, 24))
    path = tmp_path_factory.mktemp("tune") / "base.npy"
    np.save(path, rows.astype(np.float32))
    return path


def tune(saccade, *arguments, code=0):
    return json.loads(saccade("tune", *arguments, "--json", "--quiet", "--seconds", 0.5, code=code).out)


def test_what_is_chosen_can_be_built_and_asked(saccade, base, tmp_path):
    answer = tune(saccade, base, "--recall", "0.9")
    best = answer["chosen"]
    assert answer["count"] == 3000 and answer["dim"] == 24 and answer["metric"] == "l2" and answer["held_back"]
    assert answer["goal"] == {"recall": 0.9, "latency": None, "memory": None, "k": 10}
    assert answer["reached"] and best == answer["tried"][0]
    assert all(set(tried) == FIELDS for tried in answer["tried"]) and answer["uncertain"]
    assert best["recall"] + 2 * best["recall_error"] >= 0.9

    folder = tmp_path / "v.sac"
    saccade("build", base, "--data", folder, "--metric", "l2", "--index", best["index"])
    how = ["--nprobe", best["nprobe"], "--depth", best["depth"]] if best["nprobe"] else []
    how = ["--recall", best["ask"]] if best["ask"] else how
    hits = saccade("query", "--vector", f"{base}:7", "--data", folder, "--json", *how).lines()
    assert hits[0]["id"] == 7


def test_people_read_a_table_a_choice_and_what_to_type_next(saccade, base):
    result = saccade("tune", base, "--queries", base, "--recall", "0.9", "--seconds", "0.5")
    assert result.out.startswith("3,000 vectors of 24 components, l2; 2,000 queries; ")
    for said in ["recall@10", "\n* ", "\nchosen: ", "\nnext:\n  saccade build ", "saccade query --vector FILE ",
                 "what is uncertain:"]:
        assert said in result.out
    assert "lists " in result.err  # where it stood


def test_a_collection_is_tuned_as_it_is(saccade, base, tmp_path):
    folder = tmp_path / "c.sac"
    saccade("build", base, "--data", folder, "--collection", "c", "--metric", "cosine", "--no-index")
    answer = tune(saccade, "--data", folder, "--collection", "c", "-k", 5)
    assert answer["from"] == "c" and answer["metric"] == "cosine" and answer["count"] == 3000
    assert answer["goal"]["recall"] == 0.95 and answer["goal"]["k"] == 5 and answer["reached"]


def test_a_goal_out_of_reach_says_what_came_nearest_and_fails(saccade, base):
    answer = tune(saccade, base, "--latency", "0.001us", code=1)
    assert not answer["reached"] and answer["goal"]["recall"] is None
    result = saccade("tune", base, "--latency", "0.001us", "--recall", "1", "--seconds", "0.5", code=1)
    assert "nothing reaches recall 1 within" in result.err and "exact search (Flat)" in result.err
    assert "nearest to the goal: " in result.out and "next:" not in result.out


def test_a_latency_in_reach_is_kept(saccade, base):
    answer = tune(saccade, base, "--latency", "1s", "--memory", "100M")
    assert answer["goal"]["latency"] == 1 and answer["reached"] and answer["chosen"]["seconds_p99"] < 1
    assert answer["chosen"]["recall"] >= 0.99


@pytest.mark.parametrize("arguments, code, said", [
    (["--latency", "fast"], 2, "is no time, such as 500us or 2ms"),
    (["--latency", "0ms"], 2, "is no time"),
    (["--recall", "1.5"], 2, "from 0.01 to 1"),
    (["--data", "x"], 2, "give one"),
    (["other.fvecs"], 2, "one file at a time"),
    (["--memory", "1K"], 1, "the smallest, "),
    (["--queries", "no/such.fvecs"], 1, "no/such.fvecs"),
])  # fmt: skip
def test_mistakes_are_explained(saccade, base, arguments, code, said):
    result = saccade("tune", base, *arguments, "--quiet", code=code)
    assert said in result.err and result.out == ""


def test_vectors_that_cannot_be_tuned_with_are_refused(saccade, base, tmp_path):
    rows = np.load(base)
    np.save(tmp_path / "few.npy", rows[:50])
    np.save(tmp_path / "short.npy", rows[:200, :8])
    rows[17, 3] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    assert "50 vectors" in saccade("tune", tmp_path / "few.npy", "-q", code=1).err
    assert "vector 17 has a component that is not a finite" in saccade("tune", tmp_path / "nan.npy", "-q", code=1).err
    assert "8 components" in saccade("tune", base, "--queries", tmp_path / "short.npy", "-q", code=1).err
    assert "no/such.npy" in saccade("tune", "no/such.npy", "-q", code=1).err
    assert "--metric goes with a vector file" in saccade("tune", "--metric", "ip", code=2).err


def test_a_setting_finds_the_same_here_and_on_a_server(saccade, serving, base, tmp_path):
    folder = tmp_path / "s.sac"
    saccade("build", base, "--data", folder, "--index", "IVF32,PQ2x4")
    ask = ["query", "--vector", f"{base}:7", "--json", "-k", 7, "--nprobe", 6]
    here = [saccade(*ask, "--depth", depth, "--data", folder).lines() for depth in (7, 33, 400)]
    assert here[0] != here[2]  # such short codes need candidates
    with serving(folder) as server:
        assert [saccade(*ask, "--depth", depth, "--connect", server.address).lines() for depth in (7, 33, 400)] == here
