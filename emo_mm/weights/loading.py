"""Loading weights into a network with an account of every tensor.

MMEngine's own loading passes in silence when nothing fits; here a backbone that would keep even one random tensor is an
error, unless the user says ``strict=False``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from emo_mm.errors import MismatchError, UserError
from emo_mm.models import EMO, EMOv2
from emo_mm.models.names import BACKBONE, is_classifier, native_names
from emo_mm.models.pyramid import MobilePyramid
from emo_mm.registry import INITIALIZERS
from emo_mm.weights.checkpoint import Checkpoint, read_checkpoint

_SHOWN = 3  # mismatches of each kind that a message names
_INIT_KEYS = ('type', 'checkpoint', 'prefix', 'strict', 'map_location')


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file and of a network.

    Attributes:
        path: The file.
        part: ``backbone`` or ``model``: what was to be loaded.
        total: Tensors of that part.
        loaded: How many of them were loaded.
        missing: Names that the network has and the file has not.
        unexpected: Names that the file has for this part and the network has not.
        mismatched: Names that both have, with the shapes in the file and in the network.
        classifier: Tensors of the ImageNet classifier in the file that were not used.
        other: Tensors of further parts (neck, head) in the file that were not used.
        window_note: How the window sizes of weights and network differ; None where they agree or are not known.
    """

    path: Path
    part: str
    total: int
    loaded: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    classifier: int = 0
    other: int = 0
    window_note: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every tensor of the part was loaded, and the file has none that it does not know."""
        return self.loaded == self.total and not self.unexpected

    def __str__(self) -> str:
        """Return the account in one line."""
        unused = [(self.classifier, 'classifier'), (self.other, 'neck or head'), (len(self.unexpected), 'unknown')]
        text = f'{self.loaded}/{self.total} {self.part} tensors loaded'
        return ', '.join([text, *(f'{count} {kind} tensors not used' for count, kind in unused if count)])

    def mismatches(self) -> str:
        """Return the first mismatches of each kind in one line."""
        shapes = [f'{name} ({_size(file)} in the file, {_size(own)} here)' for name, file, own in self.mismatched]
        kinds = [('missing', self.missing), ('unknown', self.unexpected), ('of another shape', tuple(shapes))]
        return '; '.join(f'{kind}: {_first(names)}' for kind, names in kinds if names)


def load_backbone(
    model: nn.Module,
    checkpoint: Checkpoint | str | PathLike[str],
    strict: bool = True,
    prefix: str | None = None,
) -> LoadReport:
    """Load the backbone of a network and say what was loaded.

    Args:
        model: An EMO or EMOv2 backbone, or a detector, segmenter or classifier with one as ``backbone``.
        checkpoint: A checkpoint that was read, or a path, published name or address.
        strict: Whether a backbone that is not loaded whole is an error; otherwise it is a warning.
        prefix: Take only the tensors whose names start so, without it; None finds the backbone by itself.

    Raises:
        UserError: If the file cannot be read, or if ``strict`` and not every tensor of the backbone is found in it; the
            network is then left as it was.
    """
    checkpoint = _read(checkpoint)
    backbone = _backbone(model)
    names = native_names(_selected(checkpoint, prefix))
    offered = {
        name.removeprefix(BACKBONE): checkpoint.state_dict[(prefix or '') + key]
        for key, name in names.items()
        if name.startswith(BACKBONE)
    }
    rest = [name for name in names.values() if not name.startswith(BACKBONE)]
    classifier = sum(map(is_classifier, rest))
    return _load(checkpoint, backbone, offered, 'backbone', strict, classifier, len(rest) - classifier)


def load_model(model: nn.Module, checkpoint: Checkpoint | str | PathLike[str], strict: bool = True) -> LoadReport:
    """Load a whole network, head included, and say what was loaded.

    Args:
        model: A detector, segmenter or classifier; a bare backbone is loaded as by :func:`load_backbone`.
        checkpoint: A checkpoint that was read, or a path, published name or address.
        strict: Whether a network that is not loaded whole is an error; otherwise it is a warning.

    Raises:
        UserError: If the file cannot be read, or if ``strict`` and names or shapes differ anywhere; the network is then
            left as it was.
    """
    checkpoint = _read(checkpoint)
    model = unwrapped(model)
    if _backbone(model) is model:
        return load_backbone(model, checkpoint, strict)
    names = native_names(checkpoint.state_dict)
    offered = {name: checkpoint.state_dict[key] for key, name in names.items()}
    own = model.state_dict()
    # The classifier of ImageNet weights is nothing that a detector lacks a place for.
    classifier = [name for name in offered if is_classifier(name) and name not in own]
    for name in classifier:
        del offered[name]
    return _load(checkpoint, model, offered, 'model', strict, len(classifier), 0)


def load_weights(model: nn.Module, checkpoint: Checkpoint | str | PathLike[str], strict: bool = True) -> LoadReport:
    """Load all of a file that belongs to a network: the whole network, or its backbone if the file has no more of it.

    ImageNet weights fill a classifier whole and the backbone of a detector or segmenter, whose head keeps its values.

    Args:
        model: A detector, segmenter, classifier or bare backbone.
        checkpoint: A checkpoint that was read, or a path, published name or address.
        strict: As for :func:`load_model` and :func:`load_backbone`.

    Raises:
        UserError: As :func:`load_model` and :func:`load_backbone`.
    """
    checkpoint = _read(checkpoint)
    own = unwrapped(model).state_dict()
    heads = [name for name in native_names(checkpoint.state_dict).values() if not name.startswith(BACKBONE)]
    if any(name in own or not is_classifier(name) for name in heads):
        return load_model(model, checkpoint, strict)
    return load_backbone(model, checkpoint, strict)


@INITIALIZERS.register_module()
def init_backbone_from(backbone: nn.Module, init_cfg: Mapping[str, Any]) -> LoadReport:
    """Initialise a backbone as ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of a config says.

    Args:
        backbone: The backbone.
        init_cfg: ``checkpoint`` (path, published name or address), and optionally ``prefix`` of the backbone's tensors
            in it and ``strict``. MMEngine's ``map_location`` is accepted and makes no difference: the tensors go where
            the backbone is.

    Raises:
        ValueError: If ``init_cfg`` has other keys or no checkpoint.
        UserError: As :func:`load_backbone`.
    """
    unknown = sorted(set(init_cfg) - set(_INIT_KEYS))
    if unknown or not init_cfg.get('checkpoint'):
        raise ValueError(
            f'init_cfg has unknown keys {unknown}; it takes {", ".join(_INIT_KEYS)}'
            if unknown
            else "init_cfg of type 'Pretrained' needs checkpoint: a path, an address or the name of published weights"
        )
    return load_backbone(backbone, init_cfg['checkpoint'], init_cfg.get('strict', True), init_cfg.get('prefix'))


@INITIALIZERS.register_module()
def load_exactly(network: nn.Module, checkpoint: str, what: str) -> None:
    """Load a network of any kind, whose names and shapes must be those of the file.

    Args:
        network: The network.
        checkpoint: A path, an address or a published name.
        what: What messages call the network.

    Raises:
        UserError: If the file cannot be read, or a name or shape differs.
    """
    weights = read_checkpoint(checkpoint)
    try:
        network.load_state_dict(dict(weights.state_dict), strict=True)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{weights.path} does not fit {what}: {reason[:300]}') from error


def _load(
    checkpoint: Checkpoint,
    module: nn.Module,
    offered: dict[str, Tensor],
    part: str,
    strict: bool,
    classifier: int,
    other: int,
) -> LoadReport:
    own = module.state_dict()
    fitting = {name: value for name, value in offered.items() if name in own and value.shape == own[name].shape}
    report = LoadReport(
        path=checkpoint.path,
        part=part,
        total=len(own),
        loaded=len(fitting),
        missing=tuple(name for name in own if name not in offered),
        unexpected=tuple(name for name in offered if name not in own),
        mismatched=tuple(
            (name, tuple(value.shape), tuple(own[name].shape))
            for name, value in offered.items()
            if name in own and value.shape != own[name].shape
        ),
        classifier=classifier,
        other=other,
        window_note=_window_note(checkpoint, module),
    )
    if not report.complete:
        advice = _advice(module, offered, report)
        if strict:
            raise MismatchError(
                checkpoint.path,
                f'{report.loaded}/{report.total} {part} tensors match, nothing was loaded; '
                f'{report.mismatches()}{advice}',
                'strict=False loads what matches',
            )
        print_log(f'{checkpoint.path}: {report.mismatches()}{advice}', logger='current', level=logging.WARNING)
    module.load_state_dict(fitting, strict=report.complete)
    level = logging.INFO if report.complete else logging.WARNING
    print_log(f'{report} from {checkpoint.path}', logger='current', level=level)
    if report.window_note is not None:
        print_log(report.window_note, logger='current', level=logging.WARNING)
    return report


def _read(checkpoint: Checkpoint | str | PathLike[str]) -> Checkpoint:
    return checkpoint if isinstance(checkpoint, Checkpoint) else read_checkpoint(checkpoint)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return what a data-parallel wrapper holds, or the model itself where it has none."""
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model


