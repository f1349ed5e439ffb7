"""saccade.tune: what it finds can be built and asked, and what it refuses."""

import numpy as np
import pytest

import saccade

pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture(scope="module")
def base():
    random = np.random.default_rng(3)
    return (random.normal(size=(60, 20))[np.arange(4000) % 60] * 3 + random.normal(size=(4000, 20))).astype("f4")


def test_what_is_found_reaches_the_recall(base):
    found = saccade.tune(base[:3500], recall=0.9, seconds=1)
    best = found.best
    assert best == found.tried[0] and best.reaches and found.held_back and found.query_count == 350
    index = saccade.Index(20, "l2", best.spec)
    index.train(base[:3500])
    index.add(base[:3500])
    index.measure()
    _, got = index.search(base[3500:], 10, **best.search)
    _, true = index.search(base[3500:], 10, exact=True)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(got, true)]) >= 0.86


def test_goals_bounds_and_queries_are_passed_on(base):
    found = saccade.tune(base, latency=1.0, queries=base[:50] + 0.1, k=3, metric="ip", memory=10**6, count=5000, seconds=0.5)
    assert not found.held_back and found.query_count == 50 and found.best.reaches
    assert all(t.bytes <= 10**6 and t.extrapolated for t in found.tried)
    assert not saccade.tune(base, latency=1e-9, seconds=0.3).best.reaches


def test_progress_is_told_and_stops_it(base):
    stages = []
    saccade.tune(base, seconds=0.5, progress=lambda p: stages.append(p.stage))
    assert {"truth", "lists"} <= set(stages)
    with pytest.raises(saccade.Cancelled):
        saccade.tune(base, progress=lambda p: False)


@pytest.mark.parametrize("x, options, error", [
    (np.zeros((50, 4)), {}, saccade.InvalidArgument),
    (np.full((200, 4), np.nan), {}, saccade.InvalidArgument),
    (np.ones((200, 4)), {"memory": 10}, saccade.InvalidArgument),
    (np.ones((200, 4)), {"recall": 2}, saccade.InvalidArgument),
    (np.ones((200, 4)), {"count": 100}, saccade.InvalidArgument),
    (np.ones((200, 4)), {"queries": np.ones((3, 5))}, ValueError),
    (np.ones(200), {}, ValueError),
    (np.ones((200, 4)), {"k": -1}, ValueError),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(x, options, error):
    with pytest.raises(error):
        saccade.tune(x, **options)
