"""The networks that encoders are measured on: their shapes, the arithmetic of one picture, and folders of random weights.

A folder holds what a published one does (config.json, preprocessor_config.json, model.safetensors), in bf16, so that every
engine computes from the same numbers. Pictures of the input's own size are taken as they are. Needs NumPy alone.

    shapes.py NAME FOLDER        makes a folder, ViT-L/14 for example
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A vision transformer as timm ("timm": no projection) or as CLIP's vision tower ("clip") arranges it."""

    name: str
    family: str
    image: int
    patch: int
    width: int
    layers: int
    heads: int
    mlp: int
    projection: int = 0

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2

    @property
    def tokens(self) -> int:
        return self.patches + 1

    @property
    def dim(self) -> int:
        return self.projection or self.width

    @property
    def flops(self) -> int:
        """Of one picture: a product's multiplications and additions, attention's two products among them."""
        per_token = self.width * 3 * self.width + self.width * self.width + 2 * self.width * self.mlp
        attention = 2 * self.tokens * self.tokens * self.width
        patch = self.patches * 3 * self.patch * self.patch * self.width
        return 2 * (self.layers * (self.tokens * per_token + attention) + patch + self.width * self.projection)


SHAPES = {
    s.name: s
    for s in (
        Shape("ViT-Tiny/16", "timm", 224, 16, 192, 12, 3, 768),
        Shape("ViT-B/32", "clip", 224, 32, 768, 12, 12, 3072, 512),
        Shape("ViT-B/16", "timm", 224, 16, 768, 12, 12, 3072),
        Shape("ViT-L/14", "clip", 224, 14, 1024, 24, 16, 4096, 768),
        Shape("smoke-timm", "timm", 32, 8, 64, 2, 1, 128),
        Shape("smoke-clip", "clip", 28, 7, 64, 2, 2, 128, 32),
    )
}


# ---- names --------------------------------------------------------------------------------------------------------


def timm_names(s: Shape) -> dict[str, tuple[int, ...]]:
    tensors = {"cls_token": (1, 1, s.width), "pos_embed": (1, s.tokens, s.width),
               "patch_embed.proj.weight": (s.width, 3, s.patch, s.patch), "patch_embed.proj.bias": (s.width,)}
    for i in range(s.layers):
        block = {"norm1": None, "attn.qkv": (3 * s.width, s.width), "attn.proj": (s.width, s.width), "norm2": None,
                 "mlp.fc1": (s.mlp, s.width), "mlp.fc2": (s.width, s.mlp)}
        tensors |= layers(f"blocks.{i}.", block, s.width)
    return tensors | layers("", {"norm": None}, s.width)


def clip_names(s: Shape) -> dict[str, tuple[int, ...]]:
    inside = "vision_model."
    tensors = {inside + "embeddings.class_embedding": (s.width,),
               inside + "embeddings.patch_embedding.weight": (s.width, 3, s.patch, s.patch),
               inside + "embeddings.position_embedding.weight": (s.tokens, s.width)}
    tensors |= layers(inside, {"pre_layrnorm": None}, s.width)
    for i in range(s.layers):
        square = (s.width, s.width)
        block = {"layer_norm1": None, "self_attn.q_proj": square, "self_attn.k_proj": square, "self_attn.v_proj": square,
                 "self_attn.out_proj": square, "layer_norm2": None, "mlp.fc1": (s.mlp, s.width),
                 "mlp.fc2": (s.width, s.mlp)}
        tensors |= layers(f"{inside}encoder.layers.{i}.", block, s.width)
    tensors |= layers(inside, {"post_layernorm": None}, s.width)
    return tensors | {"visual_projection.weight": (s.projection, s.width)}


def layers(prefix: str, parts: dict[str, tuple[int, int] | None], width: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias of matrices, and of norms (None)."""
    tensors: dict[str, tuple[int, ...]] = {}
    for name, shape in parts.items():
        tensors[f"{prefix}{name}.weight"] = shape or (width,)
        tensors[f"{prefix}{name}.bias"] = (shape or (width,))[:1]
    return tensors


# ---- weights ------------------------------------------------------------------------------------------------------


def random_tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...], depth: int) -> np.ndarray:
    """As a trained network's are in size: what a block adds is small beside the stream, norms are near one."""
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1 and "pos" not in name and "cls" not in name:
        values *= float(np.prod(shape[1:])) ** -0.5
        if any(part in name for part in ("proj.weight", "fc2")) and "patch" not in name and "visual" not in name:
            values *= depth**-0.5
    elif name.endswith("weight") and len(shape) == 1:
        values = 1 + 0.1 * values
    else:
        values *= 0.1
    return values


def bf16_bits(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def configs(s: Shape) -> dict[str, dict]:
    if s.family == "timm":
        pictures = {"input_size": [3, s.image, s.image], "interpolation": "bicubic", "crop_pct": 1.0,
                    "crop_mode": "center", "mean": [0.5] * 3, "std": [0.5] * 3}
        return {"config.json": {"architecture": f"vit_random_patch{s.patch}_{s.image}", "num_features": s.width,
                                "global_pool": "token", "model_args": {"num_heads": s.heads},
                                "pretrained_cfg": pictures}}
    side = {"height": s.image, "width": s.image}
    return {
        "config.json": {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"],
                        "hidden_act": "gelu", "hidden_size": s.width, "intermediate_size": s.mlp,
                        "num_hidden_layers": s.layers, "num_attention_heads": s.heads, "image_size": s.image,
                        "patch_size": s.patch, "projection_dim": s.projection, "layer_norm_eps": 1e-5},
        "preprocessor_config.json": {"size": {"shortest_edge": s.image}, "do_center_crop": True, "crop_size": side,
                                     "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    }


def make_folder(s: Shape, folder: Path, seed: int = 1) -> Path:
    """Writes the folder, unless it is there already."""
    weights = folder / "model.safetensors"
    if weights.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in configs(s).items():
        (folder / name).write_text(json.dumps(config, indent=1) + "\n")
    tensors = timm_names(s) if s.family == "timm" else clip_names(s)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    part = weights.with_suffix(".part") # so that a run that was stopped leaves nothing that looks whole
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            file.write(bf16_bits(random_tensor(rng, name, shape, s.layers)).tobytes())
    part.rename(weights)
    return folder


def pictures(count: int, side: int, seed: int = 2) -> np.ndarray:
    """Pictures that differ from each other: slopes, waves and noise of random colours, [count, side, side, 3] bytes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    out = np.empty((count, side, side, 3), np.uint8)
    for picture in out:
        base, slope = rng.uniform(40, 215, 3), rng.uniform(-80, 80, (2, 3))
        waves = np.sin(2 * np.pi * (x * rng.uniform(-6, 6) + y * rng.uniform(-6, 6)))[..., None] * rng.uniform(0, 60, 3)
        flat = base + x[..., None] * slope[0] + y[..., None] * slope[1] + waves
        picture[:] = np.clip(flat + rng.normal(0, 12, (side, side, 3)), 0, 255)
    return out


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(f"usage: shapes.py NAME FOLDER, with one of {', '.join(SHAPES)}")
    make_folder(SHAPES[sys.argv[1]], Path(sys.argv[2]))
