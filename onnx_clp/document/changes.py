"""The parts of the document that tell what became of the file: compaction, cleaning up, size before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class ChannelsKept:
    """Channels that do nothing and stayed in the file, and why."""

    channels: tuple[int, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class CompactedLayer:
    """One linear layer with channels that do nothing: those taken out, and those kept; `channels` counts all before."""

    name: str
    place: str
    op: str
    channels: int
    removed: tuple[int, ...]
    kept: tuple[ChannelsKept, ...]


@dataclass(frozen=True, slots=True)
class Compaction:
    """Channels taken out of the file: how many, and every layer that lost one or kept one that does nothing."""

    removed: int
    kept: int
    layers: tuple[CompactedLayer, ...]


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What was taken out without changing an output.

    `level` is what was asked for. `orphans` counts constants that this run left unused; the others are found with
    level "all" only. `no_ops` counts nodes by operator, `transposes` how many fewer are left of those pushed together.
    """

    level: str = "none"
    orphans: int = 0
    dead_nodes: int = 0
    no_ops: Mapping[str, int] = field(default_factory=dict)
    unused_initializers: int = 0
    duplicate_initializers: int = 0
    stale_records: int = 0
    transposes: int = 0

    def __bool__(self) -> bool:
        return bool(self.found)

    def __add__(self, other: Cleanup) -> Cleanup:
        """What both took out, by the level and with the orphans of the first."""
        no_ops = {op: self.no_ops.get(op, 0) + other.no_ops.get(op, 0) for op in sorted({*self.no_ops, *other.no_ops})}
        return replace(
            self,
            dead_nodes=self.dead_nodes + other.dead_nodes,
            no_ops=no_ops,
            unused_initializers=self.unused_initializers + other.unused_initializers,
            duplicate_initializers=self.duplicate_initializers + other.duplicate_initializers,
            stale_records=self.stale_records + other.stale_records,
            transposes=self.transposes + other.transposes,
        )

    @property
    def found(self) -> int:
        """Everything that level "all" took out."""
        stored = self.unused_initializers + self.duplicate_initializers + self.stale_records
        return self.dead_nodes + sum(self.no_ops.values()) + self.transposes + stored


@dataclass(frozen=True, slots=True)
class Footprint:
    """What one model takes: nodes, stored numbers, bytes on disk, multiply-accumulates and seconds of one run.

    `macs` counts Conv, ConvTranspose, Gemm, MatMul and their integer forms; `latency` is a median on the CPU. None
    where it is not known or was not measured.
    """

    nodes: int
    parameters: int
    bytes: int | None
    macs: int | None
    latency: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """The input and the result side by side; costs of a run are for inputs of `shapes`, times over `turns` turns.

    `latency_ratio` is the median over the turns of after / before; None where no time was measured.
    """

    before: Footprint
    after: Footprint
    shapes: Mapping[str, tuple[int, ...]]
    turns: int
    latency_ratio: float | None
