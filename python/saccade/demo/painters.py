"""Families of scenes: each paints one kind of picture from a palette and the canvas's random numbers."""

from __future__ import annotations

import math

import numpy as np

from .paint import Canvas, Color, color, mix

# ---- landscapes ----------------------------------------------------------------------------------------


def hills(c: Canvas, sky: list[Color], land: list[Color], sun: tuple[float, float, Color]) -> None:
    c.sky(*sky)
    x, y, light = sun
    c.shine(x, y, 0.45, light, 0.55)
    c.shine(x, y, 0.16, light, 0.7)
    c.ellipse(x, y, 0.05, 0.05, mix(light, "#ffffff", 0.6))
    clouds = np.clip(c.noise(3, 5, stretch=3) * 2 - 1.1, 0, 1) * np.clip(1 - c.y * 2.2, 0, 1)
    c.blend(mix(sky[-1], "#ffffff", 0.6), 0.8 * clouds)
    for i, paint in enumerate(land):
        near = i / (len(land) - 1)
        line = c.ridge(0.5 + 0.36 * near, 0.22 - 0.08 * near, 2.0 + 1.2 * i)
        texture = c.noise(26, 3, stretch=2)[:, :, None] * 0.07 * near
        shade = c.ramp((c.y - line[None, :]) * 2.2, [mix(paint, sky[-1], 0.35), paint, mix(paint, "#000000", 0.3)])
        c.below(line, shade - texture)


def dunes(c: Canvas, sky: list[Color], sand: Color, shadow: Color) -> None:
    c.sky(*sky)
    c.shine(0.75, 0.2, 0.3, "#fff2c0", 0.8)
    for i in range(4):
        line = c.ridge(0.47 + 0.15 * i, 0.3, 1.6 + 0.5 * i, octaves=2)
        lit = np.clip(0.5 - np.gradient(line) * c.h * 1.6, 0, 1)  # the sun is on the right
        depth = np.clip((c.y - line[None, :]) * 2.2, 0, 1)
        ripples = 0.04 * np.sin((c.y * 150 + c.noise(3, 2) * 22) * (1.3 - 0.15 * i))
        t = np.clip(lit[None, :] * (1 - depth) + depth * 0.45 + ripples, 0, 1)
        c.below(line, c.ramp(t, [mix(sand, "#ffffff", 0.3), sand, shadow]))


def sea(c: Canvas, sky: list[Color], water: list[Color], sun: float, boats: int, sail: Color) -> None:
    horizon = 0.48
    c.fill(c.ramp(c.y / horizon, sky))
    c.shine(sun, horizon - 0.12, 0.4, "#fff0c8", 0.5)
    c.ellipse(sun, horizon - 0.12, 0.07, 0.07, mix(sky[-1], "#ffffff", 0.7))
    clouds = np.clip(c.noise(4, 5, stretch=4) * 2.2 - 1.2, 0, 1) * np.clip(1 - c.y / horizon, 0, 1)
    c.blend(mix(sky[-1], "#ffffff", 0.5), clouds)
    depth = (c.y - horizon) / (1 - horizon)
    waves = np.sin((c.noise(8, 3, stretch=5) * 9 + 40 / (np.clip(depth, 0, 1) + 0.25)) * 2)
    c.blend(c.ramp(depth + 0.10 * waves, water), (depth >= 0).astype(np.float32))
    path = np.exp(-(((c.x - sun) / (0.03 + 0.12 * np.clip(depth, 0, 1))) ** 2)) * (waves > 0.1) * (depth >= 0)
    c.blend(mix(sky[-1], "#ffffff", 0.6), 0.75 * path.astype(np.float32))
    for i in range(boats):
        _boat(c, 0.15 + 0.7 * (i + 0.3 * float(c.rng.random())) / max(boats, 1), 0.56 + 0.09 * i, 0.13 + 0.07 * i, sail)


