"""Everything there is to do on a machine with a GPU: `./dev gpu` calls it, from the root of the checkout.

    ./dev gpu                      builds for the GPU that is found, proves, measures: a quarter of an hour
    ./dev gpu --quick              the same in six minutes, on smaller shapes
    ./dev gpu --only parity,search just these steps
    ./dev gpu --pack               on a machine without a GPU: builds, and packs the programs with their libraries into
                                   build/gpu-pack.tar.xz, for a machine that has a CUDA toolkit and none of our libraries

Steps: parity (every operation against its plain C twin), engine (its tests with their index on the GPU), system (the
program from outside), sanitize (compute-sanitizer's four tools on small shapes), resources (registers and spills of each
kernel, as compiled), limits (what the chip can do), kernels (every operation's rate), search (recall against queries a
second by batch), peer (exact search in PyTorch), encoder (vision transformers beside PyTorch's),
photos (from JPEG bytes to ids, with the use of cores and GPU, and whether memory grows).
What a step needs and is not there is named, and the step skipped. Logs go to build/gpu/; figures and how each step
ended go to bench/results/gpu-<chip>-<date>.json and .md, and to the folder $OUT where that is set.
Exits with 1 when a step failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HOST_RUN = bool(os.environ.get("SACCADE_CUDA__MODULE")) # kernels run on the CPU, to try this script itself
ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "gpu"
PACK = ROOT / "build" / "gpu-pack.tar.xz"
TOOLKIT = ("/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib")
ENGINE_TESTS = ("lists ivf kmeans pq recall index index_file index_threads allow devices rows collection "
                "search_pictures vit passes encoder encoder_plan prepared ingest").split()
KERNEL_TESTS = ["device", "linear"] # beside the suite of all operations
SYSTEM_TESTS = ["tests/python/test_index.py"] + [
    f"tests/system/test_{name}.py" for name in "server vectors photos client kill device".split()
]
GROWTH_ALLOWED = 64 << 20 # bytes, over a hundred thousand pictures
SYSTEM_LIBRARIES = re.compile(r"lib(c|m|dl|rt|pthread|cuda|cublas\w*|cudart|gcc_s|stdc\+\+)\.so|ld-linux|linux-vdso")


@dataclass
class Step:
    name: str
    outcome: str = "passed"  # or "failed: ...", "skipped: ..."
    seconds: float = 0
    log: list[str] = field(default_factory=list)


class Missing(Exception):
    """What a step needs and is not here."""


class Run:
    """One run on one machine: where programs are, how steps are run, what they said."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = os.environ.get("SACCADE_TEST_DEVICE", "cuda:0")
        self.steps: list[Step] = []
        self.figures: dict[str, object] = {}
        self.tables: list[str] = [] # that steps made themselves, in Markdown
        self.began = time.monotonic()
        self.bin = BUILD / "tree"
        self.data = Path(os.environ.get("SACCADE_TEST_DATA", ROOT.parent / "shared/data")) # photos and models
        self.environment = os.environ | {"SACCADE_TEST_DEVICE": self.device, "PYTHONPATH": "python"}
        self.add_libraries(*(folder for folder in TOOLKIT if Path(folder).is_dir()))

    def add_libraries(self, *folders: str) -> None:
        path = [*folders, self.environment.get("LD_LIBRARY_PATH", "")]
        self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, path))

    def call(self, step: Step, limit: float, *command: object) -> str:
        """Runs a command within `limit` seconds; its output, which also goes to the step's log."""
        say(f"     {' '.join(map(str, command))}")
        step.log.append(f"$ {' '.join(map(str, command))}")
        try:
            done = subprocess.run([*map(str, command)], cwd=ROOT, env=self.environment, timeout=limit, text=True,
                                  errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired as stopped:
            said = stopped.stdout or ""
            step.log.append(said if isinstance(said, str) else said.decode(errors="replace"))
            raise RuntimeError(f"not done after {limit:.0f} s") from None
        step.log.append(done.stdout)
        if done.returncode != 0:
            raise RuntimeError(f"exit {done.returncode}")
        return done.stdout

    def step(self, name: str, work) -> None:
        if self.options.only and name not in self.options.only:
            return
        step, start = Step(name), time.monotonic()
        say(f"gpu: {name}")
        try:
            work(step)
        except Missing as missing:
            step.outcome = f"skipped: {missing}"
        except (RuntimeError, OSError) as error:
            step.outcome = f"failed: {error}"
            say("\n".join("\n".join(step.log).splitlines()[-20:]))
        step.seconds = time.monotonic() - start
        (BUILD / f"{name}.log").write_text("\n".join(step.log))
        self.steps.append(step)
        say(f"     {step.outcome}, {step.seconds:.0f} s, {time.monotonic() - self.began:.0f} s in all")

    @property
    def failed(self) -> bool:
        return any(step.outcome.startswith("failed") for step in self.steps)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/local/cuda/bin")
    if found is None:
        raise Missing(f"no {name} here")
    return found


# ---- programs ----------------------------------------------------------------------------------------------------


def programs(run: Run, step: Step) -> None:
    """Takes the packed programs, or builds for the chip that is here."""
    if HOST_RUN:
        run.bin = ROOT / "build" / "release"
    elif PACK.exists():
        run.bin = BUILD / "pack"
        shutil.rmtree(run.bin, ignore_errors=True)
        run.bin.mkdir(parents=True)
        run.call(step, 60, "tar", "-xJf", PACK, "-C", run.bin)
        run.add_libraries(str(run.bin / "lib"))
    else:
        configure(run, step, run.bin, "native")
    if not run.data.is_dir() and (run.bin / "data").is_dir():
        run.data = run.bin / "data"
    run.environment["SACCADE_TEST_DATA"] = str(run.data)
    if not HOST_RUN: # what takes too long where kernels run on the CPU
        run.environment |= {"SACCADE_TEST_REFERENCE": "1", "SACCADE_TEST_ALL_PHOTOS": "1"}
    run.environment["SACCADE_BINARY"] = str(run.bin / "saccade")
    run.environment["SACCADE_LIBRARY"] = str(run.bin / "libsaccade.so")


def configure(run: Run, step: Step, tree: Path, architectures: str) -> None:
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run.call(step, 120, "cmake", "-S", ".", "-B", tree, *generator, "-DCMAKE_BUILD_TYPE=Release", "-DSACCADE_CUDA=ON",
             f"-DSACCADE_CUDA_ARCHITECTURES={architectures}")
    run.call(step, 900, "cmake", "--build", tree, "-j", os.cpu_count() or 2)


def needed_libraries(run: Run, step: Step, files: list[Path]) -> set[Path]:
    """The shared libraries of these programs that a plain system with a CUDA toolkit lacks."""
    found = set()
    for file in files:
        for line in run.call(step, 20, "ldd", file).splitlines():
            match = re.search(r"=> (/\S+)", line)
            if match and not SYSTEM_LIBRARIES.search(Path(match[1]).name) and "saccade" not in match[1]:
                found.add(Path(match[1]))
    return found


def pack(run: Run) -> int:
    """Builds here, and packs what ran() of another machine needs."""
    step = Step("pack")
    tree, folder = BUILD / "tree", BUILD / "pack"
    configure(run, step, tree, run.options.architectures)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lib").mkdir(parents=True)
    (folder / "tests").mkdir()
    names = ["test_kernels_ops"] + [f"test_kernels_{name}" for name in KERNEL_TESTS]
    names += [f"test_engine_{name}" for name in ENGINE_TESTS]
    files = [tree / "saccade", *tree.glob("libsaccade*.so*"), *tree.glob("bench_kernels"), *tree.glob("bench_gpu_*")]
    files += [tree / "tests" / name for name in names]
    for file in files:
        to = folder / file.relative_to(tree)
        shutil.copy2(file, to, follow_symlinks=False)
        if not file.is_symlink():
            subprocess.run(["strip", "--strip-debug", to], check=False)
    for library in needed_libraries(run, step, [file for file in files if not file.is_symlink()]):
        shutil.copy2(library.resolve(), folder / "lib" / library.name)
        subprocess.run(["strip", "--strip-debug", folder / "lib" / library.name], check=False)
    (folder / "commit").write_text(commit(run))
    pack_data(run.data, folder / "data")
    run.call(step, 300, "tar", "-C", folder, "-cJf", PACK, ".")
    say(f"gpu: {PACK.relative_to(ROOT)}, {PACK.stat().st_size / 2**20:.1f} MiB: bring it with the checkout, and run ./dev gpu there")
    return 0


def pack_data(source: Path, target: Path) -> None:
    """The one real network and every twelfth photograph, where they are: the whole would be larger than the programs."""
    network = Path("models/vit_tiny_patch16_224")
    if (source / network).is_dir():
        shutil.copytree(source / network, target / network)
    labels = source / "photos/labels.csv"
    if labels.exists():
        heading, *lines = labels.read_text().splitlines(keepends=True)
        (target / "photos").mkdir(parents=True, exist_ok=True)
        (target / "photos/labels.csv").write_text(heading + "".join(lines[::12]))
        for line in lines[::12]:
            photo = Path("photos") / line.split(",")[0]
            (target / photo).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / photo, target / photo)


