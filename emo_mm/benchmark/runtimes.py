"""The ways to run a model: one row each in a table. An exported format is one more row.

Neither torch nor a toolbox is imported before a network is prepared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from emo_mm.benchmark.contestant import Contestant

if TYPE_CHECKING:
    from torch import Tensor

    from emo_mm.benchmark.networks import Network


@dataclass(frozen=True)
class Runtime:
    """A way to run a model.

    Attributes:
        summary: What it is, for the documentation.
        network: ``module:function`` that makes the network of a contestant, imported when it is called.
        modes: Modes that it can run.
        devices: Kinds of device that it runs on.
        keeps_freed_memory: Whether its process sets the C allocator as our tools do on a CPU.
        in_torch: Whether torch computes, and allocates what the network needs.
        why_not: Returns why it cannot run a contestant of these modes and devices; empty if it can.
    """

    summary: str
    network: str
    modes: tuple[str, ...] = ('forward', 'e2e', 'train', 'train-cp')
    devices: tuple[str, ...] = ('cpu', 'cuda')
    keeps_freed_memory: bool = True
    in_torch: bool = True
    why_not: Callable[[Contestant], str] = lambda contestant: ''

    def prepare(self, contestant: Contestant, images: Tensor) -> Network:
        """Return the network of a contestant, given a batch of its images."""
        return resolve_name(self.network)(contestant, images)


def why_not(contestant: Contestant) -> str:
    """Return why a contestant cannot be run, empty if it can."""
    runtime = RUNTIMES[contestant.runtime]
    if contestant.mode not in runtime.modes:
        return f'it runs {", ".join(runtime.modes)}'
    if contestant.device.split(':')[0] not in runtime.devices:
        return f'it needs a device of {", ".join(runtime.devices)}'
    if contestant.mode == 'e2e' and contestant.dtype in ('bf16', 'fp16'):
        return 'the toolboxes post-process in float32'
    return runtime.why_not(contestant)


def _not_exportable(*packages: str) -> Callable[[Contestant], str]:
    def reason(contestant: Contestant) -> str:
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            return f"it needs {' and '.join(missing)}: pip install 'emo-mm[export-openvino]'"
        return '' if contestant.dtype == 'fp32' else 'exported networks are measured in float32'

    return reason


def _no_reference(contestant: Contestant) -> str:
    return '' if contestant.subject.has_reference else 'the plain formulation is that of the published classifiers'


RUNTIMES: dict[str, Runtime] = {
    'reference': Runtime(
        'the plain formulation (emo_mm.benchmark.reference): NCHW, a permute on each side of LayerNorm, explicit '
        "window copies, attention as two matrix products, the process's own allocator settings",
        'emo_mm.benchmark.networks:reference',
        modes=('forward', 'train'),
        keeps_freed_memory=False,
        why_not=_no_reference,
    ),
    'eager': Runtime('as built', 'emo_mm.benchmark.networks:eager'),
    'fused': Runtime(
        'norms folded: emo_mm.models.inference.fuse, or for a peer mmcv.cnn.fuse_conv_bn',
        'emo_mm.benchmark.networks:fused',
        modes=('forward', 'e2e'),
    ),
    'compiled': Runtime(
        'torch.compile of the fused network with frozen weights (of a peer as built); in training, of the network as '
        'built',
        'emo_mm.benchmark.networks:compiled',
        modes=('forward', 'train'),
    ),
    'onnx': Runtime(
        'the network as `emo-mm export` writes it (a peer as built), of one fixed size, in ONNX Runtime',
        'emo_mm.benchmark.networks:onnx',
        modes=('forward',),
        devices=('cpu',),
        keeps_freed_memory=False,
        in_torch=False,
        why_not=_not_exportable('onnx', 'onnxscript', 'onnxruntime'),
    ),
    'openvino': Runtime(
        'the same in OpenVINO',
        'emo_mm.benchmark.networks:openvino',
        modes=('forward',),
        devices=('cpu',),
        keeps_freed_memory=False,
        in_torch=False,
        why_not=_not_exportable('onnx', 'onnxscript', 'openvino'),
    ),
    'cudagraphs': Runtime(
        'the fused network (a peer as built) recorded as a CUDA graph and replayed',
        'emo_mm.benchmark.networks:cudagraphs',
        modes=('forward',),
        devices=('cuda',),
    ),
}
