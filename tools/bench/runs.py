"""What a run costs, against what it cannot do without: `python -m tools.bench.runs [--quick] [--big] [--also PYTHON]`.

Every table is one interleaved run (A B A B …) on models made here with random weights; its figures are medians
and its ratios are to its first row. CPU seconds are user and system together, from wait4; memory is the peak
resident set. A time alone says little: other work on the machine, its clock and its disk are in it.

onnxslim, onnxsim and torch are compared with where this interpreter, or one that --also names, has them; what is
missing is said and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.bench.processes import MIB, Contender, Cost, interleave, median

_SAVE = "import onnx, sys; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])"
_COPY = (
    "import os, shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2]); "
    "f = os.open(sys.argv[2], os.O_RDWR); os.fsync(f); os.close(f)"
)
_SLIM = "import onnxslim, sys; onnxslim.slim(sys.argv[1], sys.argv[2])"
_SIM = "import onnx, onnxsim, sys; m, ok = onnxsim.simplify(sys.argv[1]); onnx.save(m, sys.argv[2])"
_BIG_BYTES = 3 << 30
# a width's weights grow with its square
_WIDTHS = {"1 MB": 8, "12 MB": 32, "45 MB": 64, "180 MB": 128, "1 GB": 304}
_STANDARD = 64
_FAMILIES = "from tools.bench.families import FAMILIES; print(*FAMILIES)"
_PACKAGES = {"onnxslim": _SLIM, "onnxsim": _SIM}
_FIND = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) is None for n in sys.argv[1:]))"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a contender's medians, and their ratios to the first line's."""

    name: str
    cost: Cost
    cpu_ratio: float
    wall_ratio: float
    peak_ratio: float


Table = list[Row]


class Bench:
    """Makes models in a folder and runs contenders on them."""

    def __init__(self, folder: Path, rounds: int, also: Sequence[str] = ()) -> None:
        self.folder, self.rounds = folder, rounds
        self._interpreters = (sys.executable, *also)
        self._out = folder / "out"
        self._out.mkdir()

    def model(self, kind: str, size: int = 0) -> Path:
        """A model of `tools.bench.models`, made by a process of its own on first use."""
        path = self.folder / f"{kind}{size}.onnx"
        if not path.exists():
            subprocess.run([sys.executable, "-m", "tools.bench.models", kind, str(size), str(path)], check=True)
        return path

    def clean(self, model: Path, *options: str) -> Contender:
        """The product on a model."""
        out = self._out / "clean.onnx"
        # -q, --no-config: the table, the line about the provider and the settings of this project are no part of it
        command = (sys.executable, "-m", "onnx_clp", str(model), str(out), "--overwrite", "-q", "--no-config", *options)
        return Contender(" ".join(["onnx_clp", *options]), command, self._empty)

    def having(self, *packages: str) -> str | None:
        """An interpreter that has all of `packages`; None, and a line that says so, where there is none."""
        for interpreter in self._interpreters:
            if subprocess.run([interpreter, "-c", _FIND, *packages], check=False).returncode == 0:
                return interpreter
        print(f"{' and '.join(packages)}: not installed, left out\n", flush=True)
        return None

    def script(self, name: str, code: str, model: Path, interpreter: str = sys.executable) -> Contender:
        """A line of Python that takes an input and an output path."""
        command = (interpreter, "-c", code, str(model), str(self._out / "other.onnx"))
        return Contender(name, command, self._empty)

    def _empty(self) -> None:
        for path in self._out.iterdir():
            path.unlink()

    def table(self, *contenders: Contender, rounds: int | None = None) -> Table:
        """Run them in turn; the first is what the others are compared with."""
        costs = {n: median(c) for n, c in interleave(contenders, rounds or self.rounds).items()}
        base = costs[contenders[0].name]
        return [
            Row(n, c, c.cpu / max(base.cpu, 1e-9), c.wall / max(base.wall, 1e-9), c.peak / base.peak)
            for n, c in costs.items()
        ]


