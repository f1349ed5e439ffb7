"""Photos in, the photo itself out: build, query, resume and refuse, over real files."""

import json
import shutil
import signal
import subprocess
import time

import pytest

from running import environment

COUNT = 240


@pytest.fixture(scope="module")
def built(saccade, photos, tmp_path_factory):
    """A collection of a few hundred photos, by the built-in descriptor."""
    data = tmp_path_factory.mktemp("built") / "photos.sac"
    listing = "\n".join(map(str, photos(COUNT)))
    summary = saccade("build", "--files-from", "-", "--data", data, "--json", input=listing).lines()[0]
    assert summary["stored"] == COUNT and summary["failed"] == 0 and summary["skipped"] == 0
    assert summary["count"] == COUNT and summary["disk_bytes"] > 0
    return data


def test_a_photo_finds_itself_first(saccade, photos, built):
    asked = photos(COUNT)[::20]
    lines = saccade("query", *asked, "-k", "5", "--data", built, "--json").lines()
    for i, photo in enumerate(asked):
        mine = lines[5 * i:5 * i + 5]
        assert [hit["query"] for hit in mine] == [str(photo)] * 5
        assert [hit["rank"] for hit in mine] == [1, 2, 3, 4, 5]
        assert mine[0]["id"] == str(photo)
        assert mine[0]["score"] == pytest.approx(1, abs=1e-4)
        distances = [hit["distance"] for hit in mine]
        assert distances == sorted(distances)


def test_the_table_says_the_same_as_json(saccade, photos, built):
    photo = photos(COUNT)[7]
    rows = saccade("query", photo, "-k", "4", "--data", built).out.splitlines()
    hits = saccade("query", photo, "-k", "4", "--data", built, "--json").lines()
    assert rows[0].split() == ["rank", "score", "distance", "id"]
    assert [row.split(None, 3)[3] for row in rows[1:]] == [hit["id"] for hit in hits]
    assert [int(row.split()[0]) for row in rows[1:]] == [1, 2, 3, 4]


def test_an_id_asks_for_others_like_itself(saccade, photos, built):
    photo = photos(COUNT)[7]
    by_id = saccade("query", "--id", photo, "-k", "3", "--data", built, "--json").lines()
    by_image = saccade("query", photo, "-k", "4", "--data", built, "--json").lines()
    assert [hit["id"] for hit in by_id] == [hit["id"] for hit in by_image[1:]]
    missing = saccade("query", "--id", "nobody", "--id", photo, "--data", built, "--json", code=1)
    assert "nobody" in missing.err and len(missing.lines()) == 10


def test_thresholds_crops_and_standard_input(saccade, photos, built, binary):
    photo = photos(COUNT)[7]
    sure = saccade("query", photo, "--threshold", "0.999", "--data", built, "--json").lines()
    assert [hit["id"] for hit in sure] == [str(photo)]
    cropped = saccade("query", photo, "--crop", "0,0,40,40", "-k", "1", "--data", built, "--json").lines()
    assert len(cropped) == 1
    outside = saccade("query", photo, "--crop", "60000,0,40,40", "--data", built, code=1)
    assert "crop" in outside.err
    with open(photo, "rb") as picture:
        done = subprocess.run([binary, "query", "-", "-k", "1", "--json", "--data", built], stdin=picture,
                              capture_output=True, env=environment())
    assert json.loads(done.stdout)["id"] == str(photo)


