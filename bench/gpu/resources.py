"""What the compiler says each kernel takes: registers, shared memory, stack, spills. Needs nvcc and no GPU.

    ./dev gpu-report [FILE.cu ...] [--arch sm_90a] [--json]

One line a kernel and set of template arguments. "warps" is how many of a multiprocessor's 64 the registers leave room
for; shared memory is what is declared, without what a launch asks for besides. Exits with 1 where a kernel spills.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REGISTERS, WARPS, LANES, GRAIN = 65536, 64, 32, 8  # of a multiprocessor; registers are given out 8 a lane at a time
PATTERN = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


def nvcc() -> str:
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin:/opt/cuda/bin")
    if found is None:
        sys.exit("resources: no nvcc: it comes with CUDA's toolkit")
    return found


def plain(name: str) -> str:
    """A demangled name without its parameters and namespaces."""
    name = re.sub(r"^void ", "", name.replace("(anonymous namespace)::", ""))
    library = re.match(r"cub::.*?::(\w+Kernel)\b", name)
    if library:
        return f"(CUB) {library[1]}"
    name = re.sub(r"\((?:int|unsigned int|bool|sac_\w+)\)", "", name)
    return re.sub(r"\([^()]*(?:\([^()]*\)[^()]*)*\)$", "", name).replace(", ", ",")


def resources(source: Path, arch: str) -> list[dict[str, object]]:
    command = [nvcc(), "-std=c++17", "-O3", f"-arch={arch}", "-Xptxas", "-v", "-I", ROOT, "-I", ROOT / "kernels",
               "-cubin", "-o", os.devnull, source]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"resources: {source}: {done.stderr}")
    found = [m.groupdict() for m in PATTERN.finditer(done.stderr)]
    names = subprocess.run(["c++filt"], input="\n".join(f["name"] for f in found), capture_output=True, text=True)
    rows = []
    for name, f in zip(names.stdout.splitlines(), found):
        registers = int(f["registers"])
        shared = re.search(r"(\d+) bytes smem", f["rest"])
        given = -(-registers // GRAIN) * GRAIN * LANES
        rows.append({"file": source.name, "kernel": plain(name), "registers": registers,
                     "warps": min(WARPS, REGISTERS // given), "shared": int(shared[1]) if shared else 0,
                     "stack": int(f["stack"]), "spilled": int(f["stores"]) + int(f["loads"])})
    return sorted(rows, key=lambda row: str(row["kernel"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="kernels; none: all")
    parser.add_argument("--arch", default="sm_90a", help="the GPU to compile for")
    parser.add_argument("--json", action="store_true", help="a list of objects")
    options = parser.parse_args()
    files = options.files or sorted((ROOT / "kernels" / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [row for part in pool.map(lambda file: resources(file, options.arch), files) for row in part]
    if options.json:
        print(json.dumps(rows))
    else:
        header = ["file", "kernel", "registers", "warps", "shared", "stack", "spilled"]
        cells = [header] + [[str(row[name]) for name in header] for row in rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
        for row in cells:
            print("  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip())
    return 1 if any(row["spilled"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