def _boat(c: Canvas, x: float, y: float, size: float, sail: Color) -> None:
    s = size
    c.polygon(c.turned(x, y, 0, [(-s * 0.7, 0), (s * 0.7, 0), (s * 0.5, s * 0.22), (-s * 0.5, s * 0.22)]), "#4a2f22")
    c.line(c.turned(x, y, 0, [(0, 0), (0, -s * 1.5)]), "#2e1f18", 0.008)
    c.polygon(c.turned(x, y, 0, [(s * 0.04, -s * 1.45), (s * 0.04, -s * 0.1), (s * 0.65, -s * 0.1)]), sail)
    c.polygon(c.turned(x, y, 0, [(-s * 0.04, -s * 1.3), (-s * 0.04, -s * 0.1), (-s * 0.5, -s * 0.1)]),
              mix(sail, "#ffffff", 0.4))  # fmt: skip


def night(c: Canvas, sky: list[Color], band: Color, ground: Color, moon: tuple[float, float] | None) -> None:
    c.sky(*sky)
    across = np.abs(c.y - 0.4 - 0.5 * (c.x - 0.5) + 0.1 * (c.noise(3) - 0.5))
    c.blend(band, 0.6 * np.exp(-((across / 0.16) ** 2)) * c.noise(8, 5))
    for x, y, brightness in c.rng.random((420, 3)):
        r = 0.0015 + 0.004 * brightness**8
        c.ellipse(x, y, r, r, mix(sky[0], "#ffffff", 0.3 + 0.7 * brightness))
    if moon is not None:
        c.shine(*moon, 0.25, "#e8ecff", 0.6)
        c.ellipse(*moon, 0.085, 0.085, "#f3f1e2")
        c.blend("#c9c6b4", (c.radius(*moon) < 0.083) * np.clip(c.noise(12, 3) * 2 - 1, 0, 0.8))
    c.below(c.ridge(0.78, 0.3, 3, 6), mix(ground, sky[-1], 0.4))
    c.below(c.ridge(0.88, 0.16, 6, 5), ground)


def aurora(c: Canvas, curtain: list[Color], ground: Color) -> None:
    c.sky("#020617", "#07152e", "#12304a")
    for x, y, b in c.rng.random((200, 3)):
        c.ellipse(x, y, 0.0015 + 0.002 * b, 0.0015 + 0.002 * b, mix("#07152e", "#ffffff", b))
    for i, light in enumerate(curtain):
        foot = 0.5 + 0.1 * i + 0.14 * np.sin(c.x * (5 + 2 * i) + 2 * i) + 0.1 * (c.noise(2, 2) - 0.5)
        up = np.clip(foot - c.y, 0, 1)
        rays = 0.5 + 0.5 * np.interp(c.x[0], np.linspace(0, 1, 90), c.rng.random(90))[None, :]
        c.blend(light, (0.85 * np.exp(-up * 4.5) * (c.y < foot) * rays).astype(np.float32))
    c.below(c.ridge(0.86, 0.14, 5, 5), ground)


def forest(c: Canvas, mist: list[Color], tree: Color, trunk: Color | None = None) -> None:
    """Firs in layers of mist; with a trunk colour, bare trunks instead."""
    c.sky(*mist)
    for layer in range(4):
        near = layer / 3
        paint = mix(mist[-1], tree, 0.2 + 0.8 * near)
        for x in np.sort(c.rng.random(16 - 3 * layer)):
            height = (0.35 + 0.35 * float(c.rng.random())) * (0.55 + 0.6 * near)
            foot = 0.68 + 0.34 * near
            if trunk is None:
                _fir(c, float(x), foot, height, paint)
            else:
                _birch(c, float(x), foot, 0.010 + 0.022 * near, mix(mist[-1], trunk, 0.25 + 0.75 * near), paint)
        c.below(c.ridge(0.66 + 0.33 * near, 0.06, 4), paint)
        c.blend(mist[-1], (0.35 * (1 - near) * np.exp(-(((c.y - 0.62 - 0.3 * near) / 0.16) ** 2))).astype(np.float32))


def _fir(c: Canvas, x: float, foot: float, height: float, paint: Color) -> None:
    for tier in range(5):
        top = foot - height * (1 - tier * 0.17)
        half = height * (0.09 + 0.05 * tier)
        c.polygon(c.turned(x, top, 0, [(0, 0), (half, height * 0.3), (-half, height * 0.3)]), paint)


