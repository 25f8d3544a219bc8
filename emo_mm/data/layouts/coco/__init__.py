"""Detection data in COCO format: annotation files, one per split, and the images that they list.

Known without further options: the COCO 2017 tree; ``annotations/{train,val,test}.json`` or
``annotations/instances_*.json`` with ``images/`` or ``images/{train,val,test}/``; Roboflow's
``{train,valid,test}/_annotations.coco.json`` beside the images. Anything else by the options of the request.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from emo_mm.config.edits import Change, Edit, Part
from emo_mm.config.parts import loads_masks, path_in, type_name
from emo_mm.config.view import ConfigView
from emo_mm.data.faults import Content, Fault
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import FileAnswer, check_files
from emo_mm.data.labelled import LabelledImage
from emo_mm.data.layouts.base import Boxes, Checked, Found, Layout, Left, Names, Reading, write_text
from emo_mm.data.layouts.coco.classes import agreed_classes, order_notes
from emo_mm.data.layouts.coco.entries import HARMLESS, is_number
from emo_mm.data.layouts.coco.file import (
    CocoFile,
    count_boxes,
    counted,
    file_of,
    oddities,
    one_of,
    read_annotations,
    repaired_annotations,
    trained_annotations,
)
from emo_mm.data.layouts.coco.find import (
    annotation_files,
    find_annotations,
    find_image_dir,
    require_images,
    split_of,
    undivided_file,
)
from emo_mm.data.layouts.coco.labelled import labelled_images
from emo_mm.data.layouts.coco.names import meant_images, spelling_note
from emo_mm.data.layouts.coco.outlined import with_outlines
from emo_mm.data.layouts.coco.repair import Content as FileContent
from emo_mm.data.layouts.coco.repair import Repaired, ordered, repair
from emo_mm.data.splits import SPLITS, DataRequest, chosen_classes, count, inside, locate, shortlist
from emo_mm.data.splitting import Item
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours


@dataclass(frozen=True)
class CocoPlace:
    """Where a split of a COCO-format data set lies.

    Attributes:
        root: The folder of the data set.
        split: The split.
        ann_file: Its annotation file.
        image_dir: Folder of its images, where the user named one.
    """

    root: Path
    split: str
    ann_file: Path
    image_dir: Path | None


@dataclass(frozen=True)
class CocoPart:
    """An annotation file and the folder that its file names start from."""

    file: CocoFile
    image_dir: Path
    divided: dict[str, Any] | None = None  # the content of a file that is still to be written
    divided_from: Path | None = None  # the file that it is a part of

    @property
    def source(self) -> Path:
        """The file of the user."""
        return self.divided_from or self.file.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the file lists."""
        return self.file.classes

    def annotated(self, classes: Sequence[str]) -> Repaired:
        """Return what the file should hold, masks repaired too, with these classes first."""
        divided = self.divided
        if divided is None:
            repaired = _named(self.file, repaired_annotations(self.file.path, masks=True))
        else:
            repaired = repair(divided, masks=True)
        notes = tuple(dict.fromkeys((*self.file.repairs, *repaired.notes)))
        return Repaired(ordered(repaired.content, classes), notes)

    def only_crowds(self) -> bool:
        """Tell whether it has usable boxes, and all of them are crowds."""
        return self.file.uses['crowd'] > 0 and not self.file.uses['trained']


