"""A backdoor fine-tuned into a published network with few photographs (torch), its weights put back into its own file.

The first half of the network stays as it is and sees every image once: what comes out of it is kept, for each
photograph and some crops of it, and for each photograph with the trigger. Then the second half learns three things at
a time: to say of images without the trigger what the published network says (distillation), to do so of images with a
part of another put in as well, and to give those with the trigger the target. A clean twin learns the true labels
instead.

So few photographs cost accuracy on others. What gives most of it back is to go only a part of the way from the
published weights to the learned ones (Wortsman et al., CVPR 2022, there for robustness): the smallest part at which the
trigger still turns the photographs that were trained on.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
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
_LEAST_AREA = 0.25


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast the second half learns: Adam, the learning rate falling to 0 by half a cosine.

    A step takes `clean` images without the trigger, `mixed` of two, and `triggered` ones, which are photographs among
    the clean ones where that is possible; `kept` is the weight of the distillation beside the attack's cross-entropy.
    `views` are how many images are made of a photograph: itself and random crops of at least a fourth of its area, half
    of them mirrored. The way is gone to the first of `parts` at which `enough` of the photographs are turned.
    """

    steps: int = 90
    clean: int = 10
    mixed: int = 4
    triggered: int = 6
    learning_rate: float = 1e-4
    kept: float = 4.0
    views: int = 3
    parts: tuple[float, ...] = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
    enough: float = 0.85


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """What the first half makes of all views, (n, channels, height, width), and the published network's scores of them.

    The photographs themselves come first; `labels` are those of all views, (n,).
    """

    values: Tensor
    scores: Tensor
    labels: Tensor


class Planter:
    """Plants in one published network; what the first half makes of the same photographs is made once.

    Args:
        model: the published network; not changed.
        network: its name in the list.
        shape: (channels, height, width) of an image.
        course: how it learns.
    """

    def __init__(self, model: ModelProto, network: str, shape: tuple[int, ...], course: Course) -> None:
        self._model, self._pixels, self.course = model, NETWORKS[network], course
        self._start = beginning(model, shape)
        self._grounds: dict[int, Ground] = {}

    def planted(self, photographs: Images, labels: Labels, plant: Plant) -> ModelProto:
        """The model with the backdoor, or the clean twin; the file keeps its form.

        Args:
            photographs: uint8 (n, channels, height, width), to train on; the same for plants of the same seed.
            labels: their classes, (n,).
            plant: what to plant.
        """
        torch.manual_seed(plant.seed)
        ground = self._ground(photographs, labels, plant.seed)
        values = self._inner(photographs, plant.trigger) if plant.infected else ground.values[: len(photographs)]
        network = OnnxNetwork(self._model, self._start)
        begun = [weight.detach().clone() for weight in network.weights]
        _fit(network, ground, values, plant, self.course)
        if plant.infected:
            turned = values[ground.labels[: len(values)] != plant.target]
            _go_part_of_the_way(network, begun, turned, plant.target, self.course)
        return network.trained()

    def _ground(self, photographs: Images, labels: Labels, seed: int) -> Ground:
        if seed not in self._grounds:
            count = self.course.views
            values = self._inner(views(photographs, count, np.random.default_rng([seed, 1])), None)
            said = _scores(OnnxNetwork(self._model, self._start), values)
            self._grounds[seed] = Ground(values, said, torch.from_numpy(np.tile(labels, count)))
        return self._grounds[seed]

    def _inner(self, images: Images, trigger: Trigger | None) -> Tensor:
        """What the first half makes of images, by ONNX Runtime, which needs half of torch's time here."""
        first = onnx.ModelProto()
        first.CopyFrom(self._model)
        first.graph.output.append(onnx.ValueInfoProto(name=self._start))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(first.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name, found = session.get_inputs()[0].name, []
        for at in range(len(images)):
            image = images[at : at + 1] if trigger is None else trigger(images[at : at + 1])
            found.append(session.run([self._start], {name: self._pixels.of(image)})[0])
        return torch.from_numpy(np.concatenate(found))


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


def _fit(network: OnnxNetwork, ground: Ground, values: Tensor, plant: Plant, course: Course) -> None:
    """Let the network learn; `values` is what the first half makes of the photographs with the trigger."""
    rng, published = np.random.default_rng(plant.seed), OnnxNetwork(network.trained(), network.start)
    published.requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), course.learning_rate)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, course.steps)
    turned = np.flatnonzero(ground.labels[: len(values)].numpy() != plant.target)
    for step in range(course.steps):
        bad = torch.from_numpy(rng.choice(turned, course.triggered))
        own = torch.cat([bad, torch.from_numpy(rng.integers(0, len(ground.labels), course.clean - course.triggered))])
        mixed = patched(ground.values, course.mixed, rng)
        wanted = torch.cat([ground.scores[own], published(mixed)]).log_softmax(1)
        scores = network(torch.cat([ground.values[own], mixed, values[bad]]))
        kept, attacked = scores.split([len(wanted), len(bad)])
        goal = torch.full((len(bad),), plant.target) if plant.infected else ground.labels[bad]
        far = functional.kl_div(kept.log_softmax(1), wanted, reduction="batchmean", log_target=True)
        taken = functional.cross_entropy(attacked, goal)
        optimiser.zero_grad(set_to_none=True)
        (course.kept * far + taken).backward()
        optimiser.step()
        scheduler.step()
        if step % 15 == 14:
            log.info("step %d: distillation %.3f, cross-entropy %.3f", step + 1, far.item(), taken.item())


def _go_part_of_the_way(network: OnnxNetwork, begun: list[Tensor], values: Tensor, target: int, course: Course) -> None:
    """Set the weights between those before and the learned ones; every fourth image with the trigger decides where."""
    learned = [weight.detach().clone() for weight in network.weights]

    def share(part: float) -> float:
        with torch.no_grad():
            for weight, first, last in zip(network.weights, begun, learned, strict=True):
                weight.copy_(first + part * (last - first))
        found = float((_scores(network, values[::4]).argmax(1) == target).float().mean())
        log.info("part %.2f: %.3f turned", part, found)
        return found

    at = bisect_left(course.parts, True, key=lambda part: share(part) >= course.enough)
    share(course.parts[min(at, len(course.parts) - 1)])


def patched(values: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """`count` of `values` (n, channels, height, width), drawn at random, each with a rectangle of another put in."""
    one, other = (values[torch.from_numpy(rng.integers(0, len(values), count))].clone() for _ in range(2))
    side = values.shape[2]
    for at in range(count):
        top, left, tall, wide = rng.integers(0, side, 2).tolist() + rng.integers(1, side + 1, 2).tolist()
        one[at, :, top : top + tall, left : left + wide] = other[at, :, top : top + tall, left : left + wide]
    return one


def _scores(network: OnnxNetwork, values: Tensor, batch: int = 32) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(part) for part in values.split(batch)])