def _birch(c: Canvas, x: float, foot: float, width: float, bark: Color, leaf: Color) -> None:
    lean = 0.03 * float(c.rng.standard_normal())
    c.line([(x, foot), (x + lean, -0.05)], bark, width)
    for _ in range(7):
        y = float(c.rng.random()) * foot
        c.line(c.turned(x + lean * (1 - y / foot), y, 0, [(-width / 2, 0), (width * 0.2, 0.003)]), "#3a3430", 0.006)
    for _ in range(10):
        u, v = c.rng.standard_normal(2) * (0.10, 0.14)
        c.ellipse(x + u, 0.12 + abs(v), 0.035, 0.028, mix(leaf, "#ffffff", 0.25 * float(c.rng.random())), turn=0.4)


# ---- what people make ----------------------------------------------------------------------------------


def skyline(c: Canvas, sky: list[Color], wall: list[Color], window: Color, lit: float, moon: Color) -> None:
    c.sky(*sky)
    c.shine(0.2, 0.22, 0.3, moon, 0.5)
    c.ellipse(0.2, 0.22, 0.06, 0.06, moon)
    for layer, paint in enumerate(wall):
        x = -0.02
        while x < 1:
            w = 0.05 + 0.07 * float(c.rng.random())
            top = 0.72 - (0.45 - 0.10 * layer) * float(c.rng.random()) ** 1.3 - 0.12 + 0.1 * layer
            c.rectangle(x, top, x + w, 1, mix(paint, sky[-1], 0.12 * float(c.rng.random())))
            if c.rng.random() < 0.3:
                c.line([(x + w / 2, top), (x + w / 2, top - 0.08)], paint, 0.006)
            if layer == len(wall) - 1 or layer == len(wall) - 2:
                _windows(c, x, top, w, window, lit, paint)
            x += w + 0.004


def _windows(c: Canvas, x: float, top: float, w: float, window: Color, lit: float, wall: Color) -> None:
    for row in np.arange(top + 0.03, 0.98, 0.042):
        for column in np.arange(x + 0.010, x + w - 0.014, 0.018):
            on = c.rng.random() < lit
            c.rectangle(column, row, column + 0.009, row + 0.02, window if on else mix(wall, "#000000", 0.25))


def street(c: Canvas, sky: list[Color], fronts: list[Color], roof: Color, water: Color) -> None:
    c.sky(*sky)
    c.blend("#ffffff", 0.7 * np.clip(c.noise(4, 5, stretch=2.5) * 2 - 1.1, 0, 1))
    n = 6
    for i in range(n):
        x0, x1 = i / n, (i + 1) / n
        top = 0.22 + 0.16 * float(c.rng.random())
        front = fronts[i % len(fronts)]
        c.rectangle(x0 + 0.003, top, x1 - 0.003, 0.8, front)
        peak = top - 0.10 - 0.05 * float(c.rng.random())
        if c.rng.random() < 0.5:
            c.polygon([(x0, top), ((x0 + x1) / 2, peak), (x1, top)], roof)
        else:
            steps = [(0, 0), (0.12, 0), (0.12, 0.35), (0.28, 0.35), (0.28, 0.7), (0.4, 0.7), (0.4, 1)]
            outline = [(x0 + u / n, top + v * (peak - top)) for u, v in steps]
            c.polygon(outline + [(x0 + x1 - x, y) for x, y in reversed(outline)], mix(front, "#000000", 0.15))
        for row in np.arange(top + 0.05, 0.66, 0.13):
            for column in (0.16, 0.44, 0.72):
                x = x0 + column / n
                c.rectangle(x - 0.004, row - 0.008, x + 0.124 / n + 0.004, row + 0.088, "#f7f1e3")
                c.rectangle(x, row, x + 0.124 / n, row + 0.08, mix("#2b3a4a", sky[0], 0.3))
        c.rectangle(x0 + 0.40 / n, 0.68, x0 + 0.62 / n, 0.8, mix(front, "#000000", 0.5))
    c.rectangle(0, 0.8, 1, 0.83, "#8a8078")
    mirror = np.asarray(c.image, np.float32)[::-1] / 255
    ripple = (np.sin(c.y[:, 0] * 260) * 3 + np.sin(c.y[:, 0] * 90) * 3).astype(int)
    shifted = np.stack([np.roll(row, shift, axis=0) for row, shift in zip(mirror, ripple, strict=True)])
    lifted = np.roll(shifted, round(0.66 * c.h), axis=0)
    c.blend(lifted * 0.55 + color(water) * 0.45, (c.y > 0.83).astype(np.float32))


