"""Brushes for the demo's scenes: gradients, noise, ridges, glows and shapes on one canvas.

Colours are "#rrggbb" or (r, g, b) in 0..1; places and lengths are fractions of the canvas, x by its width
and everything else by its height; y grows downward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 320, 240
_SCALE = 2  # drawn this much larger and scaled down, which smooths every edge

Color = str | Sequence[float]
Field = NDArray[np.floating[Any]]  # one number for every pixel: [height][width]
Pixels = NDArray[np.floating[Any]]  # [height][width][3] in 0..1


def color(value: Color) -> NDArray[np.float32]:
    if isinstance(value, str):
        value = [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.asarray(value, np.float32)


def mix(a: Color, b: Color, t: float) -> tuple[float, ...]:
    """a at t = 0, b at t = 1."""
    return tuple(color(a) * (1 - t) + color(b) * t)


class Canvas:
    """A picture being painted, and the random numbers of its scene."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.w, self.h = WIDTH * _SCALE, HEIGHT * _SCALE
        self.image = Image.new("RGB", (self.w, self.h))
        self.x = np.broadcast_to(np.arange(self.w, dtype=np.float32) / self.w, (self.h, self.w))
        self.y = np.broadcast_to(np.arange(self.h, dtype=np.float32)[:, None] / self.h, (self.h, self.w))

    def finished(self) -> Image.Image:
        return self.image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)

    # ---- fields: one number for every pixel ----------------------------------------------------------

    def noise(self, cells: float, octaves: int = 4, stretch: float = 1.0) -> Field:
        """Smooth noise in 0..1 with about `cells` features from top to bottom, `stretch` times as wide."""
        total = np.zeros((self.h, self.w), np.float32)
        for octave in range(octaves):
            rows = max(2, round(cells * 2**octave))
            columns = max(2, round(rows * self.w / self.h / stretch))
            grid = Image.fromarray(self.rng.random((rows + 2, columns + 2), np.float32))
            total += np.asarray(grid.resize((self.w, self.h), Image.Resampling.BICUBIC)) * 0.5**octave
        low, high = total.min(), total.max()
        return (total - low) / (high - low)

    def ridge(self, level: float, height: float, bumps: float, octaves: int = 4) -> NDArray[np.float32]:
        """A skyline: one y for each column, around level, with about `bumps` hills."""
        x = np.linspace(0, 1, self.w)
        line = np.zeros(self.w)
        for octave in range(octaves):
            knots = self.rng.random(math.ceil(bumps * 2**octave) + 3)
            place = x * bumps * 2**octave
            i = place.astype(int)
            t = place - i
            t = t * t * (3 - 2 * t)
            line += (knots[i] * (1 - t) + knots[i + 1] * t - 0.5) * 0.5**octave
        return (level - height * line).astype(np.float32)

    def radius(self, x: float, y: float) -> Field:
        """Distance from a point, in heights."""
        return np.hypot((self.x - x) * self.w / self.h, self.y - y)

    def ramp(self, field: Field, stops: Sequence[Color]) -> Pixels:
        """A field in 0..1 -> colours, evenly spaced between the stops: [height][width][3]."""
        table = np.stack([color(stop) for stop in stops])
        at = np.linspace(0, 1, len(stops))
        fine = np.stack([np.interp(np.linspace(0, 1, 1024), at, table[:, c]) for c in range(3)], axis=1)
        return np.asarray(fine, np.float32)[(np.clip(field, 0, 1) * 1023).astype(np.int32)]

    # ---- painting ------------------------------------------------------------------------------------

    def fill(self, pixels: Pixels) -> None:
        """Paints every pixel: [height][width][3] in 0..1."""
        self.image = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8))

    def pixels(self) -> Pixels:
        return np.asarray(self.image, np.float32) / 255

    def sky(self, *stops: Color) -> None:
        """A gradient from top to bottom."""
        self.fill(self.ramp(self.y, stops))

    def blend(self, paint: Color | Pixels, mask: Field) -> None:
        """Paints a colour, or pixels, where mask is 1."""
        over = paint if isinstance(paint, np.ndarray) else color(paint)
        under = self.pixels()
        self.fill(under + (over - under) * mask[:, :, None])

    def shine(self, x: float, y: float, radius: float, light: Color, strength: float = 1.0) -> None:
        """Adds a soft glow."""
        glow = strength * np.exp(-((self.radius(x, y) / radius) ** 2))
        under = self.pixels()
        self.fill(under + (1 - under) * glow[:, :, None] * color(light))

    def below(self, line: NDArray[np.float32], paint: Color | Pixels) -> None:
        """Paints everything under a ridge."""
        self.blend(paint, (self.y >= line[None, :]).astype(np.float32))

    def grain(self, amount: float = 0.03) -> None:
        """What a camera adds."""
        self.fill(self.pixels() + amount * (self.rng.standard_normal((self.h, self.w, 1), np.float32)))

    def polygon(self, points: Sequence[tuple[float, float]], paint: Color, outline: Color | None = None) -> None:
        at = [(x * self.w, y * self.h) for x, y in points]
        draw = ImageDraw.Draw(self.image)
        draw.polygon(at, fill=_bytes(paint), outline=None if outline is None else _bytes(outline))

    def ellipse(self, x: float, y: float, rx: float, ry: float, paint: Color, turn: float = 0.0) -> None:
        """rx and ry in heights; turn in radians."""
        if turn == 0.0:
            cx, cy, ax, ay = x * self.w, y * self.h, rx * self.h, ry * self.h
            ImageDraw.Draw(self.image).ellipse((cx - ax, cy - ay, cx + ax, cy + ay), fill=_bytes(paint))
            return
        self.polygon(self.turned(x, y, turn, [(rx * math.cos(a), ry * math.sin(a)) for a in _ANGLES]), paint)

    def turned(
        self, x: float, y: float, turn: float, outline: Sequence[tuple[float, float]]
    ) -> list[tuple[float, float]]:
        """An outline in heights around the origin -> the same on the canvas around (x, y), turned clockwise."""
        c, s = math.cos(turn), math.sin(turn)
        shrink = self.h / self.w
        return [(x + (u * c - v * s) * shrink, y + u * s + v * c) for u, v in outline]

    def line(self, points: Sequence[tuple[float, float]], paint: Color, width: float) -> None:
        at = [(x * self.w, y * self.h) for x, y in points]
        ImageDraw.Draw(self.image).line(at, fill=_bytes(paint), width=max(1, round(width * self.h)), joint="curve")

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, paint: Color) -> None:
        at = (x0 * self.w, y0 * self.h, x1 * self.w, y1 * self.h)
        ImageDraw.Draw(self.image).rectangle(at, fill=_bytes(paint))

    def ball(self, x: float, y: float, r: float, paint: Color, squash: float = 1.0) -> None:
        """A sphere lit from the upper left, with its shadow on what it lies on."""
        self.blend("#000000", 0.35 * np.exp(-(((self.y - y - r * squash) / (0.18 * r)) ** 2))
                   * np.exp(-(((self.x - x) * self.w / self.h / r) ** 4)))  # fmt: skip
        d = np.hypot((self.x - x) * self.w / self.h, (self.y - y) / squash) / r
        light = np.hypot((self.x - x) * self.w / self.h + 0.4 * r, (self.y - y) / squash + 0.45 * r) / r
        shade = self.ramp(light / 1.7, [mix(paint, "#ffffff", 0.75), mix(paint, "#ffffff", 0.18), paint,
                                        mix(paint, "#000000", 0.3), mix(paint, "#000000", 0.6)])  # fmt: skip
        self.blend(shade, np.clip((1 - d) * r * self.h, 0, 1))

    def scatter(self, n: int, place: Callable[[float, float], None]) -> None:
        """Calls place(x, y) n times with random places, the far ones (smaller y) first."""
        for x, y in sorted(self.rng.random((n, 2)), key=lambda p: p[1]):
            place(float(x), float(y))


_ANGLES = np.linspace(0, 2 * math.pi, 40, endpoint=False)


def _bytes(value: Color) -> tuple[int, int, int]:
    r, g, b = (int(round(float(c) * 255)) for c in np.clip(color(value), 0, 1))
    return r, g, b
