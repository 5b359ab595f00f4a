"""Gradients of whole networks: against torch.autograd on the seven architectures, against differences on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_clp.gradient.differentiate import differentiate
from onnx_clp.gradient.loss import LossBuilder
from tests import corpus
from tests.gradients import runtime

ARCHITECTURES = ("resnet18", "preactresnet18", "vgg-bn", "mobilenetv2", "densenet", "se-net", "convnext")
EXPORTED = (
    "exported/tf/keras3.15.1_kerasexport_smallcnn.onnx",
    "exported/paddle/paddle3.3.1_p2o2.1.0_noopt_resnet.onnx",
    "exported/jax/jax2onnx0.17.1_nnx_resnet.onnx",
    "exported/real_torch/torch2.13.0_ts-default_mtcnn-onet.onnx",
    "exported/real_torch/torch2.13.0_ts-preserve_crepe-tiny.onnx",
    "exported/torch/torch2.13.0_ts-default_unet.onnx",
    "exported/torch/torch2.13.0_ts-op9-preserve_resnet.onnx",
    "exported/torch/torch2.13.0_dynamo-noopt_resnet.onnx",
    "exported/torch/torch2.13.0_ts-preserve_conv1d.onnx",
    "fetched/noconv/oww_alexa.onnx",
    "fetched/unit/test_ConvTranspose2d.onnx",
)


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_zoos_networks_agree_with_torch(architecture: str, folded: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch comes with the extra [zoo]")
    pytest.importorskip("onnxscript", reason="torch's exporter needs onnxscript, which comes with the extra [zoo]")
    from tools.zoo import export
    from tools.zoo.architectures import build

    torch.manual_seed(0)
    network = build(architecture, 3, 10).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    export.export(network, (3, 32, 32), tmp_path / "m.onnx", folded=folded)
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    builder = LossBuilder(onnx.load(str(tmp_path / "m.onnx")))
    loss = builder.cross_entropy(builder.logits())
    found = differentiate(builder.model, loss.name, ["images"])
    names = [found.scalar, found.gradients["images"]]
    value, gradient = runtime(found.model).run(names, {"images": images, builder.target: np.asarray([3, 0, 9])})
    x = torch.tensor(images, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(network.eval()(x), torch.tensor([3, 0, 9]))
    expected.backward()
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    assert np.abs(gradient - x.grad.numpy()).max() <= 1e-4 * float(x.grad.abs().max())


@pytest.mark.parametrize("name", EXPORTED)
def test_a_real_file_agrees_with_differences(name: str) -> None:
    """Σ r·y along a direction near the gradient; rounding to float32 and corners cost up to 1 % at the best step."""
    builder = LossBuilder(onnx.load(str(corpus.file(name))))
    graph_input = builder.model.graph.input[0]
    dims = [d.dim_value or 1 for d in graph_input.type.tensor_type.shape.dim]
    generator = np.random.default_rng(0)
    x = generator.random(dims, dtype=np.float32)
    last = builder.model.graph.output[0].name
    shape = runtime(builder.model).run([last], {graph_input.name: x})[0].shape
    output = builder.logits() if len(shape) == 2 else builder.value(last)
    loss = (output * builder.constant(generator.standard_normal(shape))).sum()
    found = differentiate(builder.model, loss.name, [graph_input.name], outputs=[])
    session = runtime(found.model)
    gradient = session.run([found.gradients[graph_input.name]], {graph_input.name: x})[0]
    along = gradient / np.abs(gradient).max()
    along += 0.2 * np.abs(along).mean() * generator.standard_normal(dims).astype(np.float32)
    errors = []
    for step in (1e-2, 3e-3, 1e-3, 3e-4):
        ends = [session.run([found.scalar], {graph_input.name: x + np.float32(s) * along})[0] for s in (step, -step)]
        measured, claimed = (float(ends[0]) - float(ends[1])) / (2 * step), float(np.vdot(gradient, along))
        errors.append(abs(measured - claimed) / abs(claimed))
    assert min(errors) <= 1e-2
