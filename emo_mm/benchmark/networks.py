"""The networks of the runtimes: each takes a batch of images to the raw outputs of a model.

Each function that a row of ``RUNTIMES`` names takes a contestant and a batch of its images, to trace or record
the network with.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.subjects import Size
from emo_mm.config.catalog import CATALOG
from emo_mm.errors import UserError
from emo_mm.models.pyramid import MobilePyramid

DTYPE_OF = {'fp32': torch.float32, 'tf32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}

# An nn.Module with parameters where a training step is measured, and the whole model where `e2e` is.
Network = Callable[[Tensor], Any]


def place(model: nn.Module, contestant: Contestant) -> nn.Module:
    """Return a model on its device, in its dtype and mode.

    In inference the weights take the dtype; in training they stay in float32 and autocast casts.
    """
    model = model.to(contestant.device)
    if not contestant.trains:
        model = model.to(DTYPE_OF[contestant.dtype])
    if contestant.mode == 'train-cp':
        for module in model.modules():
            _recompute(module)
    # Some peers cache tensors when they switch to eval mode, which no `to` moves: they must switch again.
    return model.train(not contestant.trains).train(contestant.trains)


def _recompute(module: nn.Module) -> None:
    """Let a module that can recompute its activations in the backward pass do so."""
    if hasattr(module, 'with_cp'):
        setattr(module, 'with_cp', True)  # noqa: B010


def fold(model: nn.Module, size: Size) -> nn.Module:
    """Return a copy for inference with norms folded: ours by ``fuse``, a peer's BatchNorms by mmcv.

    Args:
        model: The network, which stays as it is.
        size: Height and width of an image that it takes.

    Raises:
        UserError: If the copy of a peer answers something else: mmcv takes a BatchNorm that is listed after a
            convolution to be called after it, which is not so in every network.
    """
    if any(isinstance(module, MobilePyramid) for module in model.modules()):
        from emo_mm.models.inference.fuse import fuse

        return fuse(model)
    from mmcv.cnn import fuse_conv_bn

    model = deepcopy(model).eval()
    _randomise_statistics(model)  # those of a fresh BatchNorm would hide a wrong fold
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = _tensors(model(image))
        try:
            folded = fuse_conv_bn(model)
            after = _tensors(folded(image))
        except RuntimeError as error:  # it paired a convolution with a norm of another width
            raise UserError(f"mmcv's folding of BatchNorms does not fit this network: {error}") from error
    pairs = zip(before, after, strict=True)
    if not all(torch.allclose(x, y, rtol=1e-3, atol=1e-3 * float(x.abs().max())) for x, y in pairs):
        raise UserError("mmcv's folding of BatchNorms changes what it answers")
    return folded


def _randomise_statistics(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


def _tensors(outputs: Any) -> list[Tensor]:
    """Return the tensors of nested outputs, in order."""
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


def eager(contestant: Contestant, images: Tensor) -> nn.Module:
    """Return the network as built."""
    return place(contestant.subject.build(for_inference=not contestant.trains), contestant)


def reference(contestant: Contestant, images: Tensor) -> nn.Module:
    """Return the plain formulation, with the parameters of the network as built."""
    from emo_mm.benchmark.plain import PlainClassifier

    model = place(contestant.subject.build(for_inference=False), contestant)
    return PlainClassifier(CATALOG[str(contestant.subject.config)].backbone, model)


def fused(contestant: Contestant, images: Tensor) -> nn.Module:
    """Return the network with norms folded."""
    return place(fold(contestant.subject.build(for_inference=True), contestant.size), contestant)


def compiled(contestant: Contestant, images: Tensor) -> Network:
    """Return the compiled network, in inference with frozen weights, which folds the norms of the peers as well."""
    as_built = contestant.trains or contestant.subject.is_peer
    model = eager(contestant, images) if as_built else fused(contestant, images)
    if not contestant.trains:
        import torch._inductor.config as inductor

        inductor.freezing = True
    return torch.compile(model)


def onnx(contestant: Contestant, images: Tensor) -> Network:
    """Return the exported network in ONNX Runtime."""
    from emo_mm.benchmark.exported import onnx_network

    return onnx_network(_deploy_form(contestant), images, contestant.threads)


def openvino(contestant: Contestant, images: Tensor) -> Network:
    """Return the exported network in OpenVINO."""
    from emo_mm.benchmark.exported import openvino_network

    return openvino_network(_deploy_form(contestant), images, contestant.threads)


def _deploy_form(contestant: Contestant) -> nn.Module:
    """Return the form that is exported: ours as `emo-mm export` makes it, a peer as built."""
    from emo_mm.export.traceable import deploy_form

    model = contestant.subject.build(for_inference=True)
    return model if contestant.subject.is_peer else deploy_form(model, contestant.size)


def cudagraphs(contestant: Contestant, images: Tensor) -> Network:
    """Return a function that replays the kernels of the fused network, recorded once for one batch in its place."""
    model = eager(contestant, images) if contestant.subject.is_peer else fused(contestant, images)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):  # what the first calls choose and allocate must not be recorded
            model(images)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        outputs = model(images)

    def replay(batch: Tensor) -> Any:
        if batch.data_ptr() != images.data_ptr():
            images.copy_(batch)
        graph.replay()
        return outputs

    return replay
