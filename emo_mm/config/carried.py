"""The config that a checkpoint carries: what prediction takes of it, and how it differs from another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from emo_mm.config.view import inner_parts
from emo_mm.errors import UserError
from emo_mm.weights.untrusted.embedded import plain_values, unknown_type

if TYPE_CHECKING:
    from mmengine.config import Config

_CONFIG_PARTS = ('default_scope', 'model', 'test_dataloader')  # what prediction reads of a config
# Types that a config of a checkpoint may name: a class of the toolbox, of ours or of mmcv, never a path to import.
_TYPE = re.compile(r'(?:(?:emo_mm|mmdet|mmseg|mmpretrain|mmcv|mmengine)\.)?[A-Za-z]\w*')


def config_in(meta: dict[str, Any], source: str) -> Config:
    """Return the config that MMEngine writes into a checkpoint, which is parsed and never run.

    Only what prediction needs of it is kept.

    Raises:
        UserError: If there is none, it is more than plain assignments, or it names types to import.
    """
    from mmengine.config import Config

    advice = f'give a config in its place, and --weights {source}'
    text = meta.get('cfg')
    if not isinstance(text, str):
        raise UserError(f'{source} does not carry the config of its model; {advice}')
    try:
        found = plain_values(text, _CONFIG_PARTS)
    except ValueError as error:
        raise UserError(f'{source} carries a config that is more than plain values ({error}); {advice}') from None
    missing = [key for key in _CONFIG_PARTS if key not in found]
    if missing:
        raise UserError(f'{source} carries a config without {", ".join(missing)}; {advice}')
    refused = unknown_type(found['model'])
    if refused is not None:
        raise UserError(
            f'{source} carries a config that asks for {refused!r}, which no config of emo_mm has; it is not '
            f'built from a file; {advice}'
        )
    for part in inner_parts(found, ''):
        kind = part.node.get('type')
        if kind is not None and not (isinstance(kind, str) and _TYPE.fullmatch(kind)):
            raise UserError(f'{source} carries a config that asks for {str(kind)[:80]!r}, which is refused; {advice}')
    return Config(found)


def doubt_about(cfg: Config, meta: dict[str, Any], checkpoint: str) -> str | None:
    """Return a warning where a checkpoint was trained with another network than a config has; None otherwise."""
    others = differing_parts(cfg, meta)
    if not others:
        return None
    return (
        f'{checkpoint} was trained with another {", ".join(others)} than the config has: its weights may fit and '
        'answer wrongly; give the config, or the options, that it was trained with'
    )


def differing_parts(cfg: Config, meta: dict[str, Any]) -> list[str]:
    """Return the parts of the network that a checkpoint's own config has otherwise, such as its anchors.

    The weights may fit all the same. A checkpoint whose config cannot be read tells nothing.
    """
    try:
        own = plain_values(meta.get('cfg') or '', ('model',)).get('model')
    except (TypeError, ValueError):
        return []
    if not isinstance(own, dict):
        return []
    return [
        key
        for key in ('backbone', 'neck', 'bbox_head', 'decode_head', 'head')
        if _plain(own, key) != _plain(cfg.model, key)
    ]


def _plain(model: Any, key: str) -> dict[str, Any]:
    """Return the settings of a part that make a difference to predictions."""
    training = (
        'init_cfg',
        'loss',
        'loss_decode',
        'loss_cls',
        'loss_bbox',
        'norm_eval',
        'frozen_stages',
        'drop_path_rate',
    )
    part = model.get(key)
    return {name: value for name, value in part.items() if name not in training} if isinstance(part, dict) else {}
