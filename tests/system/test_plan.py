"""saccade plan: the memory an index will need, against what one takes."""

import json

import numpy as np
import pytest


def plan(saccade, *arguments):
    return json.loads(saccade("plan", "--json", *arguments).out)


def test_a_plan_reads_like_a_bill(saccade):
    result = saccade("plan", "--vectors", "1M", "--dim", "96", "--memory", "100G")
    assert "1,000,000 vectors of 96 components, IVF2000,PQ24" in result.out
    assert "It fits: --memory has 100 GiB." in result.out
    assert result.err == ""


def test_what_does_not_fit_is_refused_with_what_is_missing_and_what_would_fit(saccade):
    result = saccade("plan", "--vectors", "100M", "--dim", "512", "--memory", "80G", code=1)
    assert "GiB are missing: it fits with --index IVF20000,PQ128,Refine(SQ8)" in result.err


def test_the_device_at_hand_is_the_measure_where_none_is_named(saccade):
    answer = plan(saccade, "--vectors", "1000", "--dim", "8", "--device", "cpu")
    assert answer["fits"] and answer["bytes_budget"] > 1 << 28


@pytest.mark.parametrize("arguments, said", [
    ([], "how many, and how long"),
    (["--vectors", "10M"], "how many, and how long"),
    (["--vectors", "many", "--dim", "8"], "is no count"),
    (["--vectors", "1M", "--dim", "8", "--index", "PQ9"], "PQ9"),
    (["--vectors", "10G", "--dim", "8"], "at most 4294967294 vectors"),
])
def test_mistakes_are_explained(saccade, arguments, said):
    result = saccade("plan", *arguments, code=None)
    assert result.code in (1, 2)
    assert said in result.err


@pytest.mark.parametrize("spec", ["Flat", "IVF64,PQ8", "IVF200,PQ16x4,Refine(SQfp16)", "IVF100,PQ8,Refine(SQ8)"])
def test_an_index_takes_what_its_plan_said(saccade, spec):
    from saccade import Index

    rows = np.random.default_rng(3).normal(size=(60_000, 32)).astype(np.float32)
    index = Index(32, "l2", spec)
    if spec != "Flat":
        index.train(rows)
    index.add(rows)
    info, answer = index.info, plan(saccade, "--vectors", "60k", "--dim", "32", "--index", spec, "--memory", "1G")
    assert answer["bytes_vectors"] == pytest.approx(info.bytes_vectors, rel=0.1, abs=1 << 21)
    assert answer["bytes_codes"] == pytest.approx(info.bytes_codes, rel=0.15, abs=1 << 20)
    assert answer["bytes_other"] + answer["bytes_host"] == pytest.approx(info.bytes_other, rel=0.5, abs=1 << 17)