def commit(run: Run) -> str:
    packed = run.bin / "commit"
    if packed.exists():
        return packed.read_text().strip()
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


# ---- is it right? --------------------------------------------------------------------------------------------------


def parity(run: Run, step: Step) -> None:
    for name in KERNEL_TESTS:
        run.call(step, 120, run.bin / f"tests/test_kernels_{name}")
    run.call(step, 120, run.bin / "tests/test_kernels_ops", "--device", run.device)


def engine(run: Run, step: Step) -> None:
    for name in ENGINE_TESTS:
        run.call(step, 120, run.bin / f"tests/test_engine_{name}")


def system(run: Run, step: Step) -> None:
    for module in ("numpy", "msgpack", "PIL", "pytest"):
        if importlib.util.find_spec(module) is None:
            raise Missing(f"{sys.executable} has no module {module}")
    tests = [name for name in SYSTEM_TESTS if (ROOT / name).exists()]
    run.call(step, 90 if run.options.quick else 240, sys.executable, "-m", "pytest", "-q", "-ra", *tests)


def sanitize(run: Run, step: Step) -> None:
    sanitizer = tool("compute-sanitizer")
    for name in ("memcheck", "racecheck", "initcheck", "synccheck"):
        run.call(step, 120, sanitizer, "--tool", name, "--error-exitcode", 9, "--print-limit", 20,
                 run.bin / "tests/test_kernels_ops", "--device", run.device, "--small")