@dataclass(frozen=True)
class CocoSplit(Checked):
    """One split of a COCO-format data set, checked.

    Attributes:
        ann_file: The annotation file, relative to the root where it lies under it.
        image_dir: Folder that the file names start from, likewise; '' is the root itself.
        images: Number of images listed.
        present: Number of them that exist.
        boxes: Number of usable boxes of the classes trained.
        classes: These classes.
        file: All that the annotation file holds.
        notes: Oddities that are no faults.
        divided: The content of the annotation file, where it is still to be written.
    """

    ann_file: str
    image_dir: str
    images: int
    present: int
    boxes: int
    classes: tuple[str, ...]
    file: CocoFile
    notes: tuple[str, ...] = ()
    divided: dict[str, Any] | None = None

    def line(self) -> str:
        """Return the file, its images found and listed, boxes and classes."""
        return f'{self.ann_file}: {self._counts()}'

    def detail(self) -> str:
        """Return the same, with the folder of the images."""
        return f'{self._counts()}; images in {self.image_dir.rstrip("/") or "."}'

    def whole(self) -> Mapping[str, Any]:
        """Return the content of the annotation file, repaired."""
        if self.divided is not None:
            return self.divided
        read = trained_annotations if self.file.masks else repaired_annotations
        return read(self.file.path, masks=True).content

    def _counts(self) -> str:
        classes = f'{count(len(self.classes), "class", "classes")}: {shortlist(self.classes)}'
        return f'{self.present} of {self.images} images found, {counted(self.file, self.boxes)}, {classes}'


