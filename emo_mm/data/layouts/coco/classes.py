"""The classes of a data set, by the names in its annotation files: those of the training file, in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emo_mm.data.layouts.coco.file import CocoFile
from emo_mm.data.splits import shortlist
from emo_mm.errors import UserError


def agreed_classes(files: Mapping[str, CocoFile], training: CocoFile | None, chosen: bool) -> tuple[str, ...]:
    """Return the classes of the training file; other files may lack some, or have them in another order.

    Args:
        files: The files that are read, by split.
        training: The training file of the same folder where none is read. A test thus numbers the classes as the
            training did; it counts only if it has all classes of the files.
        chosen: Whether the user chose classes, so that further ones do not matter.

    Raises:
        UserError: If a file has boxes of a class that the training file does not have.
    """
    others = list(files.values())
    first = files.get('train', others[0])
    if training is not None and not any(_beyond(training, other) for other in others):
        first = training
    for other in others:
        if 'train' in files and (new := _beyond(first, other)) and not chosen:
            missing = [name for name in first.classes if name not in other.classes]
            raise UserError(
                f"{other.path}: its classes differ from {first.path}'s: missing are {shortlist(missing) or 'none'}, "
                f'new are {shortlist(new)}; add them to the training data, or choose others with --classes FILE'
            )
    # Roboflow adds the name of the data set as a category of its own, the supercategory of the rest, without boxes.
    groups = set(first.supercategories)
    return tuple(
        name
        for name, group in zip(first.classes, first.supercategories, strict=True)
        if name not in groups - {group} or any(file.boxes.get(name) for file in (first, *others))
    )


def _beyond(first: CocoFile, other: CocoFile) -> list[str]:
    """Return the classes of a file that have boxes and are not among those of the first."""
    return sorted(name for name in set(other.classes) - set(first.classes) if other.boxes[name])


def order_notes(own: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return in which way the categories of a file are not numbered as the classes are; empty if they are.

    mmdet numbers labels by each file's own order, so files that list the same categories in another order, or only
    some of them, would be trained and evaluated with classes exchanged.

    Args:
        own: The categories in the order of the file.
        classes: The classes in the order of their labels.
    """
    missing = [name for name in classes if name not in own]
    known = [name for name in classes if name in own]
    notes = (
        (missing, f'does not list {shortlist(missing)}; classes are matched by name'),
        (
            [name for name in own if name in classes] != known,
            f'lists its categories in another order ({shortlist(own, 4)}); classes are matched by name',
        ),
    )
    return tuple(note for holds, note in notes if holds)