def whole_process(bench: Bench) -> Table:
    """The 45 MB ResNet-18 against load and save, and against other tools where they are installed."""
    model = bench.model("resnet18", _STANDARD)
    rows = [bench.script("onnx.save(onnx.load())", _SAVE, model), bench.clean(model, "--no-validate")]
    # Five of its channels stand out by chance, and cost what the gauge costs: at 9 none does.
    rows += [bench.clean(model, "-u", "9"), bench.clean(model)]
    for package, code in _PACKAGES.items():
        if (interpreter := bench.having(package, "onnx")) is not None:
            rows.append(bench.script(package, code, model, interpreter))
    return bench.table(*rows)


def start_up(bench: Bench) -> Table:
    """What a run costs before it has any work: `--version`, and a model of three nodes."""
    model = bench.model("tiny")
    version = Contender("onnx_clp --version", (sys.executable, "-m", "onnx_clp", "--version"))
    save = bench.script("onnx.save(onnx.load())", _SAVE, model)
    return bench.table(save, bench.clean(model, "--no-validate"), bench.clean(model), version)


def by_size(size: str) -> Callable[[Bench], Table]:
    """A ResNet-18 of another width against load and save."""

    def run(bench: Bench) -> Table:
        model = bench.model("resnet18", _WIDTHS[size])
        return bench.table(
            bench.script("onnx.save(onnx.load())", _SAVE, model), bench.clean(model, "--no-validate"), rounds=3
        )

    return run


def by_nodes(kind: str, small: int, large: int) -> Callable[[Bench], Table]:
    """A long chain against one of a quarter its length: four times the cost is linear."""

    def run(bench: Bench) -> Table:
        rows = []
        for size in (small, large):
            found = bench.clean(bench.model(kind, size), "--no-validate")
            rows.append(Contender(f"{size:,} {kind}", found.command, found.before))
        return bench.table(*rows, rounds=1)

    return run


def families(small: int, large: int) -> Callable[[Bench], Table]:
    """Every family of graphs at two sizes, one row each; the ratio is to the same family at the smaller size."""

    def run(bench: Bench) -> Table:
        rows: Table = []
        # Asked of another process, so that this one stays small.
        names = subprocess.run([sys.executable, "-c", _FAMILIES], check=True, capture_output=True, text=True)
        for name in names.stdout.split():
            rows += by_nodes(name, small, large)(bench)
        return rows

    return run


def big(bench: Bench) -> Table:
    """3 GiB of external data, every Conv judged, against a copy of the data file."""
    model = bench.model("big", _BIG_BYTES)
    data = model.with_name(f"{model.name}.data")
    copy = bench.script("copyfile and fsync", _COPY, data)
    return bench.table(copy, bench.clean(model, "--no-validate"), rounds=1)


def scoring(bench: Bench, size: str) -> dict[str, float]:
    """CPU seconds of scoring a ResNet-18's convolutions, the product's way and by a loop of SVDs."""
    interpreter = bench.having("torch", "numpy", "scipy") or sys.executable
    rounds = min(bench.rounds, 3) if _WIDTHS[size] <= _STANDARD else 1
    command = [interpreter, "-m", "tools.bench.scoring", str(rounds), str(_WIDTHS[size])]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return {str(k): float(v) for k, v in json.loads(found.stdout).items()}


def per_100_mb(found: dict[str, Table]) -> str:
    """CPU seconds that 100 MB more of weights cost, from the smallest to the largest model measured; or nothing."""
    points = []
    for size, width in _WIDTHS.items():
        rows = found.get(f"ResNet-18 of {size}", [])
        points += [(width**2, row.cost.cpu) for row in rows if row.name.startswith("onnx_clp --no-validate")]
    if len(points) < 2:
        return ""
    (small, low), (large, high) = min(points), max(points)
    slope = (high - low) / (large - small) * _STANDARD**2 / 45 * 100
    return f"Beyond start-up: {slope:.2f} CPU seconds per 100 MB, without validation.\n"


