"""The command as a tool: help, mistakes, exit codes, what goes to which stream, behaviour in pipes."""

import json
import os
import re
import subprocess

import numpy as np
import pytest

from running import environment

COMMANDS = ["build", "query", "serve", "embed", "info", "plan", "tune"]


def test_help_of_the_whole_names_every_command(saccade):
    result = saccade("--help")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", result.out, re.M)
    assert result.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_examples_before_options(saccade, name):
    result = saccade(name, "--help")
    assert result.err == ""
    assert f"  saccade {name}" in result.out
    assert result.out.index(f"\n  saccade {name}") < result.out.index("\noptions:\n")
    assert max(map(len, result.out.splitlines())) <= 110
    assert saccade(name, "-h").out == result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_documents_every_environment_variable_it_reads(saccade, name):
    text = saccade(name, "--help").out
    options = re.findall(r"^  (?:-\w, |    )--([a-z-]+)", text, re.M)
    variables = re.findall(r"^  (SACCADE_[A-Z]+__[A-Z_]+) +--([a-z-]+)$", text, re.M)
    assert {option for _, option in variables} <= set(options)
    assert len(variables) > 0


def test_version(saccade):
    assert re.fullmatch(r"saccade \d+\.\d+\.\d+\n", saccade("--version").out)


@pytest.mark.parametrize("arguments, said", [
    ([], "no command"),
    (["biuld"], "is build meant?"),
    (["--verion"], "no option"),
    (["build"], "nothing to take in"),
    (["build", "--colection", "x", "."], "is --collection meant?"),
    (["build", ".", "--threads", "many"], "a whole number from 0 to 1024"),
    (["build", ".", "--data"], "needs a value"),
    (["build", ".", "--metric", "manhattan"], "one of l2, ip, cosine"),
    (["query"], "nothing to ask"),
    (["query", "x.jpg", "-k", "0"], "from 1 to 999"),
    (["query", "x.jpg", "--crop", "1,2,3"], "not X,Y,W,H"),
    (["query", "x.jpg", "--crop", "1,2,0,3"], "not X,Y,W,H"),
    (["query", "x.jpg", "--exact", "--recall", "0.9"], "give one"),
    (["query", "x.jpg", "--data", "a", "--connect", "b:1"], "give one"),
    (["query", "--id", "7", "--crop", "1,2,3,4"], "--crop goes with a picture"),
    (["embed"], "no picture"),
    (["serve", "--listen", "7700"], "not HOST:PORT"),
    (["serve", "--listen", "127.0.0.1:77777"], "not HOST:PORT"),
    (["serve", "extra"], "too much"),
    (["info", "extra"], "too much"),
])
def test_wrong_usage_is_2_and_says_what_is_wrong(saccade, arguments, said):
    result = saccade(*arguments, code=2)
    assert said in result.err
    assert "--help" in result.err
    assert result.out == ""


@pytest.mark.parametrize("arguments, said", [
    (["build", "/no/such/folder"], "/no/such/folder"),
    (["build", "--files-from", "/no/such/list"], "/no/such/list"),
    (["query", "x.jpg"], "photos.sac"),
    (["query", "x.jpg", "--connect", "127.0.0.1:1"], "no server at 127.0.0.1:1"),
    (["query", "x.jpg", "--connect", "unix:/no/such/socket"], "no server at unix:/no/such/socket"),
    (["query", "x.jpg", "--connect", "nonsense"], "no address"),
    (["info", "--data", "/no/such/data"], "/no/such/data"),
    (["info", "--connect", "127.0.0.1:1"], "no server"),
    (["embed", "/no/such.jpg", "-o", "out.npy"], "/no/such.jpg"),
    (["embed", "x.jpg", "-o", "/no/such/folder/out.npy"], "/no/such/folder/out.npy"),
    (["info", "--device", "gpu"], 'device "gpu" is unknown'),
    (["info", "--device", "cpu,ref"], "of one kind"),
    (["info", "--device", "cpu", "--require-gpu"], "a GPU is required"),
    (["serve", "--data", "d", "--listen", "192.0.2.1:7700", "--http", "off"], "192.0.2.1"),
])
def test_failures_are_1_and_name_what_failed(saccade, tmp_path, arguments, said):
    result = saccade(*arguments, code=1, cwd=tmp_path)
    assert said in result.err
    assert result.out == ""


def test_pictures_and_vectors_are_not_built_together(saccade, tmp_path):
    (tmp_path / "a.fvecs").touch()
    (tmp_path / "b.jpg").touch()
    assert "build them apart" in saccade("build", "a.fvecs", "b.jpg", code=1, cwd=tmp_path).err
    assert not (tmp_path / "photos.sac").exists()