# ---- how fast? -----------------------------------------------------------------------------------------------------


def resources(run: Run, step: Step) -> None:
    tool("nvcc")
    run.figures["resources"] = json.loads(run.call(step, 300, sys.executable, "bench/gpu/resources.py", "--json"))


def limits(run: Run, step: Step) -> None:
    if not (run.bin / "bench_gpu_limits").exists():
        raise Missing("bench_gpu_limits was not built: it needs nvcc")
    lines = run.call(step, 120, run.bin / "bench_gpu_limits").splitlines()
    found = [re.match(r"(\S+) +([-+.\deE]+) (.+)", line) for line in lines]
    run.figures["limits"] = {m[1]: {"value": float(m[2]), "unit": m[3]} for m in found if m}


def kernels(run: Run, step: Step) -> None:
    text = run.call(step, 120, run.bin / "bench_kernels", "--device", run.device, "--json", "--no-ref", "--seconds", "0.1")
    run.figures["kernels"] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def shapes(run: Run) -> list[str]:
    if HOST_RUN:
        return ["1kx16"]
    return ["1Mx96", "1Mx768"] if run.options.quick else ["1Mx96", "1Mx128", "1Mx512", "1Mx768", "10Mx96"]


def search(run: Run, step: Step) -> None:
    """The small set is dumped for the peer; the others follow in one run each, so that one failure costs one set."""
    dump = BUILD / "dump"
    dump.mkdir(exist_ok=True)
    sets = []
    for i, shape in enumerate(shapes(run)):
        answer = BUILD / f"search-{shape}.json"
        extra = ["--dump", dump] if i == 0 else []
        if HOST_RUN:
            extra += ["--queries", 20, "--batch", "1,10", "--spec", "IVF16,PQ4", "--recall", 0.9]
        run.call(step, 200, run.bin / "bench_gpu_search", "--device", run.device, "--shape", shape, "--json", answer,
                 "--seconds", 0.3 if run.options.quick else 0.7, *extra)
        sets += json.loads(answer.read_text())["sets"]
        run.figures["search"] = sets


def peer(run: Run, step: Step) -> None:
    if importlib.util.find_spec("torch") is None:
        raise Missing(f"{sys.executable} has no PyTorch")
    if not (BUILD / "dump" / "base.fbin").exists():
        raise Missing("the step search leaves the vectors, and did not run")
    answer = BUILD / "peer.json"
    run.call(step, 120, sys.executable, "bench/gpu/exact_torch.py", BUILD / "dump", "--json", answer, "--seconds", 0.5)
    run.figures["peer"] = json.loads(answer.read_text())


