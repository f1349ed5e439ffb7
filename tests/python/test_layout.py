"""The structs that ctypes knows are those of the header, and every function it names is in the library."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest

from needs import ROOT
from saccade import _library

STRUCTS = {
    "sac_error": _library.Failure,
    "sac_device_options": _library.DeviceOptions,
    "sac_device_memory": _library.DeviceMemory,
    "sac_progress": _library.Progress,
    "sac_image_limits": _library.ImageLimits,
    "sac_image": _library.Image,
    "sac_crop": _library.Crop,
    "sac_encoder_options": _library.EncoderOptions,
    "sac_index_params": _library.IndexParams,
    "sac_recall_point": _library.RecallPoint,
    "sac_hit": _library.Hit,
    "sac_query": _library.Query,
    "sac_index_info": _library.IndexInfo,
    "sac_tune_params": _library.TuneParams,
    "sac_tuned": _library.Tuned,
    "sac_tuning": _library.Tuning,
}


def test_structs_are_laid_out_as_the_compiler_does(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    lines, want = [], []
    for name, struct in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        want.append(f"{name} {ctypes.sizeof(struct)}")
        for field, kind in struct._fields_:
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));'
            )
            want.append(f"{name}.{field} {getattr(struct, field).offset} {ctypes.sizeof(kind)}")
    source = tmp_path / "layout.c"
    source.write_text(
        '#include "engine/saccade.h"\n#include <stdio.h>\nint main(void)\n{\n' + "\n".join(lines) + "\n}\n"
    )
    program = tmp_path / "layout"
    subprocess.run([compiler, "-I", ROOT, "-I", ROOT / "kernels", source, "-o", program], check=True)
    assert subprocess.run([program], check=True, capture_output=True, text=True).stdout.split("\n")[:-1] == want


def test_library_loads(library):
    assert _library.load().sac_version().decode() == _library.VERSION