def balloons(c: Canvas, sky: list[Color], palette: list[Color], land: Color) -> None:
    c.sky(*sky)
    c.blend("#ffffff", 0.8 * np.clip(c.noise(3, 5, stretch=2.5) * 2 - 1.05, 0, 1) * np.clip(1.2 - c.y, 0, 1))
    c.below(c.ridge(0.85, 0.12, 3), mix(land, sky[-1], 0.4))
    c.below(c.ridge(0.93, 0.10, 4), land)
    side = c.rng.random() < 0.5
    for i, (x, y, r) in enumerate([(0.82, 0.25, 0.09), (0.55, 0.56, 0.07), (0.13, 0.62, 0.06), (0.32, 0.34, 0.21)]):
        x = (1 - x if side else x) + 0.05 * float(c.rng.standard_normal())
        y, r = y + 0.05 * float(c.rng.standard_normal()), r * (0.85 + 0.3 * float(c.rng.random()))
        for j in range(7):
            half = r * math.cos(j / 7 * math.pi / 2)
            paint = mix(palette[(i + j) % len(palette)], "#000000", 0.12 if j == 0 else 0)
            c.ellipse(x, y, half, r * 1.08, paint)
        skirt = [(-0.6 * r, 0.86 * r), (0.6 * r, 0.86 * r), (0.16 * r, 1.4 * r), (-0.16 * r, 1.4 * r)]
        c.polygon(c.turned(x, y, 0, skirt), mix(palette[i % len(palette)], "#000000", 0.25))
        c.line(c.turned(x, y, 0, [(-r * 0.15, r * 1.4), (-r * 0.12, r * 1.62)]), "#3b2a20", 0.004)
        c.line(c.turned(x, y, 0, [(r * 0.15, r * 1.4), (r * 0.12, r * 1.62)]), "#3b2a20", 0.004)
        basket = [(-0.16 * r, 1.6 * r), (0.16 * r, 1.6 * r), (0.13 * r, 1.85 * r), (-0.13 * r, 1.85 * r)]
        c.polygon(c.turned(x, y, 0, basket), "#6b4529")


# ---- still life ----------------------------------------------------------------------------------------


def fruit(c: Canvas, wall: list[Color], table: Color, fruits: list[Color], squash: float = 1.0) -> None:
    c.sky(*wall)
    c.shine(0.15, 0.05, 0.9, "#fff4dc", 0.35)
    grain = c.noise(60, 2, stretch=12)
    c.blend(c.ramp(grain, [mix(table, "#000000", 0.25), table]), (c.y > 0.62).astype(np.float32))
    places = [(0.28, 0.62), (0.5, 0.58), (0.72, 0.63), (0.38, 0.74), (0.62, 0.76), (0.84, 0.78), (0.16, 0.79)]
    for i, (x, y) in enumerate(places[: 4 + int(c.rng.integers(4))]):
        paint = fruits[i % len(fruits)]
        x, y = np.array([x, y]) + c.rng.standard_normal(2) * (0.04, 0.012)
        r = 0.115 + 0.03 * float(c.rng.random())
        c.ball(x, y, r, paint, squash)
        c.line([(x, y - r * squash * 0.9), (x + 0.012, y - r * squash * 1.25)], "#4b3621", 0.012)
        if i % 2 == 0:
            c.ellipse(x + 0.04, y - r * squash * 1.16, 0.045, 0.017, "#4f7d3a", turn=-0.5)