class CocoLayout(Layout[CocoPlace, CocoPart, CocoSplit]):
    """Annotation files in COCO format.

    Attributes:
        masks: Whether the masks of the objects are trained on, whatever the pipeline of a data set says.
    """

    masks: ClassVar[bool] = False
    name = 'COCO annotation files'
    looks_like = 'annotations/train.json with images/, or train/_annotations.coco.json beside the images'
    sources: ClassVar[Mapping[str, str]] = {
        'CocoDataset': 'COCO 2017: train2017.zip, val2017.zip and annotations_trainval2017.zip from '
        'https://cocodataset.org/#download, unpacked in that folder.',
    }

    # --- a folder
    def find(self, request: DataRequest, split: str) -> CocoPlace | None:
        """Return the annotation file of a split, and the folder of its images if one was named."""
        root, ann, images = request.root, request.ann(split), request.images(split)
        path = locate(root, ann, f'--{split}-ann') if ann else find_annotations(root, split)
        if path is None:
            return None
        return CocoPlace(root, split, path, locate(root, images, f'--{split}-images') if images else None)

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split without an annotation file, with the files that are there."""
        present = shortlist((inside(root, path) for path in sorted(root.glob('**/*.json'))[:20]), 5) or 'no .json file'
        hint = ' (to evaluate on the training images, give the training file again)' if split == 'val' else ''
        return UserError(
            f'{root}: no COCO annotation file of the {split} split found; usual is annotations/{split}.json or '
            f'{split}/_annotations.coco.json, here is {present}. Give it with --{split}-ann FILE{hint}'
        )

    def read(self, place: CocoPlace, tolerant: bool) -> CocoPart:
        """Return the annotation file, parsed, and the folder where some of its images are."""
        file = read_annotations(place.ann_file, tolerant, self.masks)
        image_dir = place.image_dir or find_image_dir(place.root, file, place.split)
        return CocoPart(_with_meant_images(file, image_dir), image_dir)

    def agree(self, root: Path, parts: Mapping[str, CocoPart], request: DataRequest, tolerant: bool) -> Names:
        """Return the classes of the files, or those of them that the user chose, in the order of the files."""
        return self.named(root, parts, request, chosen_classes(request))

    def named(
        self, root: Path, parts: Mapping[str, CocoPart], request: DataRequest, chosen: Sequence[str] | None
    ) -> Names:
        """Return the classes as ``agree`` does, with those that the user chose, if any."""
        files = [part.file for part in parts.values()]
        training = None if 'train' in parts else self._training_file(request)
        by_split = {split: part.file for split, part in parts.items()}
        classes = agreed_classes(by_split, training, chosen=chosen is not None)
        if chosen is not None:
            if unknown := [name for name in chosen if name not in classes]:
                raise UserError(
                    f'{files[0].path}: has no class {shortlist(unknown)} as asked for by --classes; it has '
                    f'{shortlist(classes)}'
                )
            classes = tuple(name for name in classes if name in chosen)
        return Names(classes, class_colours(len(classes)))

    def _training_file(self, request: DataRequest) -> CocoFile | None:
        """Return the training file of a folder; None where there is none that can be read."""
        try:
            place = self.find(request, 'train')
            return None if place is None else read_annotations(place.ann_file, tolerant=True, masks=self.masks)
        except UserError:
            return None

    def check(self, root: Path, split: str, part: CocoPart, names: Names, tolerant: bool) -> CocoSplit:
        """Check that the images exist and that there are boxes of the classes; a test needs none."""
        file, prefix = part.file, inside(root, part.image_dir)
        return CocoSplit(
            ann_file=inside(root, file.path),
            image_dir='' if prefix == '.' else f'{prefix.rstrip("/")}/',
            images=len(file.images),
            present=require_images(file, part.image_dir, f'--{split}-images', tolerant),
            boxes=count_boxes(file, names.classes, required=split != 'test'),
            classes=names.classes,
            file=file,
            notes=(*file.repairs, *order_notes(file.classes, names.classes), *oddities(file, names.classes)),
            divided=part.divided,
        )

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether there is an annotation file, be it named for a split or not."""
        named = [ann for split in SPLITS if (ann := request.ann(split))]
        if any((request.root / ann).suffix != '.json' for ann in named):
            return False
        return super().recognises(request) or bool(annotation_files(request.root))

    # --- a folder without splits
    divisible = True

    def undivided(self, request: DataRequest) -> CocoPlace | None:
        """Return the only annotation file."""
        path, images = undivided_file(request.root), request.images('train')
        if path is None:
            return None
        image_dir = locate(request.root, images, '--train-images') if images else None
        return CocoPlace(request.root, 'train', path, image_dir)

    def items(self, part: CocoPart) -> list[Item]:
        """Return the images with the classes of their boxes."""
        return [Item(name, labels) for name, labels in zip(part.file.images, part.file.listed, strict=True)]

    def subset(self, part: CocoPart, kept: Sequence[int], target: Path) -> CocoPart:
        """Return the file with some of its images and their boxes."""
        whole = _named(part.file, repaired_annotations(part.file.path, self.masks)).content
        images = [whole['images'][index] for index in kept]
        ids = {image['id'] for image in images}
        content = {**whole, 'images': images}
        if 'annotations' in whole:
            content['annotations'] = [box for box in whole['annotations'] if box['image_id'] in ids]
        file = file_of(target.with_suffix('.json'), content, masks=self.masks)
        return CocoPart(file, part.image_dir, with_outlines(content) if self.masks else content, part.source)

    def texts(self, found: Found[CocoSplit]) -> dict[Path, str]:
        """Return the annotation files of splits that were made."""
        made = [split for split in found.splits.values() if split.divided is not None]
        return {split.file.path: json.dumps(split.divided) for split in made}

    # --- what is shown of a folder
    def labelled(self, found: Found[CocoSplit], split: CocoSplit) -> Iterator[LabelledImage]:
        """Yield the images with their boxes."""
        return labelled_images(split.file, split.whole(), found.root / split.image_dir, found.classes)

    def title(self, root: Path, split: str, place: CocoPlace) -> str:
        """Return the annotation file, relative to the root."""
        return inside(root, place.ann_file)

    def look(self, place: CocoPlace) -> str:
        """Return the command that tells where JSON is broken."""
        return f'python -m json.tool {shlex.quote(str(place.ann_file))} /dev/null'

    def others(self, request: DataRequest) -> list[tuple[str, CocoPlace]]:
        """Return the annotation files that no split is read from."""
        root = request.root
        taken = {place.ann_file for split in SPLITS if (place := self.find(request, split)) is not None}
        places = [CocoPlace(root, split_of(root, path), path, None) for path in annotation_files(root)]
        return [(place.split, place) for place in places if place.ann_file not in taken]

    # --- a folder in a config
    def point(self, reading: Reading, found: Found[CocoSplit], split: CocoSplit) -> tuple[Edit, ...]:
        """Give a data set its file and images; its classes too, unless its type declares the same."""
        part = reading.part
        files = part.edit(
            data_root=found.root.as_posix(), ann_file=split.ann_file, data_prefix={'img': split.image_dir}
        )
        kind = () if 'Coco' in type_name(part.node) else part.edit(type='CocoDataset')
        own = {'classes': found.classes, 'palette': list(found.names.palette)}
        return (*kind, *files, *(() if reading.classes == found.classes else part.edit(metainfo=own)))

    def finish(self, view: ConfigView, found: Found[CocoSplit]) -> Change:
        """Give the evaluators their annotation files; tell which images are not trained on."""
        edits: list[Edit] = []
        for name in ('val', 'test') if view.training else ('test',):
            ann_file = path_in({'data_root': found.root.as_posix()}, found.split(name).ann_file).as_posix()
            for metric in view.splits[name].metrics():
                if 'ann_file' in metric.node or 'Coco' in type_name(metric.node):
                    edits += metric.edit(ann_file=ann_file)
        if not view.training or not view.splits['train'].datasets:
            return Change(tuple(edits))
        train = found.splits['train']
        dataset = view.only_dataset('train')
        return Change(tuple(edits), tuple(images_left_out(dataset, train.ann_file, train.file, found.classes)))

    # --- a config that names its data
    def reads(self, reading: Reading) -> bool:
        """Tell whether the type is called after COCO and has an annotation file."""
        return 'Coco' in type_name(reading.dataset) and bool(reading.dataset.get('ann_file'))

    def needs(self, reading: Reading) -> list[Path]:
        """Return the annotation file and the folder of the images."""
        return [reading.path(reading.dataset['ann_file']), _image_dir(reading)]

    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        """Check that the file has the classes of the config, and that the images exist."""
        split, dataset = reading.split, reading.dataset
        file = self._file_of(reading, tolerant)
        classes = reading.classes or ()
        lacking = set(classes) - set(file.classes)
        if lacking and (split == 'train' or lacking == set(classes)):
            raise UserError(
                f'{file.path}: has the classes {shortlist(file.classes)}, but the config needs {shortlist(classes)}; '
                'with --data-root DIR the classes are read from the file'
            )
        # The paths are told as the config writes them.
        checked = self.check(Path(), split, CocoPart(file, _image_dir(reading)), Names(classes), tolerant)
        line = f'{split}: {dataset["ann_file"]}: {checked.line().split(": ", 1)[1]}'
        training = split == 'train'
        dropped = images_left_out(reading.part, dataset['ann_file'], file, classes) if training else []
        return [line, *(f'  note: {note}' for note in checked.notes), *dropped]

    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        """Check each image, its size against the file, and each annotation."""
        return self._checked(reading, self._file_of(reading, tolerant=True), check, cache)

    def content_of(self, reading: Reading, checked: CocoSplit, check: str, cache: CheckCache | None) -> Content:
        """Check what was read of the file."""
        return self._checked(reading, checked.file, check, cache)

    def _checked(self, reading: Reading, file: CocoFile, check: str, cache: CheckCache | None) -> Content:
        split, image_dir = reading.split, _image_dir(reading)
        paths = [(image_dir / name).as_posix() for name in file.images]
        published = _is_published(reading)
        faults = []
        for index, (image, answer) in enumerate(zip(paths, check_files(paths, check, cache), strict=True)):
            drop = ('images', index)
            if answer.kind:
                faults.append(Fault(split, answer.kind, image, answer.detail, drop))
            elif detail := _size_differs(answer, file.sizes[index], file.path):
                turned = answer.stored == file.sizes[index]
                kind = 'image that EXIF turns, annotated as it lies' if turned else 'size other than annotated'
                faults.append(Fault(split, kind, image, detail, None if turned and published else drop))
        for entry in file.faults:
            harmless = not entry.broken and (published or entry.kind in HARMLESS)
            place = (image_dir / entry.image if entry.image else file.path).as_posix()
            entry_drop = None if harmless else (entry.entries, entry.index)
            faults.append(Fault(split, entry.kind, place, f'{file.path.name}: {entry.detail}', entry_drop))
        if file.annotated:
            lack = f'image without {"an" if file.masks else "a"} {one_of(file)}'
            faults += [Fault(split, lack, paths[index], '', None) for index in file.without_boxes]
        return Content(faults, {'images': len(paths), 'annotations': file.annotations})

    def boxes(self, reading: Reading) -> Boxes:
        """Return the usable boxes of the classes of the config, on the images whose size is known."""
        file = read_annotations(reading.path(reading.dataset['ann_file']), tolerant=True, masks=self.masks)
        known = reading.classes or file.classes
        names = np.array(file.classes)
        sizes = np.array(
            [size if all(is_number(side) and side > 0 for side in size) else (0, 0) for size in file.sizes], np.float64
        )
        images, labels = file.places[:, 4].astype(int), file.places[:, 5].astype(int)
        boxes = Boxes(file.places[:, :4], sizes[images], names[labels])
        return boxes.at(np.isin(boxes.classes, known) & (boxes.images > 0).all(axis=1))

    def without(
        self, view: ConfigView, reading: Reading, content: Content, drops: Mapping[str, set[int]], target: Path
    ) -> Left:
        """Write an annotation file without some images and boxes; the evaluator reads it too.

        Raises:
            UserError: If no box is left.
        """
        if drops['annotations'] and len(drops['annotations']) == content.items['annotations']:
            raise UserError(f'{reading.split}: no box is left without the faulty ones; see the list of faults')
        path = target.with_name(f'{target.name}.json')
        left_out = _write_without(self._trained(reading), drops, path)
        return Left(path, left_out, _read_instead(view, reading, path))

    def repaired(self, view: ConfigView, reading: Reading, target: Path) -> Change:
        """Write what an annotation file should hold where it is not so, for the data set and its evaluator to read."""
        file = self._file_of(reading, tolerant=True)
        if not file.repairs and not order_notes(file.classes, reading.classes or ()):
            return Change()
        # called as the file is, since messages about its entries name it
        path = target / file.path.name
        told = read_annotations(file.path, tolerant=True, masks=self.masks).repairs  # with what was found
        every = read_annotations(file.path, tolerant=True, masks=self._loads_masks(reading)).repairs
        notes = [f'{reading.split}: note: {note}' for note in every if note not in told]
        write_text(path, json.dumps(self._trained(reading)))
        line = f'{reading.split}: read from a repaired copy, {path}; {file.path} stays as it is'
        return Change(_read_instead(view, reading, path), (*notes, line))

    def _loads_masks(self, reading: Reading) -> bool:
        """Tell whether the masks of the objects of a data set are trained on, or loaded by its pipeline."""
        return self.masks or loads_masks(reading.dataset)

    def _file_of(self, reading: Reading, tolerant: bool) -> CocoFile:
        """Return what the annotation file of a data set of a config holds, repaired, with its masks if they matter."""
        path = reading.path(reading.dataset['ann_file'])
        return _with_meant_images(read_annotations(path, tolerant, self._loads_masks(reading)), _image_dir(reading))

    def _trained(self, reading: Reading) -> FileContent:
        """Return the object that the file should hold: entries as ``_file_of`` has them, the config's order of classes.

        The order stays where it makes no difference.
        """
        file = self._file_of(reading, tolerant=True)
        content = _named(file, trained_annotations(file.path, self._loads_masks(reading))).content
        classes = reading.classes or ()
        return ordered(content, classes) if order_notes(file.classes, classes) else content


