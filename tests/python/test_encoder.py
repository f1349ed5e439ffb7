"""Encoder and decode_image from Python."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

import saccade
from saccade.demo import scenes

pytestmark = pytest.mark.usefixtures("library")


@pytest.fixture(scope="module")
def jpeg():
    buffer = io.BytesIO()
    scenes.paint("balloons-mint").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def builtin():
    return saccade.Encoder()


def test_decoding_agrees_with_pillow(jpeg):
    pixels = saccade.decode_image(jpeg)
    assert pixels.dtype == np.uint8 and pixels.shape == (240, 320, 3)
    assert np.abs(pixels.astype(int) - np.asarray(Image.open(io.BytesIO(jpeg)))).max() <= 2


def test_decoding_turns_upright(data):
    path = data("exif/Portrait_6.jpg")
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    got = saccade.decode_image(path)
    assert got.shape == want.shape and np.abs(got.astype(int) - want).mean() < 1


def test_pixels_outlive_the_image(jpeg):
    first = saccade.decode_image(jpeg)
    copies = [saccade.decode_image(jpeg) for _ in range(20)]
    assert all(np.array_equal(first, copy) for copy in copies) and first.flags.owndata


@pytest.mark.parametrize("broken", [b"", b"GIF89a but no more", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture(broken, builtin):
    with pytest.raises((saccade.ImageRejected, saccade.ImageCorrupt)):
        saccade.decode_image(broken)
    with pytest.raises(ValueError):
        builtin.embed([broken])


def test_cut_short(jpeg):
    with pytest.raises(saccade.ImageCorrupt):
        saccade.decode_image(jpeg[: len(jpeg) // 2])


def test_builtin(builtin, jpeg, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg)
    vectors = builtin.embed([jpeg, path, str(path), bytearray(jpeg), saccade.decode_image(jpeg)])
    assert vectors.dtype == np.float32 and vectors.shape == (5, builtin.dim) and 256 <= builtin.dim <= 512
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for row in vectors[1:]:
        np.testing.assert_array_equal(row, vectors[0])
    assert len(builtin.fingerprint) == 64 and builtin.name in repr(builtin)
    assert builtin.embed([]).shape == (0, builtin.dim)


def test_crop(builtin, jpeg):
    whole, same, part = (builtin.embed([jpeg], crop=c)[0] for c in (None, (0, 0, 320, 240), (80, 60, 160, 120)))
    np.testing.assert_array_equal(whole, same)
    assert whole @ part < 0.999
    with pytest.raises(saccade.InvalidArgument, match="picture 0"):
        builtin.embed([jpeg], crop=(400, 0, 10, 10))
    with pytest.raises(ValueError, match="crop"):
        builtin.embed([jpeg], crop=(0, -1, 10, 10))


def test_the_bad_picture_is_named(builtin, jpeg, tmp_path):
    with pytest.raises(saccade.Error, match="picture 2: "):
        builtin.embed([jpeg, jpeg, b"junk", jpeg])
    with pytest.raises(ValueError, match="picture 1: .*uint8"):
        builtin.embed([jpeg, np.zeros((4, 4))])
    with pytest.raises(FileNotFoundError):
        builtin.embed([tmp_path / "none.jpg"])
    with pytest.raises(ValueError, match="sequence"):
        builtin.embed(jpeg)


def test_batches_do_not_matter(jpeg):
    pictures = [jpeg, *(_encoded(name) for name in ("sea-noon", "plaid-sea", "planet-red", "forest-blue"))]
    np.testing.assert_array_equal(saccade.Encoder(batch=2).embed(pictures), saccade.Encoder().embed(pictures))


def test_a_vision_transformer(data, vectors):
    folder, labels = data("photos"), data("photos/labels.csv")
    names = [line.split(",", 1)[0] for line in labels.read_text().splitlines()[1:]]
    rows = np.linspace(0, len(names) - 1, 12).astype(int)
    want = vectors("photos_vit.fvecs")[rows]
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    encoder = saccade.Encoder(data("models/vit_tiny_patch16_224"), precision="f32")
    assert encoder.dim == 192
    cosines = (encoder.embed([folder / names[row] for row in rows]) * want).sum(axis=1)
    assert cosines.min() > 0.999, cosines


def test_no_such_model(tmp_path, data):
    with pytest.raises(saccade.Error):
        saccade.Encoder(tmp_path)
    with pytest.raises(ValueError, match="precision|f64"):
        saccade.Encoder(data("models/vit_tiny_patch16_224"), precision="f64")


def _encoded(name):
    buffer = io.BytesIO()
    scenes.paint(name).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
