"""saccade plan: the memory an index will need, against what one takes."""

import json

import numpy as np
import pytest


def plan(saccade, *arguments):
    return json.loads(saccade("plan", "--json", *arguments).out)


def test_a_plan_reads_like_a_bill(saccade):
    result = saccade("plan", "--vectors", "1M", "--dim", "96", "--memory", "100G")
    assert "1,000,000 vectors of 96 components, IVF4000,PQ24" in result.out
    assert "It fits: --memory has 100 GiB." in result.out
    assert result.err == ""


def test_what_does_not_fit_is_refused_with_what_is_missing_and_what_would_fit(saccade):
    result = saccade("plan", "--vectors", "100M", "--dim", "512", "--memory", "80G", code=1)
    assert "GiB are missing: it fits with --index IVF40000,PQ128,Refine(SQ8)" in result.err


def test_the_device_at_hand_is_the_measure_where_none_is_named(saccade):
    answer = plan(saccade, "--vectors", "1000", "--dim", "8", "--device", "cpu")
    assert answer["fits"] and answer["bytes_budget"] > 1 << 28


FIXTURES = "tests/fixtures/encoder"


def test_encoders_are_planned_alone_and_beside_each_other(saccade):
    one = plan(saccade, "--model", f"{FIXTURES}/timm", "--memory", "1G", "--batch", "16")
    two = plan(saccade, "--model", f"{FIXTURES}/timm", "--model", f"{FIXTURES}/clip_laion", "--memory", "1G", "--batch", "16")
    assert [e["model"] for e in two["encoders"]] == ["vit_test_patch7_28", "clip_laion"]
    assert one["encoders"] == two["encoders"][:1] and one["encoders"][0]["pass"] == 16
    assert two["bytes_device"] > one["bytes_device"] > one["encoders"][0]["bytes_weights"]
    text = saccade("plan", "--model", f"{FIXTURES}/timm", "--memory", "1G", "--batch", "1").out
    assert "2 passes of 1 picture " in text and "It fits: --memory has 1.0 GiB." in text


def test_an_index_of_an_encoder_s_vectors_has_their_length(saccade):
    encoder = plan(saccade, "--model", f"{FIXTURES}/timm", "--memory", "1G")
    both = plan(saccade, "--model", f"{FIXTURES}/timm", "--vectors", "100k", "--memory", "1G")
    index = plan(saccade, "--vectors", "100k", "--dim", str(both["dim"]), "--memory", "1G")
    assert both["dim"] == encoder["encoders"][0]["dim"]
    assert both["bytes_device"] == encoder["bytes_device"] + index["bytes_device"]
    assert "vectors" not in encoder


def test_encoders_that_do_not_fit_are_refused_with_what_is_missing(saccade):
    result = saccade("plan", "--model", f"{FIXTURES}/timm", "--memory", "1M", code=1)
    assert "MiB are missing: use a smaller --batch" in result.err


@pytest.mark.parametrize("arguments, said", [
    ([], "how many, and how long"),
    (["--dim", "8"], "how many, and how long"),
    (["--model", "no/such/folder"], "no/such/folder"),
    (["--model", f"{FIXTURES}/timm", "--vectors", "1M", "--dim", "7"], "components, not 7: leave --dim out"),
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
    index.add(rows, ids=3 * np.arange(60_000))  # ids that are not consecutive are stored
    index.remove_ids([3])  # and an index that forgets keeps where everything is
    info, answer = index.info, plan(saccade, "--vectors", "60k", "--dim", "32", "--index", spec, "--memory", "1G")
    assert answer["bytes_vectors"] == pytest.approx(info.bytes_vectors, rel=0.1, abs=1 << 21)
    assert answer["bytes_codes"] == pytest.approx(info.bytes_codes, rel=0.15, abs=1 << 20)
    assert answer["bytes_other"] + answer["bytes_host"] == pytest.approx(info.bytes_other, rel=0.5, abs=1 << 17)
