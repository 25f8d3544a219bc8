"""YOLO's text files, as Ultralytics, Roboflow, CVAT and Label Studio write them: one per image, one line per box.

A line has a class number and the centre, width and height of the box as fractions of the image; or the points of a
polygon, whose box counts. The names of the classes are in ``data.yaml``, ``classes.txt`` or ``obj.names``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from emo_mm.data.boxes import Box, BoxImage, BoxSet, LabelFault
from emo_mm.data.layouts.base import LayoutError
from emo_mm.data.layouts.boxes.base import (
    IMAGES,
    BoxLayout,
    BoxPlace,
    is_file,
    is_path,
    read_text,
    sized,
    sizes_of,
    split_names,
)
from emo_mm.data.splits import SPLITS, DataRequest, count, files_under, inside, read_classes, shortlist
from emo_mm.errors import UserError

CLASS_FILES = ('classes.txt', 'obj.names', 'labels/classes.txt', 'CLASSES.txt')
_SLACK = 0.001  # by which rounded fractions may leave 0..1
_MOST_CLASSES = 2**31
_KEYS = {'train': ('train',), 'val': ('val', 'valid', 'validation'), 'test': ('test',)}


class YoloLayout(BoxLayout):
    """Images and text files of boxes."""

    name = 'YOLO labels'
    looks_like = 'data.yaml, or images/train with labels/train'
    usual: ClassVar[str] = (
        'images/{split} with labels/{split}, or {split}/images with {split}/labels, or as data.yaml says'
    )
    names_in_labels: ClassVar[bool] = False

    def files_of(self, root: Path, split: str) -> tuple[Path, ...]:
        """Return the folders or lists of images that data.yaml names, or else those of the usual names."""
        told = _described(root)
        value = next((told[key] for key in _KEYS[split] if told.get(key)), None)
        if value is not None:
            paths = [str(path)[:4000] for path in (value if isinstance(value, list) else [value])]
            found = [_lead(root, told, path, split) if is_path(path) else None for path in paths]
            return tuple(path for path in found if path) if all(found) else ()
        for name in split_names(split):
            for images, labels in ((f'images/{name}', f'labels/{name}'), (f'{name}/images', f'{name}/labels')):
                if (root / images).is_dir() and files_under(root / labels, ('.txt',)):
                    return (root / images,)
            if _is_list(root / f'{name}.txt'):
                return (root / f'{name}.txt',)
        flat = split == 'train' and any((root / 'labels').glob('*.txt')) and (root / 'images').is_dir()
        return (root / 'images',) if flat else ()

    def takes(self, path: Path) -> bool:
        """Take a list of images, or a folder of text files."""
        return _is_list(path) or (path.is_dir() and bool(files_under(path, ('.txt',))))

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether there is a split, or a data.yaml with names though nothing that it leads to is there."""
        named = any(request.ann(split) for split in SPLITS)
        return super().recognises(request) or (not named and bool(_described(request.root).get('names')))

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split that is not there, with what data.yaml says of it."""
        told = _described(root)
        paths = [str(told[key]) for key in _KEYS[split] if told.get(key)]
        if paths:
            return UserError(f'{root}: {told["file"]} gives {split}: {paths[0]}, which does not lead to data here')
        return super().absent(root, split)

    def read_boxes(self, place: BoxPlace) -> BoxSet:
        """Return the boxes of all images of the split."""
        told = _described(place.root)
        sources, labels = _folders(place)
        pairs = {image: _label_file(image, labels, folder) for image, folder in _images(place.root, sources)}
        missing = [image for image, label in pairs.items() if not label.is_file()]
        if pairs and len(missing) == len(pairs) and place.split != 'test':
            raise LayoutError(
                f'{sources[0]}: none of its {count(len(pairs), "image")} has a label file; the first would be '
                f'{pairs[missing[0]]}'
            )
        keypoints = bool(told.get('kpt_shape'))
        images = [
            (path, _image(size, pairs[path], inside(place.root, pairs[path]), keypoints))
            for path, size in zip(pairs, sizes_of(list(pairs)), strict=True)
        ]
        return BoxSet(
            _names(place.root, told), sized(place, images), _notes(pairs, missing), annotated=len(missing) < len(pairs)
        )


YOLO = YoloLayout()


# --- what data.yaml says
def _described(root: Path) -> Mapping[str, Any]:
    """Return what the YAML file of a data set says, and its name as ``file``; nothing if there is none."""
    usual = [root / name for name in ('data.yaml', 'data.yml', 'dataset.yaml') if (root / name).is_file()]
    for path in usual or sorted([*root.glob('*.yaml'), *root.glob('*.yml')]):
        try:
            content = _yaml(path)
        except UserError:
            if usual:
                raise
            continue  # it may be about anything
        if isinstance(content, dict) and 'names' in content:
            return {**content, 'file': path.name}
    return {}


def _yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise UserError(f'{path}: needs PyYAML to be read: pip install pyyaml') from None
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f'{path}: is not valid YAML ({" ".join(str(error).split())})') from None


def _names(root: Path, told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the class names: those of the YAML file, or of a text file; none if there is neither."""
    names = told.get('names')
    if not names:
        path = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
        return tuple(read_classes(path)) if path else ()
    where = root / told['file']
    if isinstance(names, dict):
        numbered = {str(index): name for index, name in names.items()}
        if set(numbered) != {str(index) for index in range(len(names))}:
            raise UserError(f'{where}: the numbers of its names must run 0, 1, 2, ..., but are {shortlist(names)}')
        names = [numbered[str(index)] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, (str, int, float)) for name in names):
        raise UserError(f'{where}: names is no list of class names')
    texts = tuple(str(name) for name in names)
    if len(set(texts)) < len(texts):
        raise UserError(f'{where}: class names must differ, but are {shortlist(texts)}')
    if told.get('nc') not in (None, len(texts)):
        raise UserError(f'{where}: nc is {told["nc"]}, but it has {count(len(texts), "name")}')
    return texts


