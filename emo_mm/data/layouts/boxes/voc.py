"""Pascal VOC: an XML file per image.

Either a tree with lists of the splits (``ImageSets/Main/train.txt``, ``Annotations``, ``JPEGImages``), or folders of
XML files per split, whose images are beside them or in ``images`` or ``JPEGImages``. Difficult objects are neither
trained on nor counted. Coordinates are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from xml.etree.ElementTree import Element

from emo_mm.data.boxes import Box, BoxSet, LabelFault
from emo_mm.data.layouts.boxes.base import (
    BoxLayout,
    BoxPlace,
    ImageFinder,
    Label,
    NamedImage,
    is_path,
    named_boxes,
    number,
    read_text,
    read_xml,
    split_names,
    unlabelled,
)
from emo_mm.data.splits import files_under, inside

_ANNOTATIONS = ('Annotations', 'annotations', 'labels', 'xmls')
_IMAGES = ('JPEGImages', 'images', 'Images')
_ROOT = re.compile(rb'<annotation[\s>]')


class VocLayout(BoxLayout):
    """XML files of Pascal VOC."""

    name = 'Pascal VOC annotations'
    looks_like = 'ImageSets/Main/train.txt with Annotations and JPEGImages, or train/*.xml beside the images'
    usual: ClassVar[str] = (
        'ImageSets/Main/{split}.txt with Annotations and JPEGImages, or {split}/*.xml beside the images'
    )

    def files_of(self, root: Path, split: str) -> tuple[Path, ...]:
        """Return the lists of a split, or else its folder of XML files."""
        roots = (root, *sorted(root.glob('VOC*')), *sorted(root.glob('VOCdevkit/VOC*')))
        trees = [folder for folder in roots if (folder / 'ImageSets' / 'Main').is_dir()]
        for name in (*split_names(split), *(('trainval',) if split == 'train' else ())):
            lists = [folder / 'ImageSets' / 'Main' / f'{name}.txt' for folder in trees]
            if found := tuple(path for path in lists if path.is_file()):
                return found
        folders = [] if trees else [folder for name in split_names(split) for folder in _folders(root, name)]
        if split == 'train' and not trees:
            folders += [root / 'Annotations', root / 'annotations']
        return next(((folder,) for folder in folders if _has_xml(folder)), ())

    def takes(self, path: Path) -> bool:
        """Take a folder of XML files, or a list of names."""
        in_tree = path.suffix == '.txt' and (path.parent.parent.parent / 'Annotations').is_dir()
        return in_tree or _has_xml(path)

    def read_boxes(self, place: BoxPlace) -> BoxSet:
        """Return the boxes of all XML files of the split."""
        files = dict.fromkeys(path for source in place.sources for path in _xml_files(source))
        finders: dict[Path, ImageFinder] = {}
        read = []
        for path in files:
            if path.parent not in finders:
                finders[path.parent] = ImageFinder(_image_folders(path.parent, place))
            read.append(_read(path, finders[path.parent], inside(place.root, path)))
        beside = next((source for source in place.sources if source.is_dir()), None)
        notes = unlabelled(beside, (one.path for one in read)) if beside else ()
        return named_boxes(place, read, notes=notes)


VOC = VocLayout()


def _folders(root: Path, name: str) -> Iterator[Path]:
    for kind in _ANNOTATIONS:
        yield from (root / name / kind, root / kind / name)
    yield from (root / name, root / 'images' / name)


def _image_folders(folder: Path, place: BoxPlace) -> list[Path]:
    """Return where the images of a folder of XML files may lie."""
    named = [] if place.images is None else [place.images]
    names = [name for name in split_names(place.split) if name == folder.name]
    places = [place.root / kind / name for kind in _IMAGES for name in names]
    places += [base / kind for base in (folder.parent, folder.parent.parent) for kind in _IMAGES]
    return [*named, folder, *places, *(place.root / name for name in names), folder.parent]


def _has_xml(folder: Path) -> bool:
    first = next(iter(files_under(folder, ('.xml',))), None) if folder.is_dir() else None
    return first is not None and _ROOT.search((folder / first).read_bytes()[:4096]) is not None


def _xml_files(source: Path) -> list[Path]:
    """Return the XML files of a folder, or of a list in a tree; a list may have a second column of 1 and -1."""
    if source.is_dir():
        return [source / name for name in files_under(source, ('.xml',))]
    folder = source.parent.parent.parent / 'Annotations'
    lines = [re.sub(r'\s+-?[01]$', '', line.strip()) for line in read_text(source).splitlines()]
    return [folder / f'{name}.xml' for name in lines if name]


def _read(path: Path, finder: ImageFinder, name: str) -> NamedImage:
    """Return the image of an XML file, its size there, and its objects."""
    root = read_xml(path)
    told = (root.findtext('filename') or '').strip()
    told = told if is_path(told) else ''
    image = finder.find(told, path.stem) or finder.folders[0] / (told or f'{path.stem}.jpg')
    width, height = (number(root.findtext(f'size/{side}')) for side in ('width', 'height'))
    objects = [_object(entry, f'{name}: object {index}') for index, entry in enumerate(root.iter('object'), 1)]
    return NamedImage(image, objects, int(width or 0), int(height or 0))


def _object(entry: Element, source: str) -> Label:
    name = (entry.findtext('name') or '').strip()
    if not name:
        return '', LabelFault(source, 'has no name')
    sides = [number(entry.findtext(f'bndbox/{side}')) for side in ('xmin', 'ymin', 'xmax', 'ymax')]
    left, top, right, bottom = sides
    if left is None or top is None or right is None or bottom is None:
        return name, LabelFault(source, 'has no bndbox of four numbers xmin, ymin, xmax, ymax')
    difficult = (entry.findtext('difficult') or '0').strip() == '1'
    return name, Box(0, left, top, right - left, bottom - top, crowd=difficult, source=source)
