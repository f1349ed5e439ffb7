"""The installed tree serves programs that know nothing of this checkout: headers, library, pkg-config file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
#include <saccade/saccade.h>
#include <stdio.h>

int main(void)
{
    sac_metric metric;
    sac_error error;

    if (sac_metric_parse("angular", &metric, &error) != SAC_OK || metric != SAC_METRIC_COSINE)
        return 1;
    if (sac_metric_parse("manhattan", &metric, &error) != SAC_INVALID_ARGUMENT || error.text[0] == 0)
        return 2;
    printf("%s %s\\n", sac_version(), sac_status_name(error.status));
    return 0;
}
"""

COMPILERS = {
    "c": (["cc", "-std=c11"], "c"),
    "c++": (["c++", "-std=c++11"], "c++"),
}


def need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}")


@pytest.fixture(scope="module")
def installed(binary, tmp_path_factory) -> Path:
    """What `cmake --install` makes of the build that is tested."""
    need("cmake")
    prefix = tmp_path_factory.mktemp("installed")
    command = ["cmake", "--install", str(binary.resolve().parent), "--prefix", str(prefix)]
    subprocess.run(command, check=True, capture_output=True)
    return prefix


def pkg_config(installed: Path, *arguments: str) -> list[str]:
    need("pkg-config")
    found = next(installed.rglob("saccade.pc"))
    env = dict(os.environ, PKG_CONFIG_PATH=str(found.parent))
    run = subprocess.run(["pkg-config", *arguments, "saccade"], env=env, check=True, capture_output=True, text=True)
    return run.stdout.split()


@pytest.mark.parametrize("language", COMPILERS)
def test_a_program_finds_all_it_needs_by_pkg_config(installed, tmp_path, language):
    compiler, kind = COMPILERS[language]
    need(compiler[0])
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    program = tmp_path / "program"
    flags = pkg_config(installed, "--cflags", "--libs")
    subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", "-x", kind, str(source), "-o", str(program), *flags],
                   check=True)
    library = next(installed.rglob("libsaccade.so")).parent
    run = subprocess.run([str(program)], env=dict(os.environ, LD_LIBRARY_PATH=str(library)), capture_output=True,
                         text=True, check=True)
    version, status = run.stdout.split()
    assert version == pkg_config(installed, "--modversion")[0]
    assert status == "INVALID_ARGUMENT"


@pytest.mark.parametrize("header", ["saccade.h", "status.h", "device.h"])
@pytest.mark.parametrize("language", COMPILERS)
def test_each_public_header_compiles_alone(installed, tmp_path, header, language):
    compiler, kind = COMPILERS[language]
    need(compiler[0])
    source = tmp_path / "alone.c"
    source.write_text(f"#include <saccade/{header}>\n")
    subprocess.run([*compiler, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", kind, str(source),
                    *pkg_config(installed, "--cflags")], check=True)


def test_the_binary_is_installed_and_needs_nothing_of_the_checkout(installed):
    run = subprocess.run([str(installed / "bin" / "saccade"), "--version"], cwd="/", check=True, capture_output=True,
                         text=True)
    assert run.stdout.startswith("saccade ")


def test_the_library_shows_only_its_public_names(installed):
    need("nm")
    library = next(installed.rglob("libsaccade.so"))
    run = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True)
    names = [line.split()[-1] for line in run.stdout.splitlines()]
    assert "sac_index_search" in names
    assert [name for name in names if not name.startswith("sac_")] == []
