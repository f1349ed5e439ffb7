"""The demo's pictures: the same every time, different from one another, small."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from saccade.demo import page, pictures, scenes
from saccade.demo.variants import VARIANTS


def test_a_scene_is_the_same_every_time():
    name = scenes.names()[0]
    assert scenes.paint(name).tobytes() == scenes.paint(name).tobytes()


def test_scenes_differ():
    names = scenes.names()[::8]
    small = [np.asarray(scenes.paint(name).resize((16, 12)), np.float32) for name in names]
    for i, a in enumerate(small):
        for b in small[:i]:
            assert np.abs(a - b).mean() > 8
    assert len(set(scenes.names())) == len(scenes.names()) >= 40


@pytest.mark.parametrize("form", list(VARIANTS))
def test_forms_keep_the_size_and_the_name_tells_them(form, tmp_path):
    image = scenes.paint("balloons-dawn")
    changed = VARIANTS[form](image, np.random.default_rng(1))
    assert changed.mode == "RGB" and changed.size == image.size
    path = tmp_path / f"balloons-dawn--{form}.jpg"
    assert (pictures.scene_of(path), pictures.form_of(path)) == ("balloons-dawn", form)
    assert form in page._FORMS


def test_folders_are_filled(tmp_path, monkeypatch):
    names = ["truchet-candy", "scales-coral"]
    monkeypatch.setattr(scenes, "names", lambda: names)
    told = []
    asking = pictures.make(tmp_path / "pictures", tmp_path / "queries", lambda done, n: told.append((done, n)))
    assert told == [(1, 2), (2, 2)]
    assert sorted(asking) == sorted((tmp_path / "queries").iterdir())
    made = sorted((tmp_path / "pictures").iterdir())
    assert len(made) == 14 and all(path.stat().st_size < 60_000 for path in made)
    with Image.open(made[0]) as image:
        assert image.format == "JPEG" and image.size == (320, 240)