def _backbone(model: nn.Module) -> nn.Module:
    model = unwrapped(model)
    return getattr(model, 'backbone', model)


def _selected(checkpoint: Checkpoint, prefix: str | None) -> list[str]:
    if not prefix:
        return list(checkpoint.state_dict)
    selected = [key.removeprefix(prefix) for key in checkpoint.state_dict if key.startswith(prefix)]
    if not selected:
        raise UserError(
            f'{checkpoint.path} has no tensor whose name starts with prefix {prefix!r}; '
            f'its names are {_first(list(checkpoint.state_dict))}'
        )
    return selected


def _advice(module: nn.Module, offered: Mapping[str, Tensor], report: LoadReport) -> str:
    if report.part == 'model':
        lacks_head = report.missing and not any(name.startswith(BACKBONE) for name in report.missing)
        only_backbone = lacks_head and not report.mismatched and not report.unexpected
        return '; this file holds a backbone only: load it as one' if only_backbone else ''
    fits, model = _arch_of(offered), _arch_of(module.state_dict())
    if fits is None or fits == model:
        return ''
    return f'; this file fits {fits}, the model is {model or "another"}'


def _arch_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the published backbone, such as ``emo_1m``, that has exactly these names and shapes."""
    shapes = _shapes(tensors)
    return next((name for name, own in _published_shapes().items() if own == shapes), None)


@cache
def _published_shapes() -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the shapes of the tensors of each published backbone, without memory for their values."""
    with torch.device('meta'):
        return {
            f'{family.__name__.lower()}_{arch}': _shapes(family(arch).state_dict())
            for family in (EMO, EMOv2)
            for arch in family.archs
        }


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def _window_note(checkpoint: Checkpoint, module: nn.Module) -> str | None:
    """Return how the window sizes differ where there is attention: no tensor shows it, as none depends on them."""
    trained = checkpoint.window_size
    backbone = _backbone(module)
    if trained is None or not isinstance(backbone, MobilePyramid):
        return None
    trained_sizes = (trained,) * 4 if isinstance(trained, int) else trained
    names = list(backbone.state_dict())
    stages = [k for k in range(4) if any(name.startswith(f'stages.{k}.') and '.qk.' in name for name in names)]
    own = [backbone.window_sizes[k] for k in stages]
    theirs = list(trained_sizes[stages[0] : stages[-1] + 1]) if stages and len(trained_sizes) == 4 else own
    if own == theirs:
        return None
    return (
        f'{checkpoint.path} was trained with window size {_sizes(theirs)}, this model has {_sizes(own)}: the weights '
        'load, but answer differently; set window_size to match, or fine-tune'
    )


def _sizes(sizes: list[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else ', '.join(map(str, sizes))


def _first(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ', '.join(names[:_SHOWN]) + (f' and {more} more' if more > 0 else '')


def _size(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape)) or 'scalar'
