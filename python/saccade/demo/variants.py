"""What happens to photos on their way through the world: one picture in eight forms."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from .paint import HEIGHT, WIDTH

_SIZE = (WIDTH, HEIGHT)


def original(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Three quarters of each side, from anywhere."""
    w, h = image.width * 3 // 4, image.height * 3 // 4
    x, y = int(rng.integers(image.width - w)), int(rng.integers(image.height - h))
    return image.crop((x, y, x + w, y + h)).resize(_SIZE, Image.Resampling.BICUBIC)


def turn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A horizon that is off by three to six degrees; the empty corners are cut away."""
    degrees = float(rng.uniform(3, 6) * rng.choice([-1, 1]))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC)
    dx, dy = image.width // 12, image.height // 11
    return turned.crop((dx, dy, image.width - dx, image.height - dy)).resize(_SIZE, Image.Resampling.BICUBIC)


def compress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Sent through too many chats: half the size, JPEG at quality 15, back to size."""
    small = image.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=15)
    return Image.open(buffer).convert("RGB").resize(_SIZE, Image.Resampling.BILINEAR)


def tint(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A filter: colours faded by half and pulled towards one hue."""
    faded = ImageEnhance.Color(image).enhance(0.5)
    hue = Image.new("HSV", (1, 1), (int(rng.integers(256)), 160, 255)).convert("RGB").getpixel((0, 0))
    gains = 0.75 + 0.25 * np.asarray(hue, np.float32) / 255
    return Image.fromarray((np.asarray(faded) * gains).astype(np.uint8))


def expose(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Too bright or too dark, with more contrast."""
    bright = ImageEnhance.Brightness(image).enhance(float(rng.choice([0.65, 1.25])))
    return ImageEnhance.Contrast(bright).enhance(1.2)


def caption(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A thin white edge, and writing across the picture."""
    framed = ImageOps.expand(image.crop((3, 3, WIDTH - 3, HEIGHT - 3)), 3, "#faf8f3")
    draw = ImageDraw.Draw(framed)
    for x, y, ink in ((18, HEIGHT - 29, "#101014"), (17, HEIGHT - 30, "#ffffff")):
        draw.text((x, y), "WISH YOU WERE HERE", fill=ink)
        draw.text((x, y + 11), "a line or two, and love to all", fill=ink)
    return framed


def mirror(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


VARIANTS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    form.__name__: form for form in (original, crop, turn, compress, tint, expose, caption, mirror)
}
