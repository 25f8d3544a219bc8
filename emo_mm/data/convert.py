"""``emo-mm data convert``: a data set of boxes in another format, in a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

from emo_mm.data.boxes import Box, BoxImage, BoxSet, from_coco
from emo_mm.data.splits import SPLITS, DataRequest, count
from emo_mm.errors import UserError


@dataclass(frozen=True)
class BoxesOptions:
    """What the command line of ``data convert`` gives.

    Attributes:
        source: Folder of a detection data set, in any layout that a training reads.
        target: Folder to make; it must be new or empty.
        to: Format to write.
        layout: Layout of the source, where it may be read in several ways.
    """

    source: str
    target: str
    to: Literal['coco', 'yolo', 'voc'] = field(kw_only=True)
    layout: str | None = None


@dataclass(frozen=True)
class _Image:
    """An image to be written.

    Attributes:
        source: The file.
        name: Its new name.
        boxes: It, with its boxes.
    """

    source: Path
    name: str
    boxes: BoxImage

    @property
    def stem(self) -> str:
        return Path(self.name).stem


def convert(options: BoxesOptions) -> None:
    """Write a data set in another format, and print what was written.

    Raises:
        UserError: If the source has a fault, or the target is not empty.
    """
    target = Path(options.target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f'{target}: is not empty; give the name of a new folder')
    folders, contents = _read(DataRequest(data_root=options.source, layout=options.layout))
    sets = {split: from_coco(content) for split, content in contents.items()}
    form, taken = _FORMATS[options.to], set[str]()
    for split, box_set in sets.items():
        images = list(_named(folders[split], split, box_set, taken if form.one_folder else set()))
        notes = form.write(target, split, images, box_set, contents[split])
        boxes = sum(len(image.boxes) for image in box_set.images)
        print(f'{split}: {count(len(images), "image")}, {count(boxes, "box", "boxes")}')
        for note in notes:
            print(f'  note: {note}')
    form.finish(target, sets)


def _read(request: DataRequest) -> tuple[dict[str, Path], dict[str, Mapping[str, Any]]]:
    """Return the folder that the file names of each split start from, and its content as a COCO file has it."""
    from emo_mm.data.layouts import layout_of_folder
    from emo_mm.data.layouts.coco import CocoSplit
    from emo_mm.data.layouts.coco.file import parse_annotations

    layout, root = layout_of_folder(request), request.root
    places = {split: place for split in SPLITS if (place := layout.find(request, split)) is not None}
    if not places:
        raise layout.absent(root, 'train')
    parts = {split: layout.read(place, tolerant=False) for split, place in places.items()}
    names = layout.agree(root, parts, request, tolerant=False)
    folders, contents = {}, {}
    for split, part in parts.items():
        checked = layout.check(root, split, part, names, tolerant=False)
        if not isinstance(checked, CocoSplit):
            raise UserError(f'{root}: holds {layout.name}, not boxes; only data sets of boxes are converted')
        folders[split] = root / checked.image_dir
        contents[split] = getattr(checked, 'content', None) or parse_annotations(checked.file.path)
    return folders, contents


def _named(folder: Path, split: str, box_set: BoxSet, taken: set[str]) -> Iterator[_Image]:
    """Return the images of a split with new names without folders, of which no two differ by their ending only."""
    for number, image in enumerate(box_set.images, 1):
        path = folder / image.file
        name = path.name if path.stem not in taken else f'{split}_{number}_{path.name}'
        taken.add(Path(name).stem)
        yield _Image(path, name, image)


def _copy(images: Sequence[_Image], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        shutil.copyfile(image.source, folder / image.name)


# --- formats
def _write_coco(
    target: Path, split: str, images: Sequence[_Image], box_set: BoxSet, content: Mapping[str, Any]
) -> list[str]:
    """Write a COCO file with all that the source has, but for the names of the images."""
    _copy(images, target / 'images' / split)
    entries = [{**entry, 'file_name': image.name} for entry, image in zip(content['images'], images, strict=True)]
    (target / 'annotations').mkdir(exist_ok=True)
    text = json.dumps({**content, 'images': entries})
    (target / 'annotations' / f'{split}.json').write_text(text, encoding='utf-8')
    return []


def _write_yolo(
    target: Path, split: str, images: Sequence[_Image], box_set: BoxSet, content: Mapping[str, Any]
) -> list[str]:
    """Write a text file per image; boxes are cut at the borders of their image, crowds have no place there."""
    _copy(images, target / 'images' / split)
    folder = target / 'labels' / split
    folder.mkdir(parents=True)
    cut = crowds = 0
    for image in images:
        kept = [box for box in image.boxes.boxes if not box.crowd]
        inside = [_cut(box, image.boxes) for box in kept]
        crowds += len(image.boxes.boxes) - len(kept)
        cut += sum(before != after for before, after in zip(map(_sides, kept), inside, strict=True))
        size = (image.boxes.width, image.boxes.height)
        lines = [_yolo_line(box.label, sides, size) for box, sides in zip(kept, inside, strict=True)]
        (folder / f'{image.stem}.txt').write_text(''.join(lines), encoding='utf-8')
    notes = [f'{count(cut, "box", "boxes")} cut at the border of the image'] if cut else []
    return [*notes, *([f'{count(crowds, "crowd")} left out'] if crowds else []), *_outlines(box_set)]


def _write_voc(
    target: Path, split: str, images: Sequence[_Image], box_set: BoxSet, content: Mapping[str, Any]
) -> list[str]:
    """Write an XML file per image, and a list of the split; crowds become difficult objects."""
    _copy(images, target / 'JPEGImages')
    for folder in (target / 'Annotations', target / 'ImageSets' / 'Main'):
        folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        text = _voc_text(image, box_set.classes)
        (target / 'Annotations' / f'{image.stem}.xml').write_text(text, encoding='utf-8')
    names = ''.join(f'{image.stem}\n' for image in images)
    (target / 'ImageSets' / 'Main' / f'{split}.txt').write_text(names, encoding='utf-8')
    return _outlines(box_set)


def _describe(target: Path, sets: Mapping[str, BoxSet]) -> None:
    """Write data.yaml."""
    classes = next(iter(sets.values())).classes
    lines = [f'{split}: images/{split}' for split in sets] + [f'nc: {len(classes)}', f'names: {json.dumps(classes)}']
    (target / 'data.yaml').write_text('\n'.join([*lines, '']), encoding='utf-8')


def _nothing_more(target: Path, sets: Mapping[str, BoxSet]) -> None:
    """Write nothing."""


@dataclass(frozen=True)
class _Format:
    """A format.

    Attributes:
        write: Writes a split, and returns what it could not keep, in words.
        finish: Writes what all splits share.
        one_folder: Whether the images of all splits lie in one folder.
    """

    write: Callable[[Path, str, Sequence[_Image], BoxSet, Mapping[str, Any]], list[str]]
    finish: Callable[[Path, Mapping[str, BoxSet]], None] = _nothing_more
    one_folder: bool = False


_FORMATS = {
    'coco': _Format(_write_coco),
    'yolo': _Format(_write_yolo, _describe),
    'voc': _Format(_write_voc, one_folder=True),
}


def _sides(box: Box) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom."""
    return box.left, box.top, box.left + box.width, box.top + box.height


