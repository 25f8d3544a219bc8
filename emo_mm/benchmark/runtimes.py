"""The ways to run a model: one row each in a table. An exported format is one more row."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.subjects import Size
from emo_mm.config.catalog import CATALOG
from emo_mm.errors import UserError
from emo_mm.models.pyramid import MobilePyramid

DTYPE_OF = {'fp32': torch.float32, 'tf32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}

# What a row of the table makes: from a batch of images to the network's raw outputs. It is an nn.Module with
# parameters where a training step is measured, and the whole model where `e2e` is.
Network = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Runtime:
    """A way to run a model.

    Attributes:
        summary: What it is, for the documentation.
        prepare: Makes the network of a contestant, given a batch of images for whatever has to see one.
        modes: Modes that it can run.
        devices: Kinds of device that it runs on.
        keeps_freed_memory: Whether its process sets the C allocator as our tools do on a CPU.
        in_torch: Whether torch computes, and allocates what the network needs.
        fits: Tells why it cannot run a model of the allowed modes and devices; empty if it can.
    """

    summary: str
    prepare: Callable[[Contestant, Tensor], Network]
    modes: tuple[str, ...] = ('forward', 'e2e', 'train', 'train-cp')
    devices: tuple[str, ...] = ('cpu', 'cuda')
    keeps_freed_memory: bool = True
    in_torch: bool = True
    fits: Callable[[Contestant], str] = lambda contestant: ''


def why_not(runtime: Runtime, contestant: Contestant) -> str:
    """Return why a runtime cannot run a contestant, empty if it can."""
    if contestant.mode not in runtime.modes:
        return f'it runs {", ".join(runtime.modes)}'
    if contestant.device.split(':')[0] not in runtime.devices:
        return f'it needs a device of {", ".join(runtime.devices)}'
    if contestant.mode == 'e2e' and contestant.dtype in ('bf16', 'fp16'):
        return 'the toolboxes post-process in float32'
    return runtime.fits(contestant)


def place(model: nn.Module, contestant: Contestant) -> nn.Module:
    """Return a model on its device, in its dtype and mode.

    In inference the weights take the dtype; in training they stay in float32 and autocast casts.
    """
    model = model.to(contestant.device)
    if not contestant.trains:
        model = model.to(DTYPE_OF[contestant.dtype])
    if contestant.mode == 'train-cp':
        for module in model.modules():
            if hasattr(module, 'with_cp'):
                setattr(module, 'with_cp', True)  # noqa: B010
    # Some peers cache tensors when they switch to eval mode, which no `to` moves: they must switch anew.
    return model.train(not contestant.trains).train(contestant.trains)


def fold(model: nn.Module, size: Size) -> nn.Module:
    """Return a copy for inference with norms folded: ours by ``fuse``, a peer's BatchNorms by mmcv.

    Args:
        model: The network, which stays as it is.
        size: Height and width of an image that it takes.

    Raises:
        UserError: If the copy of a peer answers something else: mmcv takes a BatchNorm that is listed after a
            convolution to follow it, which not every network keeps.
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
            raise UserError(f"mmcv's folding of BatchNorms does not fit it: {error}") from error
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


def _eager(contestant: Contestant, images: Tensor) -> nn.Module:
    return place(contestant.subject.build(for_inference=not contestant.trains), contestant)


def _reference(contestant: Contestant, images: Tensor) -> nn.Module:
    from emo_mm.benchmark.plain import PlainClassifier

    model = place(contestant.subject.build(for_inference=False), contestant)
    return PlainClassifier(CATALOG[str(contestant.subject.config)].backbone, model)


def _fused(contestant: Contestant, images: Tensor) -> nn.Module:
    return place(fold(contestant.subject.build(for_inference=True), contestant.size), contestant)


def _compiled(contestant: Contestant, images: Tensor) -> Network:
    """Compile; in inference with frozen weights, which folds the norms of the peers as well."""
    as_built = contestant.trains or contestant.subject.is_peer
    model = _eager(contestant, images) if as_built else _fused(contestant, images)
    if not contestant.trains:
        import torch._inductor.config as inductor

        inductor.freezing = True
    return torch.compile(model)


def _onnx(contestant: Contestant, images: Tensor) -> Network:
    from emo_mm.benchmark.exported import onnx_network

    return onnx_network(_deploy_form(contestant), images, contestant.threads)


def _openvino(contestant: Contestant, images: Tensor) -> Network:
    from emo_mm.benchmark.exported import openvino_network

    return openvino_network(_deploy_form(contestant), images, contestant.threads)


def _deploy_form(contestant: Contestant) -> nn.Module:
    """Return the form that is exported: ours as `emo-mm export` makes it, a peer as built."""
    from emo_mm.export.traceable import deploy_form

    model = contestant.subject.build(for_inference=True)
    return model if contestant.subject.is_peer else deploy_form(model, contestant.size)


def _not_exportable(*packages: str) -> Callable[[Contestant], str]:
    def fits(contestant: Contestant) -> str:
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            return f"it needs {' and '.join(missing)}: pip install 'emo-mm[export-openvino]'"
        return '' if contestant.dtype == 'fp32' else 'exported networks are measured in float32'

    return fits


def _cudagraphs(contestant: Contestant, images: Tensor) -> Network:
    """Record the kernels of the fused network once, for a batch that stays in place, and replay them."""
    model = _eager(contestant, images) if contestant.subject.is_peer else _fused(contestant, images)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):  # what is chosen and allocated at the first call must not be recorded
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


def _no_reference(contestant: Contestant) -> str:
    from emo_mm.benchmark.plain import oracle_path

    oracle_path()  # raises outside of a clone
    return '' if contestant.subject.has_reference else 'the plain formulation is that of the published classifiers'


RUNTIMES: dict[str, Runtime] = {
    'reference': Runtime(
        'the plain formulation of the tests: NCHW, a permute on each side of LayerNorm, explicit window copies, '
        "attention as two matrix products, the process's own allocator settings",
        _reference,
        modes=('forward', 'train'),
        keeps_freed_memory=False,
        fits=_no_reference,
    ),
    'eager': Runtime('as built', _eager),
    'fused': Runtime(
        'norms folded: emo_mm.models.inference.fuse, or for a peer mmcv.cnn.fuse_conv_bn',
        _fused,
        modes=('forward', 'e2e'),
    ),
    'compiled': Runtime(
        'torch.compile of the fused network with frozen weights (of a peer as built); in training, of the network as '
        'built',
        _compiled,
        modes=('forward', 'train'),
    ),
    'onnx': Runtime(
        'the network as `emo-mm export` writes it (a peer as built), of one fixed size, in ONNX Runtime',
        _onnx,
        modes=('forward',),
        devices=('cpu',),
        keeps_freed_memory=False,
        in_torch=False,
        fits=_not_exportable('onnx', 'onnxscript', 'onnxruntime'),
    ),
    'openvino': Runtime(
        'the same in OpenVINO',
        _openvino,
        modes=('forward',),
        devices=('cpu',),
        keeps_freed_memory=False,
        in_torch=False,
        fits=_not_exportable('onnx', 'onnxscript', 'openvino'),
    ),
    'cudagraphs': Runtime(
        'the fused network (a peer as built) recorded as a CUDA graph and replayed',
        _cudagraphs,
        modes=('forward',),
        devices=('cuda',),
    ),
}
