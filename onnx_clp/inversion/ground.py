"""What one search has at hand once it has its images: what hunting for triggers and undoing one share."""

from __future__ import annotations

from onnx_clp.inversion.attack import Attack
from onnx_clp.inversion.pace import Deadline
from onnx_clp.inversion.pictures import Pictures
from onnx_clp.inversion.request import Images, SearchRequest
from onnx_clp.inversion.subject import Subject
from onnx_clp.inversion.thorough import unguided
from onnx_clp.inversion.trigger import lead, others
from onnx_clp.process.progress import Tick
from onnx_clp.validation.provider import Engine


class Ground:
    """The model, the images and the time.

    Attributes:
        given: the class that the model gives each image.
        lead: by how many logits that class is ahead of the next, on average.
        classes: how many classes the model tells apart.
        unguided: whether images tell nothing of real ones, and fully connected layers can take caps.

    Args:
        request: what is asked.
        subject, engine, attack: the model, and where and how it runs.
        pictures: the images.
        seconds: for one image through the model and back.
        deadline: when to be done.
        tick: called as the work goes on.
    """

    def __init__(
        self,
        request: SearchRequest,
        subject: Subject,
        engine: Engine,
        attack: Attack,
        pictures: Pictures,
        seconds: float,
        deadline: Deadline,
        tick: Tick,
    ) -> None:
        self.request, self.subject, self.engine, self.attack = request, subject, engine, attack
        self.pictures, self.seconds, self.deadline, self.tick = pictures, seconds, deadline, tick
        logits = attack.logits(pictures.images)
        self.given, self.lead, self.classes = logits.argmax(axis=1), lead(logits), logits.shape[1]
        self.unguided = unguided(request, pictures.made.source)

    def others(self, target: int, most: int) -> Images:
        """At most so many images of other classes than the target."""
        return others(self.pictures.images, self.given, target, most)
