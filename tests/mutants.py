"""Mutants: a serialised message changed at random, by its bytes or by its fields, the same for the same seed.

Nothing here knows what a field means: the fields come from the message's own description, so that every part
of the format is reached. What means something is drawn into them: names from the same model (which rewires
it), numbers at the edges, text that tries to speak to a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto

_MOST_SLOTS = 20_000
_MOST_BYTES = 1 << 18
_INTEGERS = (0, 1, -1, 2, 3, 7, 8, 16, 64, 255, 65_537, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-5, -1e-5, 1e-45, 3e38, -3e38, float("inf"), float("-inf"), float("nan"))
_TEXTS = ("", "\x1b[2J", "\n::error::x", "##[error]x", "..", "/etc/passwd", "é" * 50, "Conv", "BatchNormalization")

_MESSAGE = FieldDescriptor.CPPTYPE_MESSAGE
_STRING = FieldDescriptor.CPPTYPE_STRING
_REALS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}

Slot = tuple[Message, Any]


def mutate(data: bytes, seed: int) -> bytes:
    """Return a serialised ModelProto changed in one place, by its bytes one time in four, else by its fields."""
    random = Random(seed)
    if random.randrange(4) == 0:
        return _bytes_changed(data, random)
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return _bytes_changed(data, random)
    before = model.SerializeToString()
    for _ in range(20):  # a change may come to nothing, such as swapping two equal values
        _field_changed(model, random)
        after = model.SerializeToString()
        if after != before:
            return after if len(after) <= _MOST_BYTES else data
    return data


def _bytes_changed(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    end = min(len(data), at + 1 + int(random.expovariate(0.1)))
    new = (
        data[:at],
        data[:at] + data[end:],
        data[:at] + data[at:end] * 2 + data[end:],
        data[:at] + random.randbytes(end - at) + data[end:],
        data[:at] + bytes(b ^ (1 << random.randrange(8)) for b in data[at : at + 1]) + data[at + 1 :],
        data + data[at:end],
    )
    return random.choice(new)


def _field_changed(model: ModelProto, random: Random) -> None:
    slots = list(_slots(model))
    message, field = random.choice(slots)
    if field.is_repeated:
        _repeated_changed(slots, message, field, random)
    elif field.cpp_type == _MESSAGE:
        _message_changed(slots, message, field, random)
    elif random.randrange(4) == 0:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(slots, field, random))


def _slots(model: Message) -> Iterator[Slot]:
    """Every field of every message in the model, set or not."""
    found, waiting = 0, [model]
    while waiting and found < _MOST_SLOTS:
        message = waiting.pop()
        for field in message.DESCRIPTOR.fields:
            found += 1
            yield message, field
            if field.cpp_type == _MESSAGE:
                value = getattr(message, field.name)
                waiting.extend(value if field.is_repeated else [value] * message.HasField(field.name))


def _repeated_changed(slots: list[Slot], message: Message, field: Any, random: Random) -> None:
    values = getattr(message, field.name)
    changes: list[Callable[[list[Any]], list[Any]]] = [
        lambda old: [v for n, v in enumerate(old) if n != random.randrange(len(old) or 1)],
        lambda old: [*old, *random.sample(old, min(len(old), 1))],
        lambda old: random.sample(old, len(old)),
        lambda old: old[: random.randrange(len(old) + 1)],
        lambda old: [*old, _item(slots, field, random)],
        lambda old: [_item(slots, field, random) if random.randrange(2) else v for v in old],
    ]
    text = field.type == FieldDescriptor.TYPE_STRING
    new = random.choice(changes)([_copy(v) for v in values if not text or isinstance(v, str)])
    message.ClearField(field.name)
    getattr(message, field.name).extend(new)


def _message_changed(slots: list[Slot], message: Message, field: Any, random: Random) -> None:
    others = [m for m, _ in slots if m.DESCRIPTOR is field.message_type]
    if not others or random.randrange(3) == 0:
        message.ClearField(field.name)
    else:
        other = _copy(random.choice(others))
        getattr(message, field.name).CopyFrom(other)


def _item(slots: list[Slot], field: Any, random: Random) -> Any:
    if field.cpp_type != _MESSAGE:
        return _value(slots, field, random)
    others = [m for m, _ in slots if m.DESCRIPTOR is field.message_type]
    return _copy(random.choice(others)) if others else field.message_type._concrete_class()


def _value(slots: list[Slot], field: Any, random: Random) -> Any:
    """A value for a field of a plain type: one of the same kind that stands elsewhere, or an odd one."""
    if random.randrange(2):
        alike = [v for m, f in slots if f.type == field.type for v in _values(m, f)]
        if alike:
            return random.choice(alike)
    if field.cpp_type == _STRING:
        text = random.choice(_TEXTS)
        return text if field.type == FieldDescriptor.TYPE_STRING else text.encode()
    if field.cpp_type in _REALS:
        return random.choice(_FLOATS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    low, high = _RANGES.get(field.cpp_type, (-(2**63), 2**63 - 1))
    return random.choice([n for n in (*_INTEGERS, *range(9)) if low <= n <= high])


def _values(message: Message, field: Any) -> list[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:  # another's value may be none of this one's
        return []
    value = getattr(message, field.name)
    values = list(value[:8]) if field.is_repeated else [value] * message.HasField(field.name)
    # Text that is no UTF-8 is read as bytes, and cannot be set.
    return [v for v in values if field.type != FieldDescriptor.TYPE_STRING or isinstance(v, str)]


def _copy(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    copy = type(value)()
    copy.CopyFrom(value)
    return copy
