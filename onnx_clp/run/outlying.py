"""The channels of a run that stand out, branch by branch, with what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from onnx_clp.config import CleanConfig
from onnx_clp.graph.index import GraphIndex
from onnx_clp.judge.expected import Expectations, Expected
from onnx_clp.judge.prune_channels import Branch, LayerVerdict


@dataclass(frozen=True, slots=True, eq=False)
class Outlying:
    """The channels of one branch of one verdict that stand out, at the run's threshold or a lower one of its sweep.

    `mask` marks them among the branch's; `expected` is None where nothing tells what they give.
    """

    at: int
    number: int
    verdict: LayerVerdict
    branch: Branch
    mask: NDArray[np.bool_]
    expected: Expected | None

    @property
    def scope(self) -> GraphIndex:
        """The scope of its layer."""
        return self.verdict.rewrite.layer.scope

    @property
    def value(self) -> str:
        """The value whose channels these are."""
        return self.branch.value or self.verdict.rewrite.layer.output

    @property
    def channels(self) -> int:
        """How many channels the value has."""
        run = self.branch.normalisation
        return self.verdict.rewrite.layer.channels if run is None else len(run.affine.scale)

    @property
    def axis_from_end(self) -> int:
        """Where the value's channels are."""
        run = self.branch.normalisation
        return self.verdict.rewrite.layer.axis_from_end if run is None else run.view.axis_from_end

    @property
    def places(self) -> NDArray[np.int_]:
        """The channels among those of the value."""
        return np.flatnonzero(self.mask) + self.branch.start

    @property
    def chosen(self) -> NDArray[np.int_]:
        """Those of them that stand out at the run's threshold."""
        return np.flatnonzero(self.branch.outliers.outlying) + self.branch.start

    @property
    def fills(self) -> bool:
        """Whether a silent channel can give another value than 0."""
        run = self.branch.normalisation
        return run is None or run.can_fill


def standing_out(verdicts: Sequence[LayerVerdict], expectations: Expectations, config: CleanConfig) -> list[Outlying]:
    """What stands out at the lowest threshold asked for; nothing where nothing is to be pruned."""
    return outlying(verdicts, expectations, min(config.u, *config.sweep, config.u)) if config.prune else []


def outlying(verdicts: Sequence[LayerVerdict], expectations: Expectations, least: float) -> list[Outlying]:
    """Every branch with a channel that stands out at the threshold `least`, in the order of the verdicts.

    A layer too small to be judged at the run's threshold may be large enough at a lower one.
    """
    found = []
    for at, verdict in enumerate(verdicts):
        for number, (branch, mask) in enumerate(zip(verdict.branches, verdict.outlying(least), strict=False)):
            wide = mask | branch.outliers.outlying
            if wide.any():
                one = Outlying(at, number, verdict, branch, wide, None)
                found.append(replace(one, expected=expectations.of(one.scope, one.value, one.channels)))
    return found
