"""What can be said of an operator: its kind, what it keeps of its first operand, and where its operands are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto


class Kind(Enum):
    """What an operator does, in a few words that go into the documents."""

    LINEAR = "sums products over channels"
    RECURRENT = "recurrent"
    ATTEND = "attends"
    POINTWISE = "entry by entry, of one operand"
    JOINT = "entry by entry, of several operands that broadcast"
    COMPARE = "compares entry by entry"
    RETYPE = "changes the type"
    LAYOUT = "moves entries"
    RESAMPLE = "resamples an image"
    POOL = "pools places"
    GLOBAL_POOL = "pools all places"
    REDUCE = "reduces axes"
    NORMALISE = "normalises"
    SHARE = "shares among classes"
    PICK = "picks along an axis"
    RUNNING = "sums up along an axis"
    QUANTISE = "quantises"
    SCATTER = "writes into places"
    SEARCH = "finds places"
    SIZES = "reads sizes"
    MAKE = "makes entries"
    CONTROL = "runs graphs"


class Trait(Flag):
    """What holds of the first output and the first operand, whatever the other operands are.

    Attributes that are left out have their defaults, and borders are padded with nothing.
    """

    TYPE = auto()
    """The element type stays."""
    RANK = auto()
    """The number of axes stays."""
    SHAPE = auto()
    """All sizes stay."""
    ZERO = auto()
    """Zeros everywhere give zeros everywhere."""
    EVEN = auto()
    """One number everywhere gives that number everywhere."""
    CHANNELS = auto()
    """Channel c, on axis 1, comes from channel c alone."""
    MOVES = auto()
    """The same entries in another order or shape, each once."""
    SCALE = auto()
    """A factor above 0 on the operand is the same factor on the output."""
    SIGN = auto()
    """No entry changes its sign, though it may become 0; the shape stays."""
    ORDER = auto()
    """A larger entry gives no smaller one; the shape stays."""
    NEUTRAL = auto()
    """Further entries that are 0 change nothing."""
    READS_SHAPE = auto()
    """The content of the operand does not matter, its sizes do."""
    RANDOM = auto()
    """Another result every time."""
    SIZED_BY_DATA = auto()
    """What it gives depends in its size, or in how it is computed, on the content of an operand."""
    ROUNDS = auto()
    """Its output is a quantised value."""


ENTRY = Trait.TYPE | Trait.RANK | Trait.SHAPE | Trait.CHANNELS
"""Every entry by itself."""
NOTHING = Trait(0)


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table.

    Attributes:
        weight: the slot of the second factor, for what sums products.
        every_output: whether what is said holds of every output, not only of the first.
    """

    name: str
    kind: Kind
    traits: Trait = NOTHING
    domain: str = ""
    weight: int = 1
    every_output: bool = False
