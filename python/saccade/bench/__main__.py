"""python -m saccade.bench: searching side by side with every peer.

Makes an environment of its own (build/peers), installs the peers into it, gets the data, finds the true neighbours by
FAISS's exhaustive search, builds every engine's indexes in processes of their own, tries each engine's grid of
settings, measures those that are worth it in shuffled order, and writes tables, plots, CSV and JSON. A run that was
stopped goes on where it was.

  python -m saccade.bench --smoke                                    a minute: does everything work here?
  python -m saccade.bench --data sift-photos --photos ~/Pictures     a million SIFT descriptors of your photos
  python -m saccade.bench --data vit-crops --photos DIR --model DIR  a million embeddings of crops by our own encoder
  python -m saccade.bench --data clusters-512                        generated: 1,000,000 x 512 (clusters-768: 200,000)
  python -m saccade.bench --data glove-100-angular.hdf5              a file of ann-benchmarks
  python -m saccade.bench --data base.1B.u8bin --limit 1000000 --queries query.u8bin
  python -m saccade.bench --data DIR                                 a folder with base.* and query.* in it
  python -m saccade.bench --data clusters-512 --engines saccade,faiss-ivfpq --seconds 600
  python -m saccade.bench --list                                     data sets, engines and their grids
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from . import arguments, environment, measure, plots, report
from . import data as data_sets
from .engines import ENGINES, Shape
from .run import Comparison, Options, say, words_of

BRUTE_FORCE_MAX = 50_000  # vectors up to which NumPy's exact search takes part unasked
SMOKE = {"repetitions": 1, "figure_seconds": 0.2, "builds": 1, "settings": 4}


def main() -> int:
    options = _arguments()
    if options.list:
        return _list()
    try:
        if environment.entered() is None and not options.here:
            environment.ready(options.environment, options.retry)
            environment.enter(options.environment, sys.argv[1:])
        for name in options.data:
            _compare(name, options)
    except (ValueError, OSError, RuntimeError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nbench: stopped; the same command goes on from here")
        return 1
    return 0


def _compare(name: str, options: argparse.Namespace) -> None:
    data = arguments.prepared(name, options)
    short = data.name
    say(f"{short}: {len(data.base):,} x {data.base.shape[1]}, {len(data.queries):,} queries; truth: {data.truth_by}")

    values = {f.name: getattr(options, f.name) for f in fields(Options) if f.name not in ("engines", "modes")}
    unasked = [n for n, e in ENGINES.items() if e.family != "exact" or len(data.base) <= BRUTE_FORCE_MAX]
    inside = environment.entered()
    chosen = Options(tuple(options.engines or unasked), tuple(options.modes), **values)
    comparison = Comparison(data, chosen, options.work, environment.why_missing(inside) if inside else {})
    if options.fresh:
        comparison.log.path.unlink(missing_ok=True)
        comparison.log.records.clear()
    comparison.run()

    found = report.results(comparison)
    stem = f"peers-{short}-{found['machine']['date'][:10]}"
    paths = report.write(found, options.out or options.work / "results", stem)
    paths += plots.draw(found, paths[0].parent, stem)
    print(paths[2].read_text())
    say(f"written: {' '.join(str(p) for p in paths)}")


def _list() -> int:
    print("Data sets by name (a file or a folder will do as well):")
    for name, named in data_sets.NAMES.items():
        print(f"  {name:<16} {named.words}")
    print("\nEngines, and the indexes of each for 1,000,000 x 128 under l2, the most promising first:")
    for name, engine in ENGINES.items():
        shape = Shape(1_000_000, 128, "l2")
        builds = engine.builds(shape)
        print(f"  {name:<16} {' '.join((engine.__doc__ or '').split())}")
        print(f"  {'':<16} builds: {'; '.join(words_of(b) or 'one' for b in builds)}")
        settings = engine.settings(shape, builds[0])
        print(f"  {'':<16} {len(settings)} searches: {words_of(settings[0]) or 'one'} ... {words_of(settings[-1])}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m saccade.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", action="append", metavar="NAME|FILE|DIR", help="what to search, also several times")
    arguments.add(parser)
    add("--engines", type=_engines, metavar="A,B", help=f"of {','.join(ENGINES)} (all)")
    add("--modes", type=_modes, default=tuple(measure.MODES), metavar="A,B",
        help="; ".join(f"{m.name}: {m.words}" for m in measure.MODES.values()))  # fmt: skip
    add("--seconds", type=float, default=0.0, metavar="S", help="of the whole run, at most; 0: as long as it takes")
    add("--figure-seconds", type=float, default=1.0, metavar="S", help="that a figure is measured for (1)")
    add("--repetitions", type=int, default=3, metavar="N", help="of every figure (3); the median counts")
    add("--builds", type=int, default=5, metavar="N", help="indexes of each engine (5; 0: its whole grid)")
    add("--settings", type=int, default=10, metavar="N", help="searches of each engine in each mode (10)")
    add("--batch", type=int, default=1_000, metavar="N", help="queries of a batch (1000)")
    add("--environment", type=Path, default=Path("build/peers"), metavar="DIR", help="of the peers (build/peers)")
    add("--retry", action="store_true", help="try to install again what could not be installed")
    add("--here", action="store_true", help="use this Python and whatever peers it has; install nothing")
    add("--fresh", action="store_true", help="measure everything again")
    add("--smoke", action="store_true", help="small data, one index each, few settings: a minute")
    add("--list", action="store_true", help="name the data sets, the engines and their grids")
    options = parser.parse_args()
    if options.smoke:
        for name, value in SMOKE.items():
            setattr(options, name, value)
        options.data = options.data or ["clusters-small"]
    for name in ("k", "batch", "repetitions", "settings"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}: 1 or more wanted")
    if not options.data and not options.list:
        parser.error("--data NAME, FILE or DIR must say what to search; --list names some, --smoke takes a small one")
    return options


def _engines(text: str) -> list[str]:
    unknown = [name for name in text.split(",") if name not in ENGINES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no engine {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    return text.split(",")


def _modes(text: str) -> list[str]:
    unknown = [name for name in text.split(",") if name not in measure.MODES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no mode {', '.join(unknown)}; there are {', '.join(measure.MODES)}")
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