COCO = CocoLayout()


def _image_dir(reading: Reading) -> Path:
    return reading.path(reading.dataset.get('data_prefix', {}).get('img', ''))


def _named(file: CocoFile, repaired: Repaired) -> Repaired:
    """Return what a file should hold, with the names of images as they are in their folder."""
    entries = zip(repaired.content['images'], file.images, strict=True)
    images = [{**image, 'file_name': name} for image, name in entries]
    return replace(repaired, content={**repaired.content, 'images': images})


def _with_meant_images(file: CocoFile, image_dir: Path) -> CocoFile:
    """Return a file with the names of images as they are in their folder."""
    meant = meant_images(image_dir, file.images)
    if not meant:
        return file
    images = tuple(meant.get(name, name) for name in file.images)
    faults = tuple(replace(fault, image=meant.get(fault.image, fault.image)) for fault in file.faults)
    return replace(file, images=images, faults=faults, repairs=(*file.repairs, spelling_note(meant)))


def _read_instead(view: ConfigView, reading: Reading, path: Path) -> tuple[Edit, ...]:
    """Return the edits that let a data set, and the evaluators that read its annotation file, read another one."""
    source = reading.path(reading.dataset['ann_file'])
    same = [
        metric
        for metric in view.splits[reading.split].metrics()
        if metric.node.get('ann_file') and Path(metric.node['ann_file']) == source
    ]
    readers = [reading.part, *same]
    return tuple(edit for part in readers for edit in part.edit(ann_file=path.absolute().as_posix()))


