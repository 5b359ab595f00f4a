"""Write docs/operators.md, what is understood of each operator, from the table of operators and the passes' rules.

python -m tools.operators
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from onnx_clp.compaction import rules
from onnx_clp.gradient.rules import FLAT, GRADIENTS
from onnx_clp.operators import compute
from onnx_clp.operators.nodes import MICROSOFT
from onnx_clp.operators.table import TABLE
from onnx_clp.operators.traits import Kind, Operator, Trait

PAGE: Final = Path(__file__).parent.parent / "docs" / "operators.md"
HEAD: Final = """# What is understood of each operator

Written by `python -m tools.operators` from `onnx_clp/operators/table.py` and the passes' own rules; a test holds both
together. What a row claims is tried on ONNX's reference implementation (on ONNX Runtime where that has none), and what
it does not claim has a counterexample there (`tests/test_table.py`). An operator that is not listed is not understood:
what comes after it is not followed, and the report says so.

All of it is about the first output and the first operand, whatever the other operands are. Attributes that are left out
have their defaults, and borders are padded with nothing; passes look at attributes where that matters.

| column | what holds |
|---|---|
| type, rank, shape | the element type, the number of axes, all sizes stay |
| zero | zeros everywhere give zeros everywhere |
| even | one number everywhere gives that number everywhere |
| channel | channel c, on axis 1, comes from channel c alone |
| moves | the same entries in another order or shape, each once |
| factor | a factor above 0 on the operand is the same factor on the output |
| sign | no entry changes its sign, though it may become 0 |
| order | a larger entry gives no smaller one |
| computed | where all inputs are constant, the output is worked out |
| gradient | a gradient passes it, or is known to be 0 |
| compacted | channels that do nothing are followed through it and taken out |
"""
COLUMNS: Final = {
    "type": Trait.TYPE,
    "rank": Trait.RANK,
    "shape": Trait.SHAPE,
    "zero": Trait.ZERO,
    "even": Trait.EVEN,
    "channel": Trait.CHANNELS,
    "moves": Trait.MOVES,
    "factor": Trait.SCALE,
    "sign": Trait.SIGN,
    "order": Trait.ORDER,
}
ASIDE: Final = {
    Trait.NEUTRAL: "further zeros change nothing",
    Trait.READS_SHAPE: "reads sizes alone",
    Trait.RANDOM: "random",
    Trait.SIZED_BY_DATA: "depends on content in size or course",
    Trait.ROUNDS: "gives quantised values",
}


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(part for kind in Kind for part in _section(kind))])


def _section(kind: Kind) -> list[str]:
    names = [*COLUMNS, "computed", "gradient", "compacted", "besides"]
    table = [f"| operator | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    return [f"## {kind.value.capitalize()}\n", *table, *(_line(row) for row in TABLE.values() if row.kind is kind), ""]


def _line(row: Operator) -> str:
    own = not row.domain
    ticks = [trait in row.traits for trait in COLUMNS.values()]
    ticks.append(own and row.name in compute.EVALUATORS)
    ticks.append(own and (row.name in GRADIENTS or row.name in FLAT))
    ticks.append((row.domain, row.name) in rules.FOLLOWED)
    name = f"{row.name} ({MICROSOFT})" if row.domain else row.name
    aside = "; ".join(words for trait, words in ASIDE.items() if trait in row.traits)
    return f"| {name} | {' | '.join('x' if tick else '' for tick in ticks)} | {aside} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
