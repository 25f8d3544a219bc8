"""The step that is timed, in each mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.networks import DTYPE_OF
from emo_mm.benchmark.runtimes import RUNTIMES
from emo_mm.benchmark.subjects import subject_config
from emo_mm.config.view import read_view


@dataclass(frozen=True)
class Step:
    """What is timed.

    Attributes:
        run: Does one step.
        trained: Parameters that it trains, where the memory kept for their gradients can be seen: neither in a
            compiled network nor in one that recomputes.
    """

    run: Callable[[], Any]
    trained: tuple[Tensor, ...] | None = None


def make_step(contestant: Contestant) -> Step:
    """Return the step of a contestant, with its network prepared."""
    if contestant.dtype == 'tf32':
        torch.set_float32_matmul_precision('high')
        torch.backends.cudnn.allow_tf32 = True
    elif contestant.device != 'cpu':
        torch.backends.cudnn.allow_tf32 = False  # on by default, and fp32 would be tf32
    images = example_images(contestant)
    network = RUNTIMES[contestant.runtime].prepare(contestant, images)
    if contestant.mode == 'forward':
        return _forward_step(network, images)
    if contestant.mode == 'e2e':
        return _end_to_end_step(network, contestant)
    assert isinstance(network, nn.Module)
    return _training_step(network, images, contestant)


def example_images(contestant: Contestant) -> Tensor:
    """Return a batch of random images of shape (N, 3, H, W) on the device, in the dtype of the network's input."""
    shape = (contestant.batch, 3, *contestant.size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    dtype = torch.float32 if contestant.trains else DTYPE_OF[contestant.dtype]
    return images.to(contestant.device, dtype)


def _forward_step(network: Callable[[Tensor], Any], images: Tensor) -> Step:
    def step() -> Any:
        with torch.inference_mode():
            return network(images)

    return Step(step)


def _training_step(network: nn.Module, images: Tensor, contestant: Contestant) -> Step:
    """Return a step of forward, backward and AdamW.

    AdamW is fused as in our training; the reference has PyTorch's default.

    The loss is cross-entropy where the output is logits, and the mean square of the raw outputs otherwise: the time is
    the network's, and not that of assigning targets.
    """
    fused = contestant.runtime != 'reference'
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.05, fused=fused)
    targets = torch.arange(contestant.batch, device=images.device)
    kind = images.device.type
    scaler = torch.amp.GradScaler(kind, enabled=contestant.dtype == 'fp16')

    def precision() -> AbstractContextManager:
        dtype = DTYPE_OF[contestant.dtype]
        return nullcontext() if dtype == torch.float32 else torch.autocast(kind, dtype)

    def step() -> None:
        with precision():
            outputs = network(images)
        loss = F.cross_entropy(outputs.float(), targets) if is_logits(outputs) else mean_square(outputs)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    looks_inside = contestant.mode == 'train' and contestant.runtime != 'compiled'
    return Step(step, tuple(network.parameters()) if looks_inside else None)


def is_logits(outputs: Any) -> bool:
    """Return whether outputs are logits of shape (N, classes)."""
    return isinstance(outputs, Tensor) and outputs.dim() == 2


def mean_square(outputs: Any) -> Tensor:
    """Return the sum of the mean squares of nested tensors."""
    squares = [leaf.float().square().mean() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return torch.stack(squares).sum()


def _end_to_end_step(model: Any, contestant: Contestant) -> Step:
    """Return a step from JPEG files through the test pipeline, the network and its post-processing, as in `test`."""
    from mmengine.dataset import Compose
    from mmengine.registry import FUNCTIONS, DefaultScope

    cfg = subject_config(contestant.subject)
    view = read_view(cfg, 'test')
    steps = view.only_dataset('test').node['pipeline']
    pipeline_cfg = [step for step in steps if not step['type'].startswith('LoadAnnotations')]
    scope = view.task.scope
    DefaultScope.get_instance(f'benchmark-{scope}', scope_name=scope)  # the models look up parts as they predict
    pipeline = Compose(pipeline_cfg)
    loader = view.part('test_dataloader').node
    collate = FUNCTIONS.get(loader.get('collate_fn', {}).get('type', view.task.collate))
    files = [contestant.files[i % len(contestant.files)] for i in range(contestant.batch)]

    def step() -> Any:
        with torch.inference_mode():
            samples = [pipeline(dict(img_path=file, img_id=i, sample_idx=i)) for i, file in enumerate(files)]
            return model.test_step(collate(samples))

    return Step(step)
