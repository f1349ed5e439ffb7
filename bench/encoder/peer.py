#!/usr/bin/env python3
"""A peer as a worker: the same requests and answers as bench_encoder.

    peer.py ENGINE MODEL PRECISION THREADS     ENGINE: torch, torch-compile or onnxruntime

MODEL is a folder that transformers can load as a CLIP vision tower, or timm's ViT-Tiny folder. Needs torch and
transformers, and for onnxruntime also onnx and onnxruntime. For each line "BATCH SECONDS" of stdin it prints the images
per second, of the clock and of processor time; "peak SECONDS" prints the GFLOP/s of one big product likewise.
"""
import json
import pathlib
import sys
import tempfile
import time

import torch
import transformers
from safetensors.torch import load_file


def timm_tiny(folder, config):
    """timm's ViT as transformers' class: the same arithmetic under other names."""
    width = config["num_features"]
    stored = load_file(folder / "model.safetensors")
    layers = 1 + max(int(n.split(".")[1]) for n in stored if n.startswith("blocks."))
    model = transformers.ViTModel(transformers.ViTConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width,
        layer_norm_eps=1e-6, image_size=224, patch_size=16), add_pooling_layer=False)
    return model, lambda m, x: m(pixel_values=x).last_hidden_state[:, 0]


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    if "architecture" in config:
        return timm_tiny(folder, config)
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
    return model, lambda m, x: m(pixel_values=x).image_embeds


class Wrapped(torch.nn.Module):
    def __init__(self, model, embed):
        super().__init__()
        self.model, self.embed = model, embed

    def forward(self, pixels):
        return self.embed(self.model, pixels)


def torch_runner(engine, network, precision):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    network = network.to(dtype)
    run = torch.compile(network, mode="max-autotune") if engine == "torch-compile" else network

    def embed(batch):
        with torch.inference_mode():
            run(embed.pixels[batch])
    embed.pixels = {b: torch.randn(b, 3, 224, 224).to(dtype) for b in (1, 8, 32)}
    return embed, f"PyTorch {torch.__version__}" + (" compiled" if engine == "torch-compile" else "")


def onnx_runner(network, precision, threads):
    import onnxruntime
    if precision != "f32":
        raise SystemExit("peer: ONNX Runtime has no bf16 products on the CPU")
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "model.onnx")
        torch.onnx.export(network, (torch.randn(2, 3, 224, 224),), path, input_names=["pixels"],
                          output_names=["vector"], dynamic_axes={"pixels": {0: "n"}, "vector": {0: "n"}},
                          opset_version=17, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        try: # joins attention, GELU and norms into one operator each
            from onnxruntime.transformers import optimizer
            heads = network.model.config.num_attention_heads
            fused = optimizer.optimize_model(path, model_type="vit", num_heads=heads,
                                             hidden_size=network.model.config.hidden_size)
            fused.save_model_to_file(path)
            note = " fused: " + str({k: v for k, v in fused.get_fused_operator_statistics().items() if v})
        except Exception as error: # noqa: BLE001 - the plain graph is still a fair peer
            note = f" not fused: {error}"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    pixels = {b: torch.randn(b, 3, 224, 224).numpy() for b in (1, 8, 32)}
    return (lambda b: session.run(None, {"pixels": pixels[b]})), f"ONNX Runtime {onnxruntime.__version__}{note}"


def big_product(dtype):
    x, w = torch.randn(2048, 1024).to(dtype), torch.nn.Linear(1024, 4096).to(dtype)

    def run(_):
        with torch.inference_mode():
            w(x)
    return run


def print_rate(run, batch, unit, seconds):
    run(batch)
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds or count == 0:
        run(batch)
        count += unit
    print(count / (time.perf_counter() - wall), count / (time.process_time() - cpu), flush=True)


def main():
    engine, folder, precision, threads = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(threads)
    network = Wrapped(*load(folder)).eval()
    if engine == "onnxruntime":
        run, name = onnx_runner(network, precision, threads)
    else:
        run, name = torch_runner(engine, network, precision)
    print(name, flush=True)
    for line in sys.stdin:
        what, seconds = line.split()
        if what == "peak":
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            print_rate(big_product(dtype), 0, 2e-9 * 2048 * 1024 * 4096, float(seconds))
        else:
            print_rate(run, int(what), int(what), float(seconds))


main()