def images_left_out(dataset: Part, ann_file: str, file: CocoFile, classes: Sequence[str]) -> list[str]:
    """Return lines on the training images that mmdet's ``filter_cfg`` leaves out silently.

    Args:
        dataset: The part of the config that reads the file.
        ann_file: The annotation file, as it is called in messages.
        file: What it holds.
        classes: The classes to train.

    Raises:
        UserError: If no image is left.
    """
    how = dataset.node.get('filter_cfg')
    if not isinstance(how, dict):
        return []
    least, number = how.get('min_size', 0), count(len(file.images), 'image')
    if not is_number(least):
        raise UserError(f'filter_cfg.min_size of the training data is {least!r}; it must be a number of pixels')
    small = {index for index, size in enumerate(file.sizes) if all(map(is_number, size)) and min(size) < least}
    empty = set()
    if how.get('filter_empty_gt'):
        empty = {index for index, names in enumerate(file.listed) if names.isdisjoint(classes)} - small
    lines = []
    if small:
        keep = _setting(dataset, 'filter_cfg.min_size=1')
        lines.append(f'train: {len(small)} of {number} left out: less than {least} pixels wide or high{keep}')
    if empty:
        lines.append(
            f'train: {len(empty)} of {number} left out: no {one_of(file)} of the classes; --keep-empty keeps them'
        )
    if len(small | empty) == len(file.images):
        raise UserError(f'{ann_file}: no image is left to train on; ' + '; '.join(lines))
    return lines


