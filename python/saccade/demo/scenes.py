"""Some sixty scenes painted from numbers, no two alike: what the demo searches when it is given no photos."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from . import painters as by
from .paint import Canvas

Painting = tuple[str, Callable[..., None], dict[str, Any]]


def paint(name: str) -> Image.Image:
    """The scene of that name; the same every time."""
    painter, options = _SCENES[name]
    canvas = Canvas(np.random.default_rng(zlib.crc32(name.encode())))
    painter(canvas, **options)
    canvas.grain(0.012)
    return canvas.finished()


def names() -> list[str]:
    return list(_SCENES)


def _scene(name: str, painter: Callable[..., None], **options: Any) -> Painting:
    """A text with spaces is a palette: "3d5a98 f0a6a0"."""
    for key, value in options.items():
        if isinstance(value, str) and " " in value:
            options[key] = ["#" + digits for digits in value.split()]
    return name, painter, options


def _scenes() -> Iterator[Painting]:
    yield _scene(
        "hills-dawn",
        by.hills,
        sky="3d5a98 f0a6a0 ffe0b0",
        land="8c7aa9 5e5a86 3b3f63 23283f",
        sun=(0.3, 0.42, "#ffd9a0"),
    )
    yield _scene(
        "hills-noon",
        by.hills,
        sky="3f8fdc 9fd0f2 d9f0f7",
        land="7fae8a 5f9a55 437f3c 2d5e2f",
        sun=(0.78, 0.16, "#fffbe0"),
    )
    yield _scene(
        "hills-sunset",
        by.hills,
        sky="40244f c44a3a ffb347",
        land="9c4a3c 6e2f38 43202f 241323",
        sun=(0.62, 0.44, "#ffcf70"),
    )
    yield _scene(
        "hills-winter",
        by.hills,
        sky="8fa6bd c7d4df f0f3f5",
        land="c3d1dc dbe5ec eef3f6 ffffff",
        sun=(0.2, 0.25, "#fff6e6"),
    )

    yield _scene("dunes-day", by.dunes, sky="3b87c8 a9d3e8 f3e3c3", sand="#e3b06a", shadow="#8a5730")
    yield _scene("dunes-rose", by.dunes, sky="6a4c93 e8879c ffd5b8", sand="#e0876a", shadow="#6b2f45")
    yield _scene("dunes-moon", by.dunes, sky="0b1030 27375f 6d7fa6", sand="#8fa0c0", shadow="#232c4b")

    yield _scene(
        "sea-sunset",
        by.sea,
        sky="5b2a6e e2604e ffc36b",
        water="e88a58 7a3b62 2a1b45",
        sun=0.55,
        boats=1,
        sail="#2d1b33",
    )
    yield _scene(
        "sea-noon", by.sea, sky="2f86d6 8ccaf0 dff3fb", water="5fc4cf 1f86b5 0d4f86", sun=0.2, boats=3, sail="#f4f0e4"
    )
    yield _scene(
        "sea-storm", by.sea, sky="39434d 66727c a9b2b5", water="76868a 3e5258 1d2b31", sun=0.8, boats=2, sail="#c9352b"
    )
    yield _scene(
        "sea-green", by.sea, sky="0e5a63 6cc2a1 f4e9a9", water="8fd0a2 23837a 0b3f4d", sun=0.4, boats=2, sail="#f28f3b"
    )

    yield _scene("night-milkyway", by.night, sky="05071a 0e1638 33406b", band="#b9a7e0", ground="#070912", moon=None)
    yield _scene(
        "night-moon", by.night, sky="0a1a33 1f3f66 5f86a6", band="#9fc0d8", ground="#0b1420", moon=(0.68, 0.27)
    )
    yield _scene("night-red", by.night, sky="1c0a1f 4a1836 9c3d4a", band="#e0a0a0", ground="#12060d", moon=(0.25, 0.35))

    yield _scene("aurora-green", by.aurora, curtain="3ee68f 21c5a8", ground="#04101a")
    yield _scene("aurora-violet", by.aurora, curtain="b06cf0 e85fa8 48d6c0", ground="#0a0818")

    yield _scene("forest-mist", by.forest, mist="b8cbd0 d3dfdf e9eeea", tree="#1f3d36")
    yield _scene("forest-blue", by.forest, mist="1b3358 41648f 8fb0cc", tree="#0a1a33")
    yield _scene("forest-gold", by.forest, mist="f2c14e f7d987 fdf0cd", tree="#8a4b1c")
    yield _scene("birches-autumn", by.forest, mist="e9c46a f4dca0 f8ecd0", tree="#c9692b", trunk="#f5f2ea")
    yield _scene("birches-spring", by.forest, mist="a7d8a5 cfe8c0 eef6e2", tree="#4f9a45", trunk="#fafaf5")

    yield _scene(
        "city-night",
        by.skyline,
        sky="0b1030 27325f 6a4c7d",
        wall="2b2f55 1b1f3d 0f1228",
        window="#ffd166",
        lit=0.5,
        moon="#f3f1dc",
    )
    yield _scene(
        "city-noon",
        by.skyline,
        sky="4aa3df a8d8f0 eaf6fa",
        wall="b9c6d2 93a5b5 6d8196",
        window="#dcecf6",
        lit=0.7,
        moon="#fff6cf",
    )
    yield _scene(
        "city-dusk",
        by.skyline,
        sky="f07b3f ffb26b ffe3b3",
        wall="a8535a 7a3550 4a1f42",
        window="#ffe9a8",
        lit=0.35,
        moon="#fff0c0",
    )
    yield _scene(
        "city-teal",
        by.skyline,
        sky="063b44 0f6a6f 59b0a2",
        wall="1f6068 12434c 082a33",
        window="#ff8f6b",
        lit=0.45,
        moon="#e8f7ee",
    )

    yield _scene(
        "street-warm",
        by.street,
        sky="6db3e2 d8eef8",
        fronts="d1603d e9b44c 8f3b32 d9a066 b5483a",
        roof="#5b3a31",
        water="#2e5b66",
    )
    yield _scene(
        "street-pastel",
        by.street,
        sky="f6c6b8 fdeee2",
        fronts="a8d5ba f4b6c2 f9e0a2 a9c9e8 d3bfe0",
        roof="#7c6a78",
        water="#6a8fa8",
    )
    yield _scene(
        "street-brick",
        by.street,
        sky="5b6d80 b4c2cc",
        fronts="6b2f2a 7d4034 54302d 8a5144",
        roof="#2e2a2d",
        water="#2c3840",
    )

    yield _scene(
        "balloons-festival",
        by.balloons,
        sky="3f9be0 a8dcf5 f3f8ec",
        palette="e63946 ffb703 1d6fb8 fdf6e3",
        land="#4c8b4a",
    )
    yield _scene(
        "balloons-dawn", by.balloons, sky="6c5b9e f0a58f ffe2b8", palette="5f0f40 fb8b24 e36414 fff0d0", land="#4a3b57"
    )
    yield _scene(
        "balloons-mint", by.balloons, sky="8bd3c7 c9ece2 fbfdf2", palette="2a9d8f e9c46a 264653 f4a261", land="#6f8f5a"
    )

    yield _scene("fruit-oranges", by.fruit, wall="2f4858 4a6572", table="#8a5a3b", fruits="f28c28 f5a742")
    yield _scene(
        "fruit-apples", by.fruit, wall="e9dfc9 d8c8a8", table="#b98a5e", fruits="c1272d 7fb23a d8453e", squash=0.94
    )
    yield _scene(
        "fruit-plums", by.fruit, wall="cdd9d3 a9bdb4", table="#ddd3c4", fruits="5a2a6b 7a3b7f 3d2560", squash=1.08
    )
    yield _scene("fruit-lemons", by.fruit, wall="1f6f8b 1b566e", table="#e8e4da", fruits="f7d22d a8c83a", squash=0.85)
    yield _scene("fruit-peaches", by.fruit, wall="5b2a3c 7d4150", table="#3a2620", fruits="f4a27a e8805f f7c297")

    yield _scene(
        "bloom-daisy",
        by.bloom,
        back="2f5d3a 4f8a4a a6cf7a",
        petal="#f7f5ee",
        heart="#f2b632",
        petals=16,
        rings=2,
        width=0.12,
    )
    yield _scene(
        "bloom-poppy",
        by.bloom,
        back="7a9a4f b7c970 e9e6a9",
        petal="#d62828",
        heart="#1f1a1a",
        petals=6,
        rings=2,
        width=0.34,
    )
    yield _scene(
        "bloom-dahlia",
        by.bloom,
        back="1d2b3a 33485c 6f8aa0",
        petal="#b5179e",
        heart="#ffd6f0",
        petals=14,
        rings=5,
        width=0.17,
    )
    yield _scene(
        "bloom-sunflower",
        by.bloom,
        back="3b86c4 7fb9e0 cfe8f5",
        petal="#f4b41a",
        heart="#4a2c14",
        petals=20,
        rings=2,
        width=0.11,
    )
    yield _scene(
        "bloom-lotus",
        by.bloom,
        back="0f4c4a 1f6f6a 5aa89a",
        petal="#f2a7c3",
        heart="#f6e27a",
        petals=9,
        rings=4,
        width=0.24,
    )

    yield _scene(
        "meadow-summer",
        by.meadow,
        sky="4fa7e8 cdeaf8",
        grass="9cc653 5f9e38 2f6b28",
        petals="e63946 ffffff 8e5bd0 f7b32b",
    )
    yield _scene(
        "meadow-lavender", by.meadow, sky="f7c59f fdebd2", grass="b49ac9 7d62a8 4a3a78", petals="6a4fb3 8d6fd1 b39ae0"
    )
    yield _scene(
        "meadow-tulips", by.meadow, sky="9fb8c9 e6edf0", grass="c9d96f 7fa83d 4a7a2c", petals="f15bb5 ff6b35 fee440"
    )

    yield _scene(
        "reef-tropic", by.reef, water="35c3d6 1487b0 0a4a7a", fish="ff9f1c ffd23f ee4266", coral="e4572e f38d68 b5468b"
    )
    yield _scene(
        "reef-deep", by.reef, water="0f3d6b 0a2448 050f26", fish="5bd1d7 a0e8af f7f7f7", coral="5a3f8f 3a6ea5 8f5aa8"
    )
    yield _scene(
        "reef-lagoon", by.reef, water="b8f2d0 5fd0b0 1f9a90", fish="233d8f c8355f f4d35e", coral="f7a072 ef6f6c f9c784"
    )

    yield _scene("planet-ringed", by.planet, bands="f2dfb8 d9b27a b5834d ecd3a2 a8713f", ring="#e9d5ae", sky="#2a1f4a")
    yield _scene("planet-blue", by.planet, bands="e9f5ff 5aa8e0 1f5fa8 3f8f5f f0f8ff", ring=None, sky="#0a2a4a")
    yield _scene("planet-red", by.planet, bands="f0d0b0 d9713f 8f3320 c45a33 f2c8a0", ring=None, sky="#4a1626")
    yield _scene("planet-jade", by.planet, bands="e8fff0 6fd6a8 1f8a70 9fe8c0 0f5a52", ring="#b8f0d8", sky="#0f4a3a")

    yield _scene("julia-ember", by.julia, at=(-0.8 + 0.156j), palette="000010 4a0f3f c4302b ff9a3c fff3c4 1a0a20")
    yield _scene("julia-ice", by.julia, at=(-0.4 + 0.6j), palette="04102a 0f4c81 4fb3d9 e6f7ff 7a5fc0 0a0a2a")
    yield _scene(
        "julia-moss", by.julia, at=(0.285 + 0.01j), palette="0c1a0f 2f6b3a a8c957 fff2b0 d9822b 2a1208", zoom=1.2
    )

    yield _scene("truchet-night", by.truchet, back="#14213d", palette="fca311 e5e5e5 f77f00", tiles=8)
    yield _scene("truchet-candy", by.truchet, back="#fdf0d5", palette="ef476f 118ab2 06a77d", tiles=6)

    yield _scene("glass-garden", by.mosaic, palette="2a9d8f 8ab17d e9c46a f4a261 e76f51", cells=70, lead="#1a1f24")
    yield _scene("glass-cathedral", by.mosaic, palette="1d3f8f b3202c f0b429 5b2a86 1f7a5a", cells=110, lead="#0a0a0f")
    yield _scene("glass-dawn", by.mosaic, palette="ffcdb2 ffb4a2 e5989b b5838d 6d6875", cells=45, lead="#f8f4ee")

    yield _scene("plaid-red", by.plaid, back="#a31621", stripes="0f2a1d f5e6c8 1b1b1e")
    yield _scene("plaid-sea", by.plaid, back="#1f4e79", stripes="0b2239 8fd3d1 f2f2f2")
    yield _scene("plaid-heather", by.plaid, back="#b8a9c9", stripes="622569 d6d4e0 5b9aa0")

    yield _scene("scales-indigo", by.scales, palette="1b2a5a 2f4a8f 16204a", size=0.22)
    yield _scene("scales-coral", by.scales, palette="ef6f6c f4a261 465775 56a3a6", size=0.34)

    yield _scene("marble-rose", by.marble, palette="fff5f2 f2c9c2 c77d7d fbe9e4 8f4a56", folds=6)
    yield _scene("marble-malachite", by.marble, palette="06302a 0f6b52 39b385 c9f2d8 0a4a3a", folds=14)


_SCENES = {name: (painter, options) for name, painter, options in _scenes()}