def encoder(run: Run, step: Step) -> None:
    if importlib.util.find_spec("numpy") is None:
        raise Missing(f"{sys.executable} has no NumPy")
    answer, text = BUILD / "encoder.json", BUILD / "encoder.md"
    answer.unlink(missing_ok=True)
    extra: list[object] = []
    if HOST_RUN:
        extra = ["--smoke"]
    elif run.options.quick:
        extra = ["--batch", "1,64,512", "--seconds", 0.15]
    if "bf16" in run.figures.get("limits", {}):
        extra += ["--peak", run.figures["limits"]["bf16"]["value"]]
    limit = 560 if run.options.only else 90 if run.options.quick else 240
    try:
        run.call(step, limit + 60, sys.executable, "bench/gpu/encoder.py", "--bench", run.bin / "bench_gpu_encoder",
                 "--work", BUILD / "models", "--device", run.device, "--data", run.data, "--limit", limit, "--json",
                 answer, "--markdown", text, *extra)
    finally: # also where one network failed
        if answer.exists():
            run.figures["encoder"] = json.loads(answer.read_text())
            run.tables += text.read_text().splitlines()


@contextlib.contextmanager
def utilisation(samples: list[tuple[float, float, float]]):
    """Adds (unix time, per cent busy, MiB taken) of the GPU to samples, ten times a second, while its block runs."""
    query = ["nvidia-smi", "--query-gpu=timestamp,utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "100"]
    try:
        watch = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
    except OSError: # nothing to watch: a host run
        yield
        return
    try:
        yield
    finally:
        watch.terminate()
        for line in watch.communicate()[0].splitlines():
            with contextlib.suppress(ValueError): # a line cut short, a value that this GPU does not tell
                when, busy, taken = line.split(", ")
                at = datetime.datetime.strptime(when, "%Y/%m/%d %H:%M:%S.%f").timestamp()
                samples.append((at, float(busy), float(taken)))


PARTS = ("alone", "ingest", "one", "saturated")


def photos_of(run: Run, step: Step, name: str, extra: list[object]) -> dict:
    """One network's way from JPEG bytes to ids, with what nvidia-smi saw of the GPU meanwhile."""
    model, work, answer = BUILD / "models" / name.replace("/", "-"), BUILD / "photos", BUILD / "photos.json"
    shutil.rmtree(work, ignore_errors=True)
    run.call(step, 120, sys.executable, "bench/encoder/shapes.py", name, model)
    samples: list[tuple[float, float, float]] = []
    with utilisation(samples):
        run.call(step, 200, run.bin / "bench_gpu_photos", "--device", run.device, "--model", model, "--work", work,
                 "--photos", run.data / "photos", "--json", answer, *extra)
    shutil.rmtree(work)
    found = json.loads(answer.read_text())
    for part in (found[name] for name in PARTS):
        busy = [b for at, b, _ in samples if part["began"] <= at <= part["began"] + part["seconds"]]
        part["gpu_busy"] = sum(busy) / len(busy) / 100 if busy else None
    return found | {"model": name}


def photos(run: Run, step: Step) -> None:
    if importlib.util.find_spec("numpy") is None:
        raise Missing(f"{sys.executable} has no NumPy")
    names, extra = ["ViT-B/32", "ViT-L/14"], []
    if HOST_RUN:
        names, extra = ["smoke-clip"], ["--count", 40, "--queries", 5, "--images", 200, "--seconds", 10]
    elif run.options.quick:
        names, extra = names[:1], ["--count", 8000]
    run.figures["photos"] = [photos_of(run, step, name, extra) for name in names]
    run.tables += photo_lines(run.figures["photos"])
    for found in run.figures["photos"]:
        for what, (early, late) in found["saturated"]["memory"].items():
            if what != "images" and late > early + GROWTH_ALLOWED:
                raise RuntimeError(f"{found['model']}: the {what}'s memory grew from {early} to {late} bytes")


def photo_lines(photographs: list[dict]) -> list[str]:
    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.0%}"

    rows, notes = [], []
    for found in photographs:
        for name in PARTS:
            part = found[name]
            rows.append([found["model"], name, part["images"], f"{part['images_s']:.0f}", share(part["cores_share"]),
                         share(part["device_share"]), share(part["gpu_busy"])])
        one, memory = found["one"], found["saturated"]["memory"]
        notes.append(f"- {found['model']}: JPEG bytes to ids, one picture: p50 {one['p50_ms']:.3f} ms, p99 {one['p99_ms']:.3f} ms, of it "
                     f"decoding {one['decode_p50_ms']:.3f} and {one['decode_p99_ms']:.3f} ms; while building, decode threads were "
                     f"busy {found['ingest']['decode_busy']:.0%} and the encoder {found['ingest']['encoder_busy']:.0%}; memory after {memory['images'][0]} and "
                     f"{memory['images'][1]} pictures (of {found['saturated']['asked']} asked for, as many as there was time for): process "
                     f"{memory['process'][0] / 1e6:.0f} and {memory['process'][1] / 1e6:.0f} MB, device {memory['device'][0] / 1e6:.0f} and "
                     f"{memory['device'][1] / 1e6:.0f} MB; {found['photographs']} photographs of {found['mean_bytes'] / 1e3:.0f} kB, "
                     f"{found['threads']} threads")
    header = ["model", "JPEG bytes to", "pictures", "images/s", "cores busy", "of the encoder alone", "nvidia-smi: GPU busy"]
    return table(header, rows) + notes + [""]


