"""Names of tensors: the published layout and ours, of the backbones and of whole networks.

In ours a network's backbone is under ``backbone.`` and its classifier under ``head.norm.`` and ``head.fc.``, as in the
toolboxes' models. The published layout has a classifier's tensors at the top, and those of a detector's or segmenter's
backbone under ``backbone.``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# Where the network is in a published or trained file, in this order: ``net_E`` is the moving average, which is behind
# the published figures. MMEngine's ``state_dict`` holds the moving average too where one was kept (its ``EMAHook``
# swaps the two on saving).
CONTAINERS = ('net_E', 'net', 'state_dict', 'model')

_OFFICIAL_KEY = re.compile(r'stage(?P<stage>[0-4])\.(?P<rest>.+)\.(?P<leaf>\w+)')
_CLASSIFIER_KEY = re.compile(r'norm\.norm\.(weight|bias)|head\.(weight|bias)')


@dataclass(frozen=True)
class OfficialNames:
    """The two layouts of a family of networks; both number blocks alike, and call the parts of a block otherwise.

    Attributes:
        stem: Published name of each part of the stem to ours.
        block: Such a table for the block ``index`` of stage ``stage``, both counted from 0.
    """

    stem: Mapping[str, str]
    block: Callable[[int, int], Mapping[str, str]]

    def is_backbone(self, key: str) -> bool:
        """Tell whether a name has the form of a published backbone tensor, whatever part it names."""
        return _OFFICIAL_KEY.fullmatch(key) is not None

    def native_key(self, key: str) -> str | None:
        """Return our name of a tensor of a published state dict, None for those of the classifier.

        Raises:
            KeyError: If it is no name of a published network of this family.
        """
        if _CLASSIFIER_KEY.fullmatch(key):
            return None
        match = _OFFICIAL_KEY.fullmatch(key)
        if match is None:
            raise KeyError(key)
        stage, rest, leaf = int(match['stage']), match['rest'], match['leaf']
        if stage == 0:
            return f'stem.{self.stem[rest]}.{leaf}'
        index, _, rest = rest.partition('.')
        if not index.isdecimal():
            raise KeyError(key)
        return f'stages.{stage - 1}.{index}.{self.block(stage - 1, int(index))[rest]}.{leaf}'

    def official_key(self, key: str) -> str:
        """Return the published name of one of our tensors: the inverse of :meth:`native_key`.

        Raises:
            KeyError: If it is no tensor of a backbone of this family.
        """
        part, _, rest = key.partition('.')
        name, _, leaf = rest.rpartition('.')
        if part == 'stem':
            return f'stage0.{_inverse(self.stem, name)}.{leaf}'
        if part != 'stages' or name.count('.') < 2:
            raise KeyError(key)
        stage, index, name = name.split('.', 2)
        if stage not in tuple('0123') or not index.isdecimal():
            raise KeyError(key)
        return f'stage{int(stage) + 1}.{index}.{_inverse(self.block(int(stage), int(index)), name)}.{leaf}'

    def known(self, key: str) -> bool:
        """Tell whether a name is that of a tensor of a published backbone of this family."""
        try:
            return self.native_key(key) is not None
        except KeyError:
            return False

    def known_native(self, key: str) -> bool:
        """Tell whether a name is one of ours for a tensor of a backbone of this family."""
        try:
            self.official_key(key)
        except KeyError:
            return False
        return True


def _emo_block(stage: int, index: int) -> dict[str, str]:
    return {
        'norm.norm' if stage >= 2 else 'norm': 'norm',  # LayerNorm in the last two stages
        'qk.conv': 'qk',
        'v.conv': 'v.0',
        'conv_local.conv': 'dw_conv',
        'conv_local.norm': 'dw_norm',
        'proj.conv': 'proj',
    }


def _emov2_block(stage: int, index: int) -> dict[str, str]:
    attends = stage >= 2 and index > 0
    return {
        'norm.norm' if stage >= 2 else 'norm': 'norm',  # as above
        'eops.0.qk.conv': 'qk',
        'eops.0.v.conv' if attends else 'eops.0.net.conv': 'v.0',
        'conv_local.conv': 'dw_conv',
        'conv_local.norm': 'dw_norm',
        'proj.conv': 'proj',
        'ls': 'layer_scale',
    }


FAMILIES = {
    'EMO': OfficialNames(
        stem={
            '0.convs.0.0': 'conv',
            '0.convs.0.1': 'bn',
            '1.conv_local.conv': 'block.dw_conv',
            '1.conv_local.norm': 'block.dw_norm',
            '1.se.conv_reduce': 'block.se.fc1',
            '1.se.conv_expand': 'block.se.fc2',
            '1.proj.conv': 'block.proj',
        },
        block=_emo_block,
    ),
    'EMOv2': OfficialNames(
        stem={'0.conv': 'conv', '0.norm': 'norm', '1.conv': 'dw_conv', '1.norm': 'dw_norm', '2.conv': 'proj'},
        block=_emov2_block,
    ),
}
BACKBONE = 'backbone.'
_CLASSIFIER = {
    'norm.norm.weight': 'head.norm.weight',
    'norm.norm.bias': 'head.norm.bias',
    'head.weight': 'head.fc.weight',
    'head.bias': 'head.fc.bias',
}
_OFFICIAL_CLASSIFIER = {native: official for official, native in _CLASSIFIER.items()}


def is_classifier(name: str) -> bool:
    """Return whether a name in our layout is that of a tensor of the ImageNet classifier."""
    return name in _OFFICIAL_CLASSIFIER


def native_names(keys: Iterable[str]) -> dict[str, str]:
    """Return for each name, of either layout, its name in ours.

    Names without any ``backbone.`` are taken for those of a backbone or a classifier. Unknown names of a backbone stay
    as they are under ``backbone.``, to be reported by whoever finds no place for them.
    """
    keys = list(keys)
    bare = not any(key.startswith(BACKBONE) for key in keys)
    inner_keys = [key.removeprefix(BACKBONE) for key in keys]
    # The families share many names: the file is of the one that knows the most of them.
    family = max(FAMILIES.values(), key=lambda family: sum(map(family.known, inner_keys)))
    official = any(map(family.known, inner_keys))
    names = {}
    for key in keys:
        is_head = is_classifier(key) and not official if bare else not key.startswith(BACKBONE)
        inner = key.removeprefix(BACKBONE)
        names[key] = key if is_head else _native_name(inner, family) if official else BACKBONE + inner
    return names


def official_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name of our layout its name in the published one.

    Raises:
        KeyError: If a name under ``backbone.`` is not one of an EMO backbone.
    """
    names = list(names)
    # A network of nothing but backbone and classifier is what the published ImageNet files hold: no ``backbone.``.
    prefix = '' if all(name.startswith(BACKBONE) or is_classifier(name) for name in names) else BACKBONE
    inner_names = [name.removeprefix(BACKBONE) for name in names if name.startswith(BACKBONE)]
    family = max(FAMILIES.values(), key=lambda family: sum(map(family.known_native, inner_names)))
    official = {}
    for name in names:
        if name.startswith(BACKBONE):
            official[name] = prefix + family.official_key(name.removeprefix(BACKBONE))
        else:
            official[name] = name if prefix else _OFFICIAL_CLASSIFIER[name]
    return official


def _native_name(key: str, family: OfficialNames) -> str:
    try:
        name = family.native_key(key)
    except KeyError:
        return BACKBONE + key
    return _CLASSIFIER[key] if name is None else BACKBONE + name


def _inverse(table: Mapping[str, str], value: str) -> str:
    for key, candidate in table.items():
        if candidate == value:
            return key
    raise KeyError(value)