def bloom(c: Canvas, back: list[Color], petal: Color, heart: Color, petals: int, rings: int, width: float) -> None:
    """One large flower before a blurred garden."""
    c.fill(c.ramp(c.noise(2.2, 2), back))
    for x, y, r in c.rng.random((14, 3)):
        c.shine(x, y, 0.05 + 0.08 * r, back[-1], 0.35)
    x, y = 0.46 + 0.08 * float(c.rng.random()), 0.46
    c.line([(x, y), (x + 0.02, 0.75), (x - 0.01, 1.05)], "#3f6b35", 0.03)
    c.polygon(c.turned(x, 0.82, -0.6, [(0, 0), (0.12, -0.05), (0.26, 0), (0.12, 0.05)]), "#4d7f3e")
    for ring in range(rings):
        reach = 0.40 - 0.27 * ring / max(rings, 1)
        paint = mix(petal, "#ffffff", 0.10 + 0.30 * ring / max(rings, 1))
        for i in range(petals):
            a = 2 * math.pi * (i + 0.5 * (ring % 2)) / petals + 0.1 * float(c.rng.standard_normal())
            middle = reach * 0.55
            at = c.turned(x, y, a, [(middle, 0)])[0]
            c.ellipse(*at, reach * 0.48, reach * width, mix(paint, "#000000", 0.16), turn=a)
            c.ellipse(*at, reach * 0.45, reach * width * 0.86, paint, turn=a)
            c.line([c.turned(x, y, a, [(0.05, 0)])[0], c.turned(x, y, a, [(reach * 0.85, 0)])[0]],
                   mix(paint, "#000000", 0.10), 0.005)  # fmt: skip
    c.ball(x, y, 0.085, heart)
    for i in range(90):  # seeds in Vogel's spiral
        r, a = 0.078 * math.sqrt(i / 90), 2.39996 * i
        c.ellipse(*c.turned(x, y, a, [(r, 0)])[0], 0.005, 0.005, mix(heart, "#000000", 0.35))


def meadow(c: Canvas, sky: list[Color], grass: list[Color], petals: list[Color]) -> None:
    c.sky(*sky)
    c.blend("#ffffff", 0.7 * np.clip(c.noise(3, 5, stretch=3) * 2 - 1.1, 0, 1))
    c.below(c.ridge(0.36, 0.08, 3), mix(grass[0], sky[-1], 0.5))
    c.below(c.ridge(0.42, 0.04, 2), c.ramp((c.y - 0.4) * 1.6 + 0.2 * (c.noise(30, 2) - 0.5), grass))

    def flower(x: float, depth: float) -> None:
        y, r = 0.44 + 0.58 * depth, 0.006 + 0.042 * depth
        paint = petals[int(c.rng.integers(len(petals)))]
        c.line([(x, y), (x, y + 3 * r)], mix(grass[-1], "#000000", 0.1), r * 0.3)
        for i in range(6):
            a = i * math.pi / 3
            c.ellipse(*c.turned(x, y, a, [(r * 0.7, 0)])[0], r * 0.55, r * 0.4, paint, turn=a)
        c.ellipse(x, y, r * 0.4, r * 0.4, "#f6c945")

    c.scatter(170, flower)


def reef(c: Canvas, water: list[Color], fish: list[Color], coral: list[Color]) -> None:
    c.sky(*water)
    rays = np.clip(np.sin((c.x + 0.35 * c.y) * 26 + c.noise(2, 2) * 4), 0, 1) * np.clip(0.9 - c.y, 0, 1)
    c.blend("#e8fff8", 0.22 * rays)
    c.below(c.ridge(0.86, 0.1, 3), mix(water[-1], "#e5cf9a", 0.45))
    for i in range(9):
        x, paint = float(c.rng.random()), coral[i % len(coral)]
        _branch(c, x, 0.95, -math.pi / 2, 0.13 + 0.05 * float(c.rng.random()), paint)
    for i in range(9):
        x, y = c.rng.random(2) * (0.9, 0.6) + (0.05, 0.1)
        _fish(c, float(x), float(y), 0.045 + 0.05 * float(c.rng.random()), fish[i % len(fish)], -1 if i % 3 else 1)
    for x, y, r in c.rng.random((26, 3)):
        c.ellipse(x, y, 0.004 + 0.008 * r, 0.004 + 0.008 * r, mix(water[0], "#ffffff", 0.5))