# ---- what is kept --------------------------------------------------------------------------------------------------


def table(header: list[str], rows: list[list[object]]) -> list[str]:
    return ["| " + " | ".join(map(str, row)) + " |" for row in [header, ["---"] * len(header), *rows]] + [""]


def report_lines(run: Run, about: dict[str, str]) -> list[str]:
    lines = [f"# {about['chip']}, {about['date']}, {about['commit']}", "", f"Driver and memory: {about['driver']}.", ""]
    lines += table(["step", "outcome", "seconds"], [[s.name, s.outcome, f"{s.seconds:.0f}"] for s in run.steps])
    if "limits" in run.figures:
        rows = [[name, f"{v['value']:.4g}", v["unit"]] for name, v in run.figures["limits"].items()]
        lines += table(["limit", "measured", "unit"], rows)
    peer_qps = {p["batch"]: p["qps"] for p in run.figures.get("peer", {}).get("points", [])}
    for i, one in enumerate(run.figures.get("search", [])):
        lines += [f"{one['set']}, {one['spec']}: train {one['train_s']:.2f} s, add {one['add_s']:.2f} s, exact search "
                  f"{one['exact_qps']:.0f} queries/s", ""]
        rows = [[p["batch"], p["asked"], f"{p['recall']:.4f}", f"{p['qps']:.0f}", f"{p['p50_us']:.1f}",
                 f"{p['p99_us']:.1f}", f"{peer_qps[p['batch']]:.0f}" if i == 0 and p["batch"] in peer_qps else ""]
                for p in one["points"]]
        lines += table(["batch", "asked", "recall@10", "queries/s", "p50 us", "p99 us", "PyTorch exact"], rows)
    lines += run.tables
    return lines


def keep(run: Run) -> None:
    if HOST_RUN:
        chip, driver = "host run", "none: kernels ran on the CPU, and times mean nothing"
    else:
        query = subprocess.run([tool("nvidia-smi"), "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                               capture_output=True, text=True, check=True).stdout.splitlines()[0]
        chip, driver = query.split(", ", 1)
    about = {"chip": chip, "driver": driver, "date": str(datetime.date.today()), "commit": commit(run)}
    name = f"gpu-{re.sub(r'[^a-z0-9]+', '-', chip.lower())}-{about['date']}"
    text = "\n".join(report_lines(run, about))
    steps = [{"name": s.name, "outcome": s.outcome, "seconds": round(s.seconds, 1)} for s in run.steps]
    data = json.dumps(about | {"steps": steps} | run.figures, indent=1) + "\n"
    places = [BUILD if chip == "host run" else ROOT / "bench" / "results"]
    if os.environ.get("OUT"):
        places.append(Path(os.environ["OUT"]))
    for place in places:
        (place / f"{name}.md").write_text(text)
        (place / f"{name}.json").write_text(data)
    print(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="six minutes instead of fifteen")
    parser.add_argument("--only", type=lambda text: text.split(","), help="the names of steps, with commas")
    parser.add_argument("--pack", action="store_true", help="build here for a machine that has none of our libraries")
    parser.add_argument("--architectures", default="all", help="of the packed build: all, or as CMake names them")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    run = Run(options)
    if options.pack:
        return pack(run)
    if not HOST_RUN:
        try:
            subprocess.run([tool("nvidia-smi"), "-L"], check=True, stdout=subprocess.DEVNULL)
        except (Missing, subprocess.CalledProcessError):
            say("gpu: no GPU that nvidia-smi can see: there is nothing to do here. ./dev gpu --pack makes a file for a machine\n"
                "gpu: that has one but none of our libraries")
            return 1
    step = Step("programs")
    try:
        programs(run, step)
    except RuntimeError as error:
        say("\n".join("\n".join(step.log).splitlines()[-30:]))
        say(f"gpu: building: {error}. Where this machine has not the libraries that README.md lists under Requirements, make\n"
            "gpu: build/gpu-pack.tar.xz with ./dev gpu --pack on one that has them, and bring it here")
        return 1
    for work in (parity, engine, system, sanitize, resources, limits, kernels, search, peer, encoder,
                 photos):
        run.step(work.__name__, lambda step, work=work: work(run, step))
    keep(run)
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
