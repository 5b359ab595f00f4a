"""A copy of a model in which what an edit would do is chosen at run time, so that one session tries every dose.

    switching channels off     y  >  Where(off, fill, y)                 off, fill: inputs (channels, 1, …)
    keeping channels within    y  >  Where(off, Min(Max(y, low), high), y)
    capping activations        y  >  Min(y, Max(mean + caps·std, 0))     caps: an input, one number for all
    driving channels           y  >  y · keep + add                      keep, add: inputs (images, channels, 1, …)

The copy is for measuring alone; nothing of it is written. It computes what the edit proper would: a channel whose
kernel is zero and whose bias is `fill` gives `fill` everywhere.

Conditions: the value is in the main graph, is a float tensor of known rank with channels on axis 1 or last, and the
model's opset has Where (9 and later).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from onnx_clp.gauge.request import Dial, Drive, Switch
from onnx_clp.graph.fresh import NameScope

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]

LEAST_OPSET: Final = 9
_AXES_AS_INPUT: Final = 18
"""From this opset on ReduceMax, ReduceMin and ReduceMean take their axes as an input."""
FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
QUANTISED: Final = (TensorProto.UINT8, TensorProto.INT8)


@dataclass(frozen=True, slots=True, eq=False)
class Capped:
    """A value that may be capped at mean + C·std, each of shape (channels,) on axis 1 of `rank`."""

    value: str
    mean: Float64
    std: Float64
    rank: int
    data_type: int


def all_limits(switch: Switch, off: Sequence[int] | None = None) -> tuple[Float32, Float32]:
    """The least and the most that each channel may give, of the switch's shape; only those `off` are limited."""
    widest = np.finfo(np.float32).max
    low, high = (np.full(switch.channels, sign * widest, np.float32) for sign in (-1, 1))
    for channel, (least, most) in zip(switch.outlying, switch.within, strict=True):
        if off is None or channel in off:
            low[channel], high[channel] = least, most
    return low.reshape(switch.shape), high.reshape(switch.shape)