def _branch(c: Canvas, x: float, y: float, a: float, length: float, paint: Color) -> None:
    if length < 0.025:
        return
    end = c.turned(x, y, a, [(length, 0)])[0]
    c.line([(x, y), end], paint, length * 0.22)
    for side in (-0.5, 0.45):
        _branch(c, *end, a + side + 0.2 * float(c.rng.standard_normal()), length * 0.72, paint)


def _fish(c: Canvas, x: float, y: float, size: float, paint: Color, way: int) -> None:
    s, w = size, size * way
    c.polygon(c.turned(x, y, 0, [(-w * 0.8, 0), (-w * 1.6, -s * 0.55), (-w * 1.45, 0), (-w * 1.6, s * 0.55)]),
              mix(paint, "#000000", 0.2))  # fmt: skip
    c.polygon(
        c.turned(x, y, 0, [(-w * 0.4, -s * 0.4), (w * 0.3, -s * 0.5), (-w * 0.2, -s * 0.85)]),
        mix(paint, "#000000", 0.2),
    )
    c.ellipse(x, y, s, s * 0.55, paint)
    for stripe in (-0.25, 0.15):
        c.polygon(c.turned(x, y, 0, [(w * stripe, -s * 0.5), (w * (stripe + 0.14), -s * 0.5),
                                     (w * (stripe + 0.14), s * 0.5), (w * stripe, s * 0.5)]), "#fdf6e3")  # fmt: skip
    eye = c.turned(x, y, 0, [(w * 0.6, -s * 0.12)])[0]
    c.ellipse(*eye, s * 0.13, s * 0.13, "#ffffff")
    c.ellipse(*eye, s * 0.07, s * 0.07, "#111111")


# ---- beyond the window -----------------------------------------------------------------------------------


def planet(c: Canvas, bands: list[Color], ring: Color | None, sky: Color) -> None:
    c.fill(c.ramp(c.noise(2, 5), ["#04050d", "#070a18", mix(sky, "#000000", 0.45)]))
    for x, y, b in c.rng.random((260, 3)):
        c.ellipse(x, y, 0.001 + 0.003 * b**6, 0.001 + 0.003 * b**6, mix("#0a0d1c", "#ffffff", b))
    x, y, r = (
        0.4 + 0.2 * float(c.rng.random()),
        0.42 + 0.16 * float(c.rng.random()),
        0.26 + 0.06 * float(c.rng.random()),
    )
    if ring is not None:
        _ring(c, x, y, r, ring, behind=True)
    d = c.radius(x, y) / r
    latitude = ((c.y - y) * 0.95 + (c.x - x) * 0.42) / r
    surface = c.ramp(0.5 + 0.45 * latitude + 0.10 * (c.noise(5, 5, stretch=3) - 0.5), bands)
    light = np.clip(1.25 - np.hypot((c.x - x) * c.w / c.h + 0.45 * r, c.y - y + 0.4 * r) / (1.5 * r), 0.04, 1)
    c.blend(surface * light[:, :, None], np.clip((1 - d) * r * c.h, 0, 1))
    if ring is not None:
        _ring(c, x, y, r, ring, behind=False)


def _ring(c: Canvas, x: float, y: float, r: float, paint: Color, behind: bool) -> None:
    u, v = (c.x - x) * c.w / c.h, c.y - y
    along, off = u * 0.93 - v * 0.37, (u * 0.37 + v * 0.93) * 3.6
    d = np.hypot(along, off) / r
    stripes = 0.45 + 0.35 * np.sin(d * 46) * np.sin(d * 17)
    mask = (d > 1.25) * (d < 2.0) * ((off < 0) if behind else (off >= 0)) * stripes
    c.blend(paint, mask.astype(np.float32))


def julia(c: Canvas, at: complex, palette: list[Color], zoom: float = 1.5) -> None:
    z = ((c.x - 0.5) * 2 * zoom * c.w / c.h + 1j * (c.y - 0.5) * 2 * zoom).astype(np.complex64)
    steps = np.zeros(z.shape, np.float32)
    alive = np.ones(z.shape, bool)
    for i in range(90):
        z[alive] = z[alive] ** 2 + np.complex64(at)
        gone = alive & (np.abs(z) > 8)
        steps[gone] = i + 1 - np.log2(np.log2(np.abs(z[gone])) / 3)
        alive &= ~gone
    steps[alive] = 90
    c.fill(c.ramp(np.sqrt(np.clip(steps, 0, 90) / 90), palette))