def test_one_bad_picture_among_several_does_not_silence_the_others(saccade, photos, built, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture at all")
    photo = photos(COUNT)[0]
    result = saccade("query", broken, photo, "-k", "1", "--data", built, "--json", code=1)
    assert "broken.jpg" in result.err
    assert [hit["id"] for hit in result.lines()] == [str(photo)]


def test_building_again_skips_what_is_there_and_adds_what_is_new(saccade, photos, tmp_path):
    folder, data = tmp_path / "album", tmp_path / "d"
    folder.mkdir()
    few = photos(12)
    for i, photo in enumerate(few[:10]):
        shutil.copy(photo, folder / f"{i}.jpg")
    assert saccade("build", folder, "--data", data, "--json").lines()[0]["stored"] == 10
    again = saccade("build", folder, "--data", data, "--json").lines()[0]
    assert (again["stored"], again["skipped"]) == (0, 10)
    (folder / "below").mkdir()
    shutil.copy(few[10], folder / "below" / "new.jpg")
    shutil.copy(few[11], folder / "3.jpg")  # changed
    more = saccade("build", folder, "--data", data, "--json").lines()[0]
    assert (more["stored"], more["skipped"], more["count"]) == (2, 9, 11)
    hit = saccade("query", few[11], "-k", "1", "--data", data, "--json").lines()[0]
    assert hit["id"] == str(folder / "3.jpg") and hit["score"] > 0.999


def test_another_model_is_refused_by_its_fingerprint(saccade, photos, built, data):
    vit = data("models/vit_tiny_patch16_224")
    for command in (["build", photos(1)[0]], ["query", photos(1)[0]]):
        refused = saccade(*command, "--data", built, "--model", vit, code=1)
        assert "fingerprint" in refused.err and "builtin" in refused.err
    assert saccade("info", "--data", built, "--json").out.count('"collection"') == 1


def test_another_metric_is_refused(saccade, photos, built):
    assert "metric cosine" in saccade("build", photos(1)[0], "--data", built, "--metric", "l2", code=1).err


def test_a_missing_collection_is_named_beside_those_there_are(saccade, photos, built):
    result = saccade("query", photos(1)[0], "--data", built, "--collection", "holidays", code=1)
    assert "holidays" in result.err and "photos" in result.err


def test_info_counts_what_was_built(saccade, built):
    answer = json.loads(saccade("info", "--data", built, "--json").out)
    (collection,) = answer["collections"]
    assert collection["collection"] == "photos" and collection["count"] == COUNT
    assert collection["metric"] == "cosine" and collection["model"] == "builtin"
    assert len(collection["fingerprint"]) == 64
    text = saccade("info", "--data", built).out
    assert f"{COUNT} of {collection['dim']} components, cosine" in text


def test_failed_pictures_are_listed_with_their_reason(saccade, photos, tmp_path):
    folder, data = tmp_path / "album", tmp_path / "d"
    folder.mkdir()
    shutil.copy(photos(1)[0], folder / "good.jpg")
    (folder / "bad.jpg").write_bytes(photos(1)[0].read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture, and not meant to be one")
    result = saccade("build", folder, "--data", data)
    assert "1 picture stored" in result.out and "1 failed" in result.out
    listed = (data / "photos.errors.txt").read_text().splitlines()
    assert len(listed) == 1
    path, reason = listed[0].split("\t")
    assert path == str(folder / "bad.jpg") and len(reason) > 10
    named = tmp_path / "mine.txt"
    saccade("build", folder, "--data", data, "--errors", named)
    assert str(folder / "bad.jpg") in named.read_text()


def test_a_folder_of_broken_pictures_only_is_a_failure(saccade, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    assert "nothing could be stored" in saccade("build", tmp_path / "bad.jpg", "--data", tmp_path / "d", code=1).err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_build_that_can_go_on(saccade, binary, photos, tmp_path, number):
    listing, data = tmp_path / "list", tmp_path / "d"
    listing.write_text("\n".join(map(str, photos(2000))))
    command = ["build", "--files-from", str(listing), "--data", str(data)]
    process = subprocess.Popen([str(binary), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the same command goes on from here" in err and out == ""
    summary = saccade(*command, "--json").lines()[0]
    assert summary["stored"] + summary["skipped"] == 2000 == summary["count"]


def test_two_builds_at_once_do_not_meet(saccade, binary, photos, tmp_path):
    listing, data = tmp_path / "list", tmp_path / "d"
    listing.write_text("\n".join(map(str, photos(2000))))
    saccade("build", photos(1)[0], "--data", data)
    first = subprocess.Popen([str(binary), "build", "--files-from", str(listing), "--data", str(data), "--quiet"],
                             stdout=subprocess.DEVNULL, env=environment())
    time.sleep(0.3)
    second = saccade("build", photos(1)[0], "--data", data, code=None)
    assert first.poll() is None, "the first build was over too soon for this test"
    assert second.code == 1 and str(data) in second.err
    reader = saccade("query", photos(1)[0], "-k", "1", "--data", data, "--json")
    assert reader.lines()[0]["score"] > 0.999
    first.send_signal(signal.SIGINT)
    first.wait(20)


def test_a_server_answers_as_the_files_do(saccade, serving, photos, built, tmp_path):
    photo = photos(COUNT)[3]
    here = saccade("query", photo, "-k", "5", "--data", built, "--json").lines()
    home = tmp_path / "run"
    home.mkdir(mode=0o700)
    with serving(built, "--socket", home / "s") as server:
        for address in (server.address, f"unix:{home / 's'}"):
            there = saccade("query", photo, "-k", "5", "--connect", address, "--json").lines()
            assert there == here
        by_id = saccade("query", "--id", photo, "-k", "4", "--connect", server.address, "--json").lines()
        assert [hit["id"] for hit in by_id] == [hit["id"] for hit in here[1:]]
        threshold = saccade("query", photo, "--threshold", "0.999", "--connect", server.address, "--json").lines()
        assert len(threshold) == 1
        bad = saccade("query", "--id", "nobody", "--connect", server.address, code=1)
        assert "nobody" in bad.err
        bad = saccade("query", photo, "--collection", "holidays", "--connect", server.address, code=1)
        assert "holidays" in bad.err
        answer = json.loads(saccade("info", "--connect", server.address, "--json").out)
        assert answer["version"] and answer["collections"][0]["count"] == COUNT
        assert "photos" in saccade("info", "--connect", server.address).out
        busy = saccade("serve", "--data", built, "--listen", "127.0.0.1:0", "--http", "off", code=1)
        assert str(built) in busy.err
    assert server.process.returncode == 0
