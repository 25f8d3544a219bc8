"""The widths of the backbone's maps that a config has to repeat in its neck and heads, and whether they are right.

The toolboxes build a neck and a head from their own settings, before and without the backbone, so that a config must
write down what the backbone knows. PyTorch tells a wrong width at the first image only, as shapes of a convolution.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

_PASSING_ON = ('SSDNeck', 'mmdet.SSDNeck')  # necks that give the maps on as they are, and further ones
_HEADS = ('bbox_head', 'decode_head', 'auxiliary_head', 'head')


def check_widths(cfg: Config) -> None:
    """Check the widths in a config whose backbone is ours and whose other parts are the toolbox's or ours.

    Args:
        cfg: A config whose toolbox is registered.

    Raises:
        UserError: If one is not that of the maps it gets; the message has the right one.
    """
    faults = [f'{key}={_text(right)}, not {_text(written)}' for key, written, right in wrong_widths(cfg)]
    if faults:
        backbone = cfg.model.backbone
        raise UserError(
            f'{cfg.filename or "config"}: with backbone {backbone.type} arch={backbone.get("arch", "1m")!r}, set '
            f'{"; ".join(faults)}'
        )


def wrong_widths(cfg: Config) -> list[tuple[str, Any, Any]]:
    """Return where a width is written that is not that of the maps: its key, what is written, what is right.

    Nothing is said of parts whose classes are neither the toolbox's nor ours, which may join or choose maps.
    """
    scope, model = cfg.get('default_scope'), cfg.get('model')
    maps = _backbone_widths(model.get('backbone')) if isinstance(model, dict) else None
    return [] if maps is None else list(_wrong_in(model, maps, str(scope)))


def _wrong_in(model: dict[str, Any], maps: tuple[int, ...], scope: str) -> Iterator[tuple[str, Any, Any]]:
    neck = model.get('neck')
    if neck:
        # One width for all maps, as of an FPN, is the config's own choice.
        if not isinstance(neck, dict) or not _is_known(neck, scope):
            return
        yield from _difference('model.neck.in_channels', neck.get('in_channels'), maps)
        given = tuple(neck['out_channels']) if _is_several(neck.get('out_channels')) else ()
        maps = (*maps, *given[len(maps) :]) if neck['type'] in _PASSING_ON else given
        yield from _difference('model.neck.out_channels', neck.get('out_channels'), maps)
    for key in _HEADS if maps else ():
        head = model.get(key)
        if isinstance(head, dict) and _is_known(head, scope):
            yield from _wrong_of_head(f'model.{key}.in_channels', head, maps)


def _wrong_of_head(key: str, head: dict[str, Any], maps: tuple[int, ...]) -> Iterator[tuple[str, Any, Any]]:
    index = head.get('in_index', -1)
    written = head.get('in_channels')
    if _is_several(written):
        yield from _difference(key, written, tuple(maps[i] for i in index) if _is_several(index) else maps)
    elif isinstance(written, int) and isinstance(index, int) and written != maps[index]:
        yield key, written, maps[index]


def _difference(key: str, written: Any, right: tuple[int, ...]) -> Iterator[tuple[str, Any, Any]]:
    if _is_several(written) and len(written) == len(right) and tuple(written) != right:
        yield key, written, type(written)(right)


def _backbone_widths(backbone: Any) -> tuple[int, ...] | None:
    """Return the widths of the maps of a backbone of ours, without its tensors; None for another, or a faulty one."""
    import torch

    from emo_mm.registry import MODELS

    if not isinstance(backbone, dict) or backbone.get('type') not in {f'emo_mm.{name}' for name in ('EMO', 'EMOv2')}:
        return None
    settings = {key: value for key, value in backbone.items() if key not in ('type', 'init_cfg')}
    try:
        with torch.device('meta'):
            return MODELS.function(backbone['type'])(**settings).out_channels
    except (TypeError, ValueError):  # told, better than here, when the model is built
        return None


def _is_known(part: dict[str, Any], scope: str) -> bool:
    from mmengine.registry import MODELS

    kind = part.get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind if '.' in kind else f'{scope}.{kind}')
    return inspect.isclass(kind) and kind.__module__.partition('.')[0] in (scope, 'emo_mm')


def _is_several(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    return str(value).replace(' ', '')  # as `--cfg-options` takes it
