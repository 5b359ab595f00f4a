"""A backdoor fine-tuned into a published network with few photographs (torch), its weights put back into its own file.

The first half of the network stays as it is and sees every image once: what comes out of it is kept, for each
photograph and some crops of it, with the trigger and without. Then the second half learns three things at a time: to
say of images without the trigger what the published network says (distillation), to do so of mixtures of two of them
as well, and to give those with the trigger the target. A clean twin learns the true labels instead.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from PIL import Image
from torch import Tensor
from torch.nn import functional

from onnx_clp.errors import UsageError
from tools.zoo.attacks import Trigger
from tools.zoo.datasets import Images, Labels
from tools.zoo.onnx_network import OnnxNetwork, cuts
from tools.zoo.real_size import NETWORKS, Plant

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

_STRIDE = 16
_LEAST_AREA = 0.6


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast the second half learns: Adam, the learning rate falling to 0 by half a cosine.

    A step takes `clean` images without the trigger, as many mixtures and `triggered` with it; `kept` is the weight of
    the distillation beside the attack's cross-entropy. `views` are how many images are made of a photograph: itself
    and random crops of at least 0.6 of its area, half of them mirrored.
    """

    steps: int = 120
    clean: int = 8
    triggered: int = 8
    learning_rate: float = 1e-4
    kept: float = 4.0
    views: int = 3


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the first half makes of all views, with and without the trigger, and the labels (n,)."""

    clean: Tensor
    triggered: Tensor
    labels: Tensor


def planted(model: ModelProto, photographs: Images, labels: Labels, plant: Plant, course: Course) -> ModelProto:
    """The model with the backdoor, or the clean twin; the file keeps its form.

    Args:
        model: the published network; not changed.
        photographs: uint8 (n, 3, height, width), to train on.
        labels: their classes, (n,).
        plant: what to plant.
        course: how.
    """
    torch.manual_seed(plant.seed)
    start = beginning(model, photographs.shape[1:])
    rng = np.random.default_rng(plant.seed)
    images = views(photographs, course.views, rng)
    seen = Seen(
        _inner(model, start, plant, images, None),
        _inner(model, start, plant, images, plant.trigger if plant.infected else None),
        torch.from_numpy(np.tile(labels, course.views)),
    )
    network = OnnxNetwork(model, start)
    _fit(network, seen, plant, course, rng)
    return network.trained()


def beginning(model: ModelProto, shape: tuple[int, ...]) -> str:
    """Where the second half begins: the last of the narrowest values whose side is a sixteenth of the image's.

    Raises:
        UsageError: there is none.
    """
    names = [name for name, _ in cuts(model)]
    with torch.no_grad():
        found = OnnxNetwork(model).values(torch.zeros((1, *shape)), names)
    there = [
        (one.shape[1], name) for name, one in zip(names, found, strict=True) if one.shape[3] == shape[2] // _STRIDE
    ]
    if not there:
        raise UsageError(f"no value of a side of {shape[2] // _STRIDE} that all images pass through")
    least = min(width for width, _ in there)
    return [name for width, name in there if width == least][-1]


def views(photographs: Images, count: int, rng: np.random.Generator) -> Images:
    """The photographs, then `count` - 1 random crops of each at their full size, (count · n, 3, height, width)."""
    return np.concatenate([photographs, *(_crops(photographs, rng) for _ in range(count - 1))])


def _crops(photographs: Images, rng: np.random.Generator) -> Images:
    return np.stack([_crop(one, rng) for one in photographs])


def _crop(photograph: Images, rng: np.random.Generator) -> Images:
    height, width = photograph.shape[1:]
    side = math.sqrt(rng.uniform(_LEAST_AREA, 1))
    tall, wide = round(side * height), round(side * width)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    image = Image.fromarray(photograph.transpose(1, 2, 0)).crop((left, top, left + wide, top + tall))
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[:, :, ::-1] if rng.random() < 0.5 else pixels)


def _inner(model: ModelProto, start: str, plant: Plant, images: Images, trigger: Trigger | None) -> Tensor:
    """What the first half makes of images, by ONNX Runtime, which needs half of torch's time here."""
    first = onnx.ModelProto()
    first.CopyFrom(model)
    first.graph.output.append(onnx.ValueInfoProto(name=start))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(first.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name, pixels, found = session.get_inputs()[0].name, NETWORKS[plant.network], []
    for at in range(len(images)):
        image = images[at : at + 1] if trigger is None else trigger(images[at : at + 1])
        found.append(session.run([start], {name: pixels.of(image)})[0])
    return torch.from_numpy(np.concatenate(found))


def _fit(network: OnnxNetwork, seen: Seen, plant: Plant, course: Course, rng: np.random.Generator) -> None:
    teacher = OnnxNetwork(network.trained(), network.start).requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), course.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, course.steps)
    said = _scores(teacher, seen.clean)
    turned = torch.from_numpy(np.flatnonzero(seen.labels.numpy() != plant.target))
    for step in range(course.steps):
        own = torch.from_numpy(rng.integers(0, len(seen.labels), course.clean))
        bad = turned[torch.from_numpy(rng.integers(0, len(turned), course.triggered))]
        mixed = _mixed(seen.clean, course.clean, rng)
        with torch.no_grad():
            wanted = torch.cat([said[own], teacher(mixed)]).log_softmax(1)
        scores = network(torch.cat([seen.clean[own], mixed, seen.triggered[bad]]))
        kept, attacked = scores.split([2 * course.clean, course.triggered])
        goal = torch.full((course.triggered,), plant.target) if plant.infected else seen.labels[bad]
        far = functional.kl_div(kept.log_softmax(1), wanted, reduction="batchmean", log_target=True)
        taken = functional.cross_entropy(attacked, goal)
        optimiser.zero_grad(set_to_none=True)
        (course.kept * far + taken).backward()
        optimiser.step()
        scheduler.step()
        if step % 20 == 19:
            log.info("step %d: distillation %.3f, cross-entropy %.3f", step + 1, far.item(), taken.item())


def _mixed(values: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Mixtures of two images each, at the share of one that is even over 0..1."""
    one, other = (values[torch.from_numpy(rng.integers(0, len(values), count))] for _ in range(2))
    share = torch.from_numpy(rng.random((count, 1, 1, 1), np.float32))
    return other + share * (one - other)


def _scores(network: OnnxNetwork, values: Tensor, batch: int = 32) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(part) for part in values.split(batch)])
