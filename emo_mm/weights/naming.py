"""Names of whole networks: the published layout and ours.

In ours the backbone's tensors are under ``backbone.`` and the classifier's under ``head.norm.`` and ``head.fc.``, as in
the toolboxes' models. The published layout has a classifier's tensors at the top, and those of a detector's or
segmenter's backbone under ``backbone.``.
"""

from __future__ import annotations

from collections.abc import Iterable

from emo_mm.models.emo import NAMES as EMO_NAMES
from emo_mm.models.emov2 import NAMES as EMOV2_NAMES
from emo_mm.models.official_names import OfficialNames

FAMILIES = (EMO_NAMES, EMOV2_NAMES)
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
    family = max(FAMILIES, key=lambda family: sum(map(family.known, inner_keys)))
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
    family = max(FAMILIES, key=lambda family: sum(map(family.known_native, inner_names)))
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