def tables(arguments: argparse.Namespace) -> dict[str, Callable[[Bench], Table]]:
    """The tables asked for, by title."""
    chosen: dict[str, Callable[[Bench], Table]] = {
        "ResNet-18, 45 MB, 20 Conv+BN": whole_process,
        "Start-up: three nodes": start_up,
    }
    chosen.update({f"ResNet-18 of {size}": by_size(size) for size in arguments.sizes})
    shrink = 10 if arguments.quick else 1
    chosen["Conv+BN+Relu chains"] = by_nodes("folds", 2500 // shrink, 10_000 // shrink)
    chosen["Relu chains"] = by_nodes("relus", 5000 // shrink, 20_000 // shrink)
    chosen["Families of graphs, one size and twice it"] = families(8000 // shrink, 16_000 // shrink)
    if arguments.big:
        chosen["3 GiB of external data"] = big
    return chosen


def shown(title: str, table: Table) -> str:
    """A table as Markdown."""
    lines = [
        f"### {title}",
        "",
        "| | CPU s | ratio | wall s | ratio | peak MiB | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table:
        cost = row.cost
        lines.append(
            f"| {row.name} | {cost.cpu:.2f} | {row.cpu_ratio:.2f} | {cost.wall:.2f} | {row.wall_ratio:.2f} "
            f"| {cost.peak / MIB:.0f} | {row.peak_ratio:.2f} |"
        )
    return "\n".join([*lines, ""])


def shown_scoring(size: str, seconds: dict[str, float]) -> str:
    """The scoring figures as Markdown; the ratio says how many times longer a loop takes."""
    base = seconds["onnx_clp sigma"]
    lines = [f"### Scoring the convolutions of ResNet-18, {size}", "", "| | CPU s | ratio |", "|---|--:|--:|"]
    lines += [f"| {name} | {value:.3f} | {value / base:.1f} |" for name, value in seconds.items()]
    return "\n".join([*lines, ""])


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models and two rounds")
    parser.add_argument("--big", action="store_true", help="also 3 GiB of external data (needs 10 GB of disk)")
    parser.add_argument("--rounds", type=int, default=0, help="runs of each command (default 7; 2 with --quick)")
    parser.add_argument("--folder", type=Path, help="where the models are made (default: a temporary folder)")
    parser.add_argument("--sizes", type=_sizes, help=f"model sizes, of {', '.join(_WIDTHS)} (default: all but 45 MB)")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="tables whose title has this, such as ResNet, Scoring"
    )
    parser.add_argument(
        "--also", action="append", default=[], metavar="PYTHON", help="an interpreter with other tools (repeatable)"
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args(argv)
    if arguments.sizes is None:
        arguments.sizes = ["1 MB"] if arguments.quick else [size for size in _WIDTHS if size != "45 MB"]
    return arguments


def _sizes(text: str) -> list[str]:
    sizes = [size.strip() for size in text.split(",")]
    unknown = [size for size in sizes if size not in _WIDTHS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(_WIDTHS)}")
    return sizes


def main(argv: Sequence[str]) -> None:
    """Run the tables asked for and print them."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.folder) as name:
        folder = Path(name)
        # Installed packages are compiled once; so is this checkout, in a folder that goes with the models.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        bench = Bench(folder, arguments.rounds or (2 if arguments.quick else 7), arguments.also)
        print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n", flush=True)
        found: dict[str, Table] = {}
        for title, make in tables(arguments).items():
            if arguments.only not in title:
                continue
            found[title] = make(bench)
            print(shown(title, found[title]), flush=True)
        print(per_100_mb(found), flush=True)
        scores = {}
        for size in dict.fromkeys([*arguments.sizes, "45 MB"] if arguments.only in "Scoring" else []):
            scores[size] = scoring(bench, size)
            print(shown_scoring(size, scores[size]), flush=True)
        if arguments.json is not None:
            plain = {title: [asdict(row) for row in table] for title, table in found.items()}
            arguments.json.write_text(json.dumps({**plain, "scoring": scores}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
