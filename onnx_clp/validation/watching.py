"""A model that shows values inside it on the first feed it runs, so that they cost no run of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx_clp.validation.mapping import giving_out
from onnx_clp.validation.plan import Plan
from onnx_clp.validation.provider import Engine
from onnx_clp.validation.session import Feeds, OrtRunner, Outputs, Signature


class WatchingRunner:
    """A session that keeps inner values of its first run in `seen`; to all else it is the model without them."""

    def __init__(self, path: Path, names: Sequence[str], engine: Engine, plan: Plan) -> None:
        """Load the model at `path`, its large weights left in the file. Raises RunError."""
        model, own = giving_out(path, names)
        self._session, self._names = OrtRunner(path, engine, plan, model), tuple(names)
        self.provider = self._session.provider
        self.placed: Mapping[str, int] = self._session.placed
        self.inputs: Signature = self._session.inputs
        self.outputs: Signature = self._session.outputs[:own]
        self.seen: Outputs = {}

    def run(self, feeds: Feeds, wanted: Sequence[str] | None = None) -> Outputs:
        """Every output of the model by name, or those `wanted`. Raises RunError."""
        asked = [name for name, _ in self.outputs] if wanted is None else list(wanted)
        if self.seen:
            return self._session.run(feeds, asked)
        found = self._session.run(feeds, [*asked, *(name for name in self._names if name not in asked)])
        self.seen = {name: found[name] for name in self._names}
        inner = set(self._names) - set(asked)
        return {name: array for name, array in found.items() if name not in inner}