def _lead(root: Path, told: Mapping[str, Any], path: str, split: str) -> Path | None:
    """Return where a path of the YAML file leads, also on another machine than the one that it was written on."""
    bases = [root / str(told['path']), root] if told.get('path') else [root]
    for base in bases:
        if (base / path).exists():
            return base / path
    parts = [part for part in path.replace('\\', '/').split('/') if part not in ('', '.', '..')]
    for start in range(len(parts)):
        tail = parts[start:]
        # an end without the name of the split might lead to all images at once
        named = {part.removesuffix('.txt') for part in tail} & set(split_names(split))
        if named and root.joinpath(*tail).exists():
            return root.joinpath(*tail)
    return None


# --- images and their label files
def _is_list(path: Path) -> bool:
    """Tell whether a file is a list of images."""
    if not path.is_file() or path.suffix != '.txt':
        return False
    with path.open(errors='replace') as file:
        return file.readline().strip().lower().endswith(IMAGES)


def _folders(place: BoxPlace) -> tuple[tuple[Path, ...], Path | None]:
    """Return the folders or lists of images, and the folder of labels if the user named it."""
    first = place.sources[0]
    labels = first if first.is_dir() and files_under(first, ('.txt',)) else None
    if place.images is not None:
        return (place.images,), labels
    if labels is not None and not files_under(labels, IMAGES):
        mirrored = [Path(*('images' if part == 'labels' else part for part in labels.parts)), labels.parent / 'images']
        return (next((path for path in mirrored if path != labels and path.is_dir()), labels),), labels
    return place.sources, None


def _images(root: Path, sources: Iterable[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Return the images of folders and lists, each with the folder; None for those of lists."""
    for source in sources:
        if source.is_dir():
            yield from ((source / name, source) for name in files_under(source, IMAGES))
            continue
        for line in filter(None, map(str.strip, read_text(source).splitlines())):
            if not is_path(line):
                raise UserError(f'{source}: {line[:80]!r} is no name of a file')
            yield _listed(root, source, line), None


def _listed(root: Path, source: Path, line: str) -> Path:
    """Return the image that a line of a list names, also where the list was written for another folder."""
    parts = [part for part in line.replace('\\', '/').split('/') if part not in ('', '.', '..')]
    tails = (base.joinpath(*parts[start:]) for start in range(len(parts)) for base in (source.parent, root))
    candidates = (source.parent / line, root / line, *tails)
    return next((path for path in candidates if is_file(path)), source.parent.joinpath(*parts))


def _label_file(image: Path, labels: Path | None, folder: Path | None) -> Path:
    """Return the label file of an image: in the folder named for labels, at the place of images/, or beside it."""
    if labels is not None:
        below = image.relative_to(folder) if folder is not None else Path(image.name)
        return (labels / below).with_suffix('.txt')
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].lower() in ('images', 'jpegimages'):
            mirrored = Path(*parts[:index], 'labels', *parts[index + 1 :]).with_suffix('.txt')
            beside = image.with_suffix('.txt')
            return beside if beside.is_file() and not mirrored.is_file() else mirrored
    return image.with_suffix('.txt')


def _notes(pairs: Mapping[Path, Path], missing: Sequence[Path]) -> tuple[str, ...]:
    folders = {label.parent for label in pairs.values()}
    known = {*pairs.values(), *(folder / 'classes.txt' for folder in folders)}
    lists = {path for folder in folders for path in folder.glob('*.txt') if path not in known and not _is_list(path)}
    notes = []
    if missing and len(missing) < len(pairs):
        names = shortlist((path.name for path in missing), 3)
        notes.append(f'{count(len(missing), "image")} without a label file, taken as images without a box: {names}')
    if lists:
        names = shortlist(sorted(path.name for path in lists), 3)
        notes.append(f'{count(len(lists), "label file")} without an image: {names}')
    return tuple(notes)


# --- lines
def _image(size: tuple[int, int], label: Path, name: str, keypoints: bool) -> BoxImage:
    lines = read_text(label).splitlines() if label.is_file() else []
    parsed = [_box(line, size, f'{name}:{number}', keypoints) for number, line in enumerate(lines, 1) if line.strip()]
    boxes = tuple(one for one in parsed if isinstance(one, Box))
    return BoxImage('', *size, boxes, tuple(one for one in parsed if isinstance(one, LabelFault)))


def _box(line: str, size: tuple[int, int], source: str, keypoints: bool) -> Box | LabelFault:
    """Return the box of a line, or what is wrong with it."""
    words = line.split()
    try:
        label, *sides = [float(word) for word in words]
    except ValueError:
        return LabelFault(source, f'{line.strip()[:60]!r} is not made of numbers')
    sides = sides[:4] if keypoints else sides
    if not (0 <= label < _MOST_CLASSES and label.is_integer()):
        return LabelFault(source, f'class number {words[0]}')
    if len(sides) != 4 and (len(sides) < 6 or len(sides) % 2):
        expected = 'expected are a class number and 4 numbers, or the points of a polygon'
        return LabelFault(source, f'{count(len(words), "number")}; {expected}')
    if not all(-_SLACK <= side <= 1 + _SLACK for side in sides):
        return LabelFault(source, f'{" ".join(words[1:5])} are not between 0 and 1, as fractions of the image are')
    pixels = [side * size[index % 2] for index, side in enumerate(sides)]
    if len(pixels) > 4:
        return Box.around(int(label), pixels, source)
    x, y, width, height = pixels
    return Box(int(label), x - width / 2, y - height / 2, width, height, source=source)