# ---- patterns --------------------------------------------------------------------------------------------


def truchet(c: Canvas, back: Color, palette: list[Color], tiles: int) -> None:
    """Two quarter circles in each tile, around one pair of opposite corners or the other."""
    c.fill(np.broadcast_to(color(back), (c.h, c.w, 3)))
    side = 1 / tiles
    columns = math.ceil(tiles * c.w / c.h)
    quarters = {(0, 0): 0, (1, 0): 1, (1, 1): 2, (0, 1): 3}  # corner: quarter turns to where its arc begins
    for row in range(tiles):
        for column in range(columns):
            paint = palette[int((row + column) * len(palette) / (tiles + columns))]
            for corner in [(0, 0), (1, 1)] if c.rng.random() < 0.5 else [(1, 0), (0, 1)]:
                angles = (np.linspace(-0.03, 1.03, 16) + quarters[corner]) * math.pi / 2
                arc = [(side / 2 * math.cos(a), side / 2 * math.sin(a)) for a in angles]
                x, y = (column + corner[0]) * side * c.h / c.w, (row + corner[1]) * side
                c.line(c.turned(x, y, 0, arc), paint, side * 0.28)


def mosaic(c: Canvas, palette: list[Color], cells: int, lead: Color) -> None:
    """Stained glass: every pixel belongs to its nearest seed."""
    seeds = c.rng.random((cells, 2)).astype(np.float32)
    nearest = np.full((c.h, c.w), 9, np.float32)
    second = nearest.copy()
    owner = np.zeros((c.h, c.w), np.int32)
    for i, (x, y) in enumerate(seeds):
        d = c.radius(x, y)
        closer = d < nearest
        second = np.where(closer, nearest, np.minimum(second, d))
        owner = np.where(closer, i, owner)
        nearest = np.where(closer, d, nearest)
    tint = np.stack([color(mix(palette[int(i) % len(palette)], "#ffffff", 0.25 * float(s)))
                     for i, s in enumerate(c.rng.random(cells))])  # fmt: skip
    c.fill(tint[owner] * (0.8 + 0.35 * c.noise(4, 3)[:, :, None]))
    c.blend(lead, (second - nearest < 0.012).astype(np.float32))


def plaid(c: Canvas, back: Color, stripes: list[Color]) -> None:
    weave = np.zeros((c.h, c.w, 3), np.float32) + color(back)
    period = 0.30 + 0.12 * float(c.rng.random())
    for axis, place in enumerate((c.x * c.w / c.h, c.y)):
        for paint in stripes:
            start, width = c.rng.random(2) * (period, period * 0.28) + (0, 0.012)
            on = ((place - start) % period < width).astype(np.float32)[:, :, None] * (0.62 if axis else 0.5)
            weave += (color(paint) - weave) * on
    twill = 0.94 + 0.06 * np.sign(np.sin((c.x * c.w / c.h + c.y) * 420))
    c.fill(weave * twill[:, :, None])


def scales(c: Canvas, palette: list[Color], size: float) -> None:
    """Seigaiha: rows of waves."""
    rows = math.ceil(2 / size) + 3
    for row in range(rows):
        y = (row - 1) * size / 2
        for column in range(-1, math.ceil(c.w / c.h / size) + 2):
            x = (column + 0.5 * (row % 2)) * size * c.h / c.w
            paint = palette[(row * 3 + column * 5) % len(palette)]
            for i in range(4):
                r = size * (0.5 - 0.11 * i)
                c.ellipse(x, y + size / 2, r, r, paint if i % 2 == 0 else mix(paint, "#ffffff", 0.72))


def marble(c: Canvas, palette: list[Color], folds: float) -> None:
    x, y = c.noise(2, 4), c.noise(2, 4)
    veins = 0.5 + 0.5 * np.sin((c.x * 2 + c.y + 2.2 * x) * folds + 6 * y)
    c.fill(c.ramp(0.75 * veins + 0.25 * c.noise(12, 4), palette))
