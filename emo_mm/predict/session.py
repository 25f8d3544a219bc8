"""A PyTorch model behind the interface of the deployed files, so that one predictor serves both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from emo_mm.config.view import task_of
from emo_mm.models.inference.fuse import fuse
from emo_mm.predict.describe import classes_of, mask_spec_of, nms_of, preprocessing_of
from emo_mm.predict.loading import LoadedModel, load_for_prediction
from emo_mm.runtime.metadata import BY_ANCHOR, FORMAT_VERSION, OUTPUT_NAMES, InputSpec, Metadata, OutputSpec
from emo_mm.runtime.predictor import Predictor
from emo_mm.version import __version__
from emo_mm.weights.checkpoint import threshold_in

if TYPE_CHECKING:
    from mmengine.config import Config


def torch_predictor(
    model: str | Path,
    weights: str | Path | None = None,
    batch_size: int = 1,
    score_threshold: float | None = None,
    device: str | None = None,
    compiled: bool = False,
) -> Predictor:
    """Return a predictor that runs a model in PyTorch.

    Args:
        model: Name or path of a config, or a checkpoint written by ``emo-mm train``.
        weights: A checkpoint of the whole model, as for :func:`~emo_mm.predict.loading.load_for_prediction`.
        batch_size: Images that the network gets at once.
        score_threshold: Boxes must score higher; None for the threshold of the config.
        device: Where to run; the GPU if there is one, else the CPU, if None.
        compiled: Whether to compile the network, which takes a minute and pays after some hundreds of images. Images
            of each size are compiled for, so it suits a model that takes one size.

    Raises:
        UserError: If the model cannot be loaded or predicts in a way that is not known.
    """
    session = TorchSession(load_for_prediction(model, weights), device, batch_size if compiled else None)
    return Predictor(session, batch_size, score_threshold)


class TorchSession:
    """A fused model in PyTorch.

    Args:
        loaded: The model.
        device: Where to run; the GPU if there is one, else the CPU, if None.
        compiled_batch: Batch to compile the network for; None not to compile it.

    Raises:
        UserError: If the model predicts in a way that is not known.
    """

    def __init__(self, loaded: LoadedModel, device: str | None = None, compiled_batch: int | None = None) -> None:
        self.metadata = torch_metadata(loaded, compiled_batch)
        network: Any = network_of(loaded.cfg, fuse(loaded.model))
        how = self.metadata.preprocessing
        self._device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        network.eval().to(self._device)
        self._decode: Callable[[Tensor], Any] = network.decode
        self._outputs: Callable[[Any], tuple[Tensor, ...]] = network.outputs
        if compiled_batch is not None:
            # the weights as constants, which the compiler may lay out in another way
            self._decode = torch.compile(self._decode, dynamic=False, options={'freezing': True})
        # (1, 3, 1, 1), for N,3,H,W
        self._mean, self._std = (torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (how.mean, how.std))

    @torch.inference_mode()
    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for pixels (N, H, W, 3)."""
        # N,H,W,3 -> N,3,H,W; channels stay last in memory, as the network likes them
        pixels = torch.from_numpy(batch).to(self._device).permute(0, 3, 1, 2)
        images = (pixels.float() - self._mean) / self._std
        outputs = self._outputs(self._decode(images))
        return [output.cpu().numpy() for output in outputs]


def network_of(cfg: Config, model: nn.Module) -> Any:
    """Return the part of a model that runs on tensors.

    Args:
        cfg: Its config.
        model: The model.

    Raises:
        UserError: If the model predicts in a way that is not known.
    """
    return resolve_name(task_of(cfg).network)(model)


def torch_metadata(loaded: LoadedModel, batch: int | None = None) -> Metadata:
    """Return the description of a model in PyTorch, which takes images of any size.

    Args:
        loaded: The model.
        batch: Number of images at once; None for any.

    Raises:
        UserError: As the functions of :mod:`emo_mm.predict.describe`.
    """
    how = preprocessing_of(loaded.cfg)
    classes, palette = classes_of(loaded.cfg, loaded.meta)
    task = task_of(loaded.cfg)
    network = network_of(loaded.cfg, loaded.model)
    kind = network.kind
    names = OUTPUT_NAMES[kind]
    if kind in BY_ANCHOR:  # of images of any size, whose anchors are not counted beforehand
        names += ('levels',)
    pads = how.pad_divisor > 1 or how.pad_size is not None
    # What is padded with is the mean, which is no whole number.
    spec = InputSpec('images', 'float32' if pads else 'uint8', 'NHWC', batch, None, None, normalized_inside=True)
    return Metadata(
        format_version=FORMAT_VERSION,
        emo_mm_version=__version__,
        model=loaded.name,
        task=task.name,
        classes=classes,
        palette=palette,
        input=spec,
        preprocessing=how,
        output=OutputSpec(kind, names, levels=None),
        nms=nms_of(loaded.cfg),
        align_corners=bool(getattr(loaded.model, 'align_corners', False)),
        weights_sha256=loaded.weights_sha256,
        display_threshold=threshold_in(loaded.meta) if task.finds_boxes else None,
        masks=mask_spec_of(loaded.cfg, network.channels),
    )