def _cut(box: Box, image: BoxImage) -> tuple[float, float, float, float]:
    left, top, right, bottom = _sides(box)
    return max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)


def _yolo_line(label: int, sides: tuple[float, float, float, float], size: tuple[int, int]) -> str:
    left, top, right, bottom = sides
    width, height = size
    numbers = ((left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height)
    return f'{label} {" ".join(f"{number:.8f}" for number in numbers)}\n'


def _voc_text(image: _Image, classes: Sequence[str]) -> str:
    size = f'<width>{image.boxes.width}</width><height>{image.boxes.height}</height><depth>3</depth>'
    lines = ['<annotation>', f'  <filename>{escape(image.name)}</filename>', f'  <size>{size}</size>']
    for box in image.boxes.boxes:
        sides = zip(('xmin', 'ymin', 'xmax', 'ymax'), _sides(box), strict=True)
        bndbox = ''.join(f'<{side}>{value:.10g}</{side}>' for side, value in sides)
        name = f'<name>{escape(classes[box.label])}</name><difficult>{int(box.crowd)}</difficult>'
        lines.append(f'  <object>{name}<bndbox>{bndbox}</bndbox></object>')
    return '\n'.join([*lines, '</annotation>', ''])


def _outlines(box_set: BoxSet) -> list[str]:
    number = sum(box.polygon is not None for image in box_set.images for box in image.boxes)
    return [f'{count(number, "outline")} left out: the box of each is written'] if number else []
