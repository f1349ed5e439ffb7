"""The same vision transformer in plain PyTorch, as a worker that encoder.py takes turns with.

    vit_torch.py MODEL [--device cuda] [--compile default|max-autotune-no-cudagraphs|none]

MODEL is a folder of timm's ViT or CLIP's vision tower. Answers a line of JSON for itself and for each line of stdin:

    embed PIXELS VECTORS DTYPE   embeddings of a file of pictures [n][side][side][3] in bytes, written as f32 [n][dim]
    prepare BATCH                compiles and records for a batch; how long that took, or why it could not be done
    time BATCH SECONDS WHERE     images a second; WHERE: "device" (pictures lie there and vectors stay, launches follow each
                                 other) or "host" (page-locked memory to page-locked memory, one call after another)
    peak SECONDS                 TFLOP/s of one large bf16 product

Everything is bf16, as a deployment would have it: the residual stream too. The compiled part begins with the sum that ends the
block before it, so that one compilation serves all blocks and no fusion is lost; the whole pass, pictures to vectors, is then one
CUDA graph - what torch.compile's "reduce-overhead" does, at a twelfth of its compile time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    data = np.memmap(path, np.uint8, "r")
    size = int(data[:8].view("<u8")[0])
    header = json.loads(bytes(data[8 : 8 + size]))
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        begin, end = (8 + size + at for at in about["data_offsets"])
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[about["dtype"]])
        tensors[name] = flat.reshape(about["shape"]).float()
    return tensors


class Block(torch.nn.Module):
    """One block; `delta` is what the block before it adds to the residual stream."""

    def __init__(self, w: dict[str, torch.Tensor], heads: int, eps: float, quick: bool) -> None:
        super().__init__()
        for name, tensor in w.items():
            self.register_buffer(name, tensor)
        self.heads, self.eps, self.quick = heads, eps, quick

    def forward(self, x: torch.Tensor, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n, tokens, width = x.shape
        x = x + delta
        h = F.layer_norm(x, (width,), self.norm1_weight, self.norm1_bias, self.eps)
        qkv = F.linear(h, self.qkv_weight, self.qkv_bias).view(n, tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + F.linear(h, self.proj_weight, self.proj_bias)
        h = F.layer_norm(x, (width,), self.norm2_weight, self.norm2_bias, self.eps)
        h = F.linear(h, self.fc1_weight, self.fc1_bias)
        h = h * torch.sigmoid(1.702 * h) if self.quick else F.gelu(h)
        return x, F.linear(h, self.fc2_weight, self.fc2_bias)


class Vit(torch.nn.Module):
    """Pictures in bytes to vectors of length 1."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        w = read_safetensors(folder / "model.safetensors")
        make = self.from_timm if "architecture" in config else self.from_clip
        make(w, config, folder)
        self.patch = self.patch_weight.shape[-1]
        self.register_buffer("patch_matrix", self.patch_weight.reshape(len(self.patch_weight), -1))

    def keep(self, name: str, tensor: torch.Tensor | None) -> None:
        self.register_buffer(name, tensor)

    def from_timm(self, w: dict, config: dict, folder: Path) -> None:
        pictures = config["pretrained_cfg"]
        self.side, self.mean, self.std = pictures["input_size"][1], pictures["mean"], pictures["std"]
        self.eps = 1e-6
        self.keep("patch_weight", w["patch_embed.proj.weight"])
        self.keep("patch_bias", w["patch_embed.proj.bias"])
        self.keep("first", w["cls_token"].reshape(1, 1, -1))
        self.keep("position", w["pos_embed"])
        self.keep("pre_weight", None)
        self.keep("last_weight", w["norm.weight"])
        self.keep("last_bias", w["norm.bias"])
        self.keep("projection", None)
        heads = config.get("model_args", {}).get("num_heads", self.first.shape[-1] // 64)
        self.blocks = torch.nn.ModuleList()
        while f"blocks.{len(self.blocks)}.norm1.weight" in w:
            at = f"blocks.{len(self.blocks)}."
            names = {"norm1": "norm1", "norm2": "norm2", "qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1",
                     "fc2": "mlp.fc2"}
            parts = {f"{ours}_{kind}": w[f"{at}{theirs}.{kind}"] for ours, theirs in names.items()
                     for kind in ("weight", "bias")}
            self.blocks.append(Block(parts, heads, self.eps, False))

    def from_clip(self, w: dict, config: dict, folder: Path) -> None:
        about = json.loads((folder / "preprocessor_config.json").read_text())
        self.side, self.mean, self.std = config["image_size"], about["image_mean"], about["image_std"]
        self.eps = config["layer_norm_eps"]
        inside = "vision_model."
        self.keep("patch_weight", w[inside + "embeddings.patch_embedding.weight"])
        self.keep("patch_bias", None)
        self.keep("first", w[inside + "embeddings.class_embedding"].reshape(1, 1, -1))
        self.keep("position", w[inside + "embeddings.position_embedding.weight"].unsqueeze(0))
        for ours, theirs in (("pre", "pre_layrnorm"), ("last", "post_layernorm")):
            self.keep(f"{ours}_weight", w[f"{inside}{theirs}.weight"])
            self.keep(f"{ours}_bias", w[f"{inside}{theirs}.bias"])
        self.keep("projection", w["visual_projection.weight"])
        self.blocks = torch.nn.ModuleList()
        for i in range(config["num_hidden_layers"]):
            at = f"{inside}encoder.layers.{i}."
            names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "proj": "self_attn.out_proj", "fc1": "mlp.fc1",
                     "fc2": "mlp.fc2"}
            parts = {f"{ours}_{kind}": w[f"{at}{theirs}.{kind}"] for ours, theirs in names.items()
                     for kind in ("weight", "bias")}
            for kind in ("weight", "bias"):
                parts[f"qkv_{kind}"] = torch.cat([w[f"{at}self_attn.{part}_proj.{kind}"] for part in "qkv"])
            self.blocks.append(Block(parts, config["num_attention_heads"], self.eps, config["hidden_act"] == "quick_gelu"))

    def place(self, device: str, dtype: torch.dtype) -> Vit:
        """Brings everything to the device; what normalises pixels stays f32, and is there before anything is recorded."""
        self.eval().to(device, dtype)
        self.scale = torch.tensor([1 / (255 * s) for s in self.std], device=device)
        self.shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std)], device=device)
        return self

    def tokens(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The residual stream before the blocks, and what their first one adds to it (laid out as the others' deltas)."""
        n, across = len(pixels), self.side // self.patch
        dtype = self.patch_matrix.dtype
        values = (pixels.float() * self.scale + self.shift).to(dtype)
        rows = values.view(n, across, self.patch, across, self.patch, 3).permute(0, 1, 3, 5, 2, 4)
        x = F.linear(rows.reshape(n, across * across, -1), self.patch_matrix, self.patch_bias)
        x = torch.cat([self.first.expand(n, -1, -1), x], 1)
        if self.pre_weight is None:
            return x, self.position.expand(n, -1, -1).contiguous()
        x = F.layer_norm(x + self.position, x.shape[-1:], self.pre_weight, self.pre_bias, self.eps)
        return x, torch.zeros_like(x)

    def vectors(self, x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        x = x[:, 0] + delta[:, 0]
        x = F.layer_norm(x, x.shape[-1:], self.last_weight, self.last_bias, self.eps)
        if self.projection is not None:
            x = F.linear(x, self.projection)
        return F.normalize(x.float(), dim=-1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x, delta = self.tokens(pixels)
        for block in self.blocks:
            x, delta = block(x, delta)
        return self.vectors(x, delta)


class Worker:
    def __init__(self, options: argparse.Namespace) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        self.device, self.folder, self.mode = options.device, options.model, options.compile
        self.net = Vit(options.model).place(options.device, torch.bfloat16)
        self.passes: dict[int, tuple] = {} # by batch: run, its input, its output
        self.how = "eager"

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def pinned(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.pin_memory() if self.device == "cuda" else tensor

    def embed(self, source: str, target: str, dtype: str) -> dict:
        net = self.net if dtype == "bf16" else Vit(self.folder).place(self.device, torch.float32)
        pixels = torch.from_numpy(np.fromfile(source, np.uint8)).reshape(-1, net.side, net.side, 3).to(self.device)
        vectors = torch.cat([net(part) for part in pixels.split(8)])
        vectors.cpu().numpy().astype(np.float32).tofile(target)
        return {"count": len(vectors)}

    def compiled(self) -> None:
        """Compiles the blocks, once: the same code then serves all of them, and another batch adds to it."""
        if self.how == "eager" and self.mode != "none":
            for part in self.net.blocks:
                part.forward = torch.compile(part.forward, mode=self.mode, dynamic=False)
            self.net.tokens = torch.compile(self.net.tokens, dynamic=False)
            self.net.vectors = torch.compile(self.net.vectors, dynamic=False)
            self.how = f"torch.compile ({self.mode})"

    def prepare(self, batch: int) -> dict:
        start = time.perf_counter()
        self.compiled()
        noise = torch.randint(0, 256, (batch, self.net.side, self.net.side, 3), dtype=torch.uint8)
        pixels = noise.to(self.device)
        try:
            self.net(pixels)
        except Exception as error: # noqa: BLE001 - without a compiler the plain network is still a peer
            self.net = Vit(self.folder).place(self.device, torch.bfloat16)
            self.mode, self.how = "none", f"eager; torch.compile: {type(error).__name__}"
        self.passes[batch] = self.record(pixels)
        return {"seconds": time.perf_counter() - start, "how": self.how}

    def record(self, pixels: torch.Tensor) -> tuple:
        if self.device != "cuda":
            out = [None]

            def run() -> None:
                out[0] = self.net(pixels)
            return run, pixels, out
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.net(pixels)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = [self.net(pixels)]
        if "CUDA graph" not in self.how:
            self.how += " + CUDA graph"
        return graph.replay, pixels, out

    def time(self, batch: int, seconds: float, where: str) -> dict:
        run, pixels, out = self.passes[batch]
        run()
        host = self.pinned(pixels.cpu())
        back = self.pinned(out[0].cpu())

        def call() -> None:
            pixels.copy_(host, non_blocking=True)
            run()
            back.copy_(out[0], non_blocking=True)
            self.wait()

        call()
        times, done, start = [], 0, time.perf_counter()
        while not times or time.perf_counter() - start < seconds:
            before = time.perf_counter()
            if where == "host":
                call()
            else: # enough of them that one wait is nothing
                for _ in range(ahead := max(1, 64 // batch)):
                    run()
                done += (ahead - 1) * batch
                self.wait()
            done += batch
            times.append(time.perf_counter() - before)
        rate = done / (time.perf_counter() - start)
        times.sort()
        return {"images_s": rate, "p50_ms": 1e3 * statistics.median(times), "p99_ms": 1e3 * times[len(times) * 99 // 100],
                "calls": len(times)}

    def peak(self, seconds: float) -> dict:
        n = 8192 if self.device == "cuda" else 512
        a = torch.randn(n, n, device=self.device, dtype=torch.bfloat16)
        b = torch.randn(n, n, device=self.device, dtype=torch.bfloat16)
        a @ b.T
        self.wait()
        turns, start = 0, time.perf_counter()
        while not turns or time.perf_counter() - start < seconds:
            for _ in range(10):
                a @ b.T
            self.wait()
            turns += 10
        return {"tflops": 2e-12 * n**3 * turns / (time.perf_counter() - start)}

    def answer(self, line: str) -> dict:
        what, *arguments = line.split()
        if what == "embed":
            return self.embed(*arguments)
        if what == "prepare":
            return self.prepare(int(arguments[0]))
        if what == "time":
            return self.time(int(arguments[0]), float(arguments[1]), arguments[2])
        return self.peak(float(arguments[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", default="default")
    options = parser.parse_args()
    with torch.inference_mode():
        worker = Worker(options)
        name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
        print(json.dumps({"name": f"PyTorch {torch.__version__} on {name}"}), flush=True)
        for line in sys.stdin:
            try:
                answer = worker.answer(line)
            except Exception as error: # noqa: BLE001 - one batch that does not fit stops nothing
                answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