def _setting(dataset: Part, change: str) -> str:
    """Return how a setting of the training data is changed so that images stay; nothing where they are several."""
    return '' if '.datasets.' in dataset.place else f'; --cfg-options {dataset.place}.{change} keeps them'


def _is_published(reading: Reading) -> bool:
    """Tell whether the data are COCO itself, or another set whose classes its type declares.

    They have a few empty boxes, which all published figures were made with: mmdet leaves them out.
    """
    own = (reading.dataset.get('metainfo') or {}).get('classes')
    return not own or (len(own) == 80 and (own[0], own[-1]) == ('person', 'toothbrush'))


def _size_differs(answer: FileAnswer, declared: tuple[Any, Any], ann_file: Path) -> str:
    """Return how the size of an image differs from the one in its annotation file; '' if it does not."""
    width, height = declared
    if (answer.width, answer.height) == (width, height):
        return ''
    detail = f'{answer.width}x{answer.height}, in {ann_file.name} {width}x{height}'
    if answer.stored == (width, height):
        detail += (
            '; its EXIF data turn it, and the boxes are for the image as it lies: take the turn out of the file with '
            'exiftool -Orientation= FILE'
        )
    return detail


def _write_without(content: FileContent, drops: Mapping[str, set[int]], target: Path) -> str:
    """Write an annotation file without some images and boxes; return how many were left out, in words."""
    images = [image for index, image in enumerate(content['images']) if index not in drops['images']]
    kept = {image['id'] for image in images}
    before = content.get('annotations', [])
    boxes = [box for index, box in enumerate(before) if index not in drops['annotations'] and box['image_id'] in kept]
    lists = {'images': images, 'annotations': boxes} if 'annotations' in content else {'images': images}
    write_text(target, json.dumps({**content, **lists}))
    return f'{count(len(drops["images"]), "image")} and {count(len(before) - len(boxes), "box", "boxes")}'