def test_the_environment_stands_in_for_options_and_loses_against_them(saccade, tmp_path):
    env = {"SACCADE_STORE__DATA": "/no/such/data"}
    assert "/no/such/data" in saccade("query", "--id", "1", code=1, env=env).err
    assert "/another" in saccade("query", "--id", "1", "--data", "/another", code=1, env=env).err
    bad = saccade("query", "--id", "1", code=2, env={"SACCADE_DEVICE__THREADS": "some"})
    assert "SACCADE_DEVICE__THREADS" in bad.err


def test_info_without_data_tells_about_the_program(saccade, tmp_path):
    text = saccade("info", cwd=tmp_path).out
    assert text.startswith("saccade ") and "device" in text and "jpeg" in text
    answer = json.loads(saccade("info", "--json", cwd=tmp_path).out)
    assert {"version", "device", "image_formats"} <= answer.keys()


def test_without_a_gpu_the_reason_is_told(saccade, tmp_path):
    env = {"SACCADE_CUDA__MODULE": "/no/such/module.so"}
    assert "no GPU: the CUDA module does not load: /no/such/module.so" in saccade("info", env=env, cwd=tmp_path).out
    for more in ({"SACCADE_DEVICE__REQUIRE_GPU": "1"}, {"SACCADE_DEVICE__NAME": "cuda:0"}):
        assert "/no/such/module.so" in saccade("info", code=1, env=env | more, cwd=tmp_path).err


def test_a_full_disk_under_stdout_is_a_failure(binary, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([binary, "--help"], stdout=full, stderr=subprocess.PIPE, env=environment())
    assert done.returncode == 1
    assert b"writing the answer" in done.stderr


def test_a_reader_that_leaves_early_is_no_accident(binary):
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([binary, "build", "--help"], stdout=write_end, stderr=subprocess.PIPE, env=environment())
    os.close(write_end)
    assert done.stderr == b"" or b"writing the answer" in done.stderr


def test_closed_standard_streams_do_not_end_up_in_our_files(binary, photos, tmp_path):
    script = '"$@" <&- >&- 2>&-'
    build = [str(binary), "build", str(photos(3)[0]), "--data", str(tmp_path / "d")]
    assert subprocess.run(["sh", "-c", script, "sh", *build], env=environment()).returncode == 0
    for path in (tmp_path / "d").rglob("*"):
        if path.is_file():
            assert b"stored" not in path.read_bytes()


def test_a_progress_bar_is_for_terminals_only(binary, photos, tmp_path, terminal):
    command = [str(binary), "build", *map(str, photos(20)), "--data"]
    plain = subprocess.run([*command, str(tmp_path / "a")], capture_output=True, env=environment())
    assert plain.returncode == 0
    assert b"\r" not in plain.stderr and b"\x1b" not in plain.stderr
    assert b"embed" in plain.stderr
    master, slave = terminal
    process = subprocess.Popen([*command, str(tmp_path / "b")], stdout=subprocess.DEVNULL, stderr=slave,
                               env=environment())
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(60) == 0
    assert b"\rembed" in shown and b"100%" in shown and b"[====" in shown
    quiet = subprocess.run([*command, str(tmp_path / "c"), "--quiet"], capture_output=True, env=environment())
    assert quiet.returncode == 0 and quiet.stderr == b""


def test_embed_writes_rows_names_and_explains_gaps(saccade, photos, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff but not for long")
    first, second = photos(2)
    result = saccade("embed", first, broken, second, "-o", "out.npy", code=1, cwd=tmp_path)
    assert str(broken) in result.err
    rows = np.load(tmp_path / "out.npy")
    assert rows.dtype == np.float32 and rows.shape[0] == 2
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert (tmp_path / "out.txt").read_text().split() == [str(first), str(second)]
    assert not list(tmp_path.glob("*.part"))


def test_embed_walks_folders_where_they_are_named(saccade, photos, tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for i, photo in enumerate(photos(3)):
        (folder / f"{i}.jpg").write_bytes(photo.read_bytes())
    saccade("embed", photos(3)[2], folder, "-o", "out.npy", cwd=tmp_path)
    names = (tmp_path / "out.txt").read_text().splitlines()
    assert names == [str(photos(3)[2]), *(str(folder / f"{i}.jpg") for i in range(3))]
    rows = np.load(tmp_path / "out.npy")
    assert np.array_equal(rows[0], rows[3])


def test_embed_goes_to_a_pipe_and_not_to_a_terminal(binary, photos, tmp_path, terminal):
    done = subprocess.run([binary, "embed", *photos(3)], capture_output=True, env=environment())
    assert done.returncode == 0 and done.stderr == b""
    (tmp_path / "piped.npy").write_bytes(done.stdout)
    assert np.load(tmp_path / "piped.npy").shape[0] == 3
    _, slave = terminal
    done = subprocess.run([binary, "embed", *photos(1)], stdout=slave, stderr=subprocess.PIPE, env=environment())
    os.close(slave)
    assert done.returncode == 2 and b"terminal" in done.stderr
