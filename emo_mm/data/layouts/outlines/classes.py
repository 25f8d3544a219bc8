"""The classes of outlines: the background, which is what no outline covers, and then those of the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emo_mm.data.layouts.masks.classes import MaskNames, without_ignored
from emo_mm.data.layouts.masks.decide import BACKGROUND
from emo_mm.data.layouts.masks.pixels import IGNORED
from emo_mm.data.splits import DataRequest, chosen_classes, count
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours

# What labels of the background and of ignored pixels are called by tools, in small letters.
_BACKGROUNDS = (BACKGROUND, '_background_', '__background__')
_IGNORED = ('__ignore__',)


@dataclass(frozen=True)
class OutlineNames(MaskNames):
    """The classes of a data set of outlines.

    Attributes:
        read: Names of the classes as the label files number them.
        labels: Name to label, before any are ignored: 0 for the background, 255 for what is ignored. A class that is
            not trained is not among them.
        crowds: Whether crowds are objects like others.
    """

    read: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    crowds: bool = False


def outline_names(reader: Any, root: Path, parts: Mapping[str, Any], request: DataRequest) -> OutlineNames:
    """Return the classes of outlines.

    Args:
        reader: The layout that reads the label files.
        root: The folder of the data set.
        parts: What it read, by split.
        request: What the user gave.

    Raises:
        NeedsConfigError: If nothing tells the classes.
        UserError: If what was given does not fit them, or nothing can be learned of them.
    """
    for flag in ('palette', 'binary'):
        if getattr(request, flag) is not None:
            raise UserError(f'--{flag}: is for masks, but here are {reader.name}, whose outlines have classes')
    known = {name for part in parts.values() for name in part.classes}
    chosen = chosen_classes(request)
    if chosen is not None and known:  # lists for masks, and LabelMe's own, begin with the background
        chosen = [name for name in chosen if name in known or not _is(name, _BACKGROUNDS)]
    read = reader.named(root, parts, request, chosen).classes
    objects = [name for name in read if not _is(name, _BACKGROUNDS + _IGNORED)]
    if not objects:
        raise UserError(f'{root}: has no class besides {", ".join(read)}, so nothing can be learned')
    if len(objects) >= IGNORED:
        raise UserError(
            f'{root}: has {len(objects)} classes, and masks hold at most {IGNORED - 1}; choose some with --classes FILE'
        )
    own = next((name for name in read if _is(name, _BACKGROUNDS)), None)
    labels = {name: 0 for name in known.union(read) if _is(name, _BACKGROUNDS)}
    labels |= {name: IGNORED for name in known.union(read) if _is(name, _IGNORED)}
    labels |= {name: label for label, name in enumerate(objects, 1)}
    classes = (own or BACKGROUND, *objects)
    # --reduce-zero takes names as those of label 1 and up
    named = classes[1:] if request.reduce_zero else classes
    names = OutlineNames(
        named,
        class_colours(len(named)),
        f'the {reader.name}' + ('' if own else f' ({BACKGROUND} is added as the first class)'),
        read=read,
        labels=labels,
        crowds=all(part.only_crowds() for part in parts.values()),
    )
    left = without_ignored(names, request)
    if len(left.classes) < 2:
        raise UserError(f'{root}: {count(len(left.classes), "class", "classes")} left of {", ".join(classes)}: too few')
    assert isinstance(left, OutlineNames)
    return left


def _is(name: str, names: Sequence[str]) -> bool:
    return name.lower() in names