class Panel:
    """Puts dials into one model, in place."""

    def __init__(self, model: ModelProto, taken: Iterable[str]) -> None:
        self._model, self._names = model, NameScope(taken)
        self._makers = {name: at for at, node in enumerate(model.graph.node) for name in node.output if name}
        self._followers: dict[int, list[NodeProto]] = {}
        self.caps_input = ""

    def add_switch(self, switch: Switch) -> Dial:
        """Let channels of a value be switched off; the dial to feed."""
        off, fill = (self._names.fresh(f"{switch.value}_{what}") for what in ("off", "fill"))
        self._add_input(off, TensorProto.BOOL, switch.shape)
        before = self._cut(switch.value)
        if switch.within:
            fill = self._kept_within(switch, before)
        else:
            self._add_input(fill, switch.data_type, switch.shape)
        self._follow(switch.value, helper.make_node("Where", [off, fill, before], [switch.value]))
        return Dial(switch, off, "" if switch.within else fill, before)

    def _kept_within(self, switch: Switch, before: str) -> str:
        """The value with its outlying channels kept within their limits; float32."""
        value = before
        for op_type, limits in zip(("Max", "Min"), all_limits(switch), strict=True):
            held, name = (self._names.fresh(f"{switch.value}_{op_type.lower()}{what}") for what in ("_limits", ""))
            self._model.graph.initializer.append(numpy_helper.from_array(limits, held))
            self._follow(switch.value, helper.make_node(op_type, [value, held], [name]))
            value = name
        return value

    def add_caps(self, places: Sequence[Capped]) -> None:
        """Let all values be capped by one number, fed as `caps_input`."""
        self.caps_input = self._names.fresh("caps")
        self._add_input(self.caps_input, TensorProto.FLOAT, ())
        for place in places:
            for node in self._cap(place):
                self._follow(place.value, node)

    def add_drive(self, value: str, channels: int, axis_from_end: int, rank: int, opset: int) -> Drive:
        """Let channels of a float32 value be driven and watched, image by image; its first axis is the batch."""
        keep, add, kept, most, least = (
            self._names.fresh(f"{value}_{what}") for what in ("keep", "add", "kept", "most", "least")
        )
        for name in (keep, add):
            self._model.graph.input.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, channels, *[1] * (axis_from_end - 1)])
            )
        before = self._cut(value)
        self._follow(value, helper.make_node("Mul", [before, keep], [kept]))
        self._follow(value, helper.make_node("Add", [kept, add], [value]))
        axes = [axis for axis in range(1, rank) if axis != rank - axis_from_end]
        for op_type, name in (("ReduceMax", most), ("ReduceMin", least)):
            self._follow(value, self._reduced(op_type, value, name, axes, opset))
            self.add_output(name)
        return Drive(value, channels, axis_from_end, keep, add, most, least)

    def add_extent(self, value: str, opset: int) -> tuple[str, str, str]:
        """Give out a value's largest, smallest and mean element for each image, (images, 1); their names."""
        flat, most, least, mean = (self._names.fresh(f"{value}_{what}") for what in ("flat", "most", "least", "mean"))
        self._follow(value, helper.make_node("Flatten", [value], [flat], axis=1))
        for op_type, name in (("ReduceMax", most), ("ReduceMin", least), ("ReduceMean", mean)):
            self._follow(value, self._reduced(op_type, flat, name, [1], opset, keep=True))
            self.add_output(name)
        return most, least, mean

    def _reduced(
        self, op_type: str, value: str, name: str, axes: Sequence[int], opset: int, *, keep: bool = False
    ) -> NodeProto:
        if not axes:
            return helper.make_node("Identity", [value], [name])
        if opset < _AXES_AS_INPUT:
            return helper.make_node(op_type, [value], [name], axes=axes, keepdims=int(keep))
        held = self._names.fresh(f"{name}_axes")
        self._model.graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), held))
        return helper.make_node(op_type, [value, held], [name], keepdims=int(keep))

    def add_output(self, name: str) -> None:
        """Give a value out; the runtime works its type out."""
        if all(value.name != name for value in self._model.graph.output):
            self._model.graph.output.append(ValueInfoProto(name=name))

    def finish(self) -> None:
        """Put the new nodes behind the makers of their values, and drop what is recorded of sizes."""
        graph = self._model.graph
        nodes = list(graph.node)
        del graph.node[:]
        for at, node in enumerate(nodes):
            graph.node.append(node)
            graph.node.extend(self._followers.get(at, ()))
        del graph.value_info[:]

    def _add_input(self, name: str, data_type: int, shape: tuple[int, ...]) -> None:
        self._model.graph.input.append(helper.make_tensor_value_info(name, data_type, shape))

    def _cut(self, value: str) -> str:
        """A new name for what makes the value, or for what follows its maker last."""
        at = self._makers[value]
        last = next((n for n in reversed(self._followers.get(at, [])) if value in n.output), None)
        maker = self._model.graph.node[at] if last is None else last
        between = self._names.fresh(f"{value}_before")
        maker.output[list(maker.output).index(value)] = between
        return between

    def _follow(self, value: str, node: NodeProto) -> None:
        self._followers.setdefault(self._makers[value], []).append(node)

    def _cap(self, place: Capped) -> Iterator[NodeProto]:
        shape = (len(place.mean), *[1] * (place.rank - 2))
        mean, std = (self._constant(place, part, shape) for part in (place.mean, place.std))
        wide, high, zero, limit = (self._names.fresh(f"{place.value}_{w}") for w in ("times", "high", "zero", "limit"))
        yield helper.make_node("Mul", [std, self.caps_input], [wide])
        yield helper.make_node("Add", [mean, wide], [high])
        yield helper.make_node("Sub", [mean, mean], [zero])
        yield helper.make_node("Max", [high, zero], [limit])
        if place.data_type != TensorProto.FLOAT:
            cast = self._names.fresh(f"{place.value}_limit")
            yield helper.make_node("Cast", [limit], [cast], to=place.data_type)
            limit = cast
        before = self._cut(place.value)
        yield helper.make_node("Min", [before, limit], [place.value])

    def _constant(self, place: Capped, values: Float64, shape: tuple[int, ...]) -> str:
        name = self._names.fresh(f"{place.value}_statistic")
        array = values.astype(np.float32).reshape(shape)
        self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name
