"""Segmentation data as a folder of images and one of index masks, per split.

Known without further options: ``img_dir/{train,val,test}`` with ``ann_dir/...``, ``images/...`` with ``masks/...`` or
``annotations/...``, and the same with the split first (``train/images``). Classes come from ``--classes``, a
``CLASSES.txt`` in the root or beside the masks, or else from the palette of the masks.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import image_prefixes, inherits, type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.faults import Content, Fault
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import FileAnswer, check_files
from emo_mm.data.layouts.base import (
    Checked,
    Found,
    Layout,
    Names,
    NeedsConfigError,
    Reading,
    listed_lines,
    same_folders,
)
from emo_mm.data.layouts.masks.labels import (
    IGNORED,
    check_labels,
    check_palettes,
    palette_classes,
    require_labels,
    spread,
)
from emo_mm.data.layouts.masks.pairs import (
    MASK_FOLDERS,
    MASK_SUFFIXES,
    MaskPairs,
    find_folders,
    pair_up,
    undivided_folders,
)
from emo_mm.data.splits import (
    SPLITS,
    DataRequest,
    files_under,
    inside,
    locate,
    read_classes,
    shortlist,
)
from emo_mm.data.splitting import Item
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours

CLASS_FILES = ('CLASSES.txt', 'classes.txt', 'labels.txt')

# Data sets of mmseg that read images and masks; of two images, where changes between them are labelled.
_BASES = ('BaseSegDataset', 'BaseCDDataset')


@dataclass(frozen=True)
class MaskSplit(Checked):
    """One split of images and masks, checked.

    Attributes:
        pairs: The images and masks.
        image_dir: Folder of the images, relative to the root where it lies under it.
        mask_dir: Folder of the masks, likewise.
        checked: How many masks had their labels checked.
        notes: Oddities that are no faults.
    """

    pairs: MaskPairs
    image_dir: str
    mask_dir: str
    checked: int
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """Return the folder of the images, which all have a mask, and how many masks were checked."""
        number = len(self.pairs.stems)
        labels = f', labels checked in {self.checked} of them' if self.checked else ''
        return f'{self.image_dir}: {number} of {number} images have a mask{labels}'

    def detail(self) -> str:
        """Return the number of pairs, both folders, and how many masks were checked."""
        return f'{len(self.pairs.stems)} pairs in {self.image_dir} and {self.mask_dir}, {self.checked} masks read'


class MaskLayout(Layout[tuple[Path, Path], MaskPairs, MaskSplit]):
    """A folder of images and a folder of index masks."""

    name = 'images with index masks'
    looks_like = 'img_dir/train with ann_dir/train, or images/train with masks/train'
    sources: ClassVar[Mapping[str, str]] = {
        'ADE20KDataset': 'ADE20K for scene parsing: ADEChallengeData2016.zip from http://sceneparsing.csail.mit.edu/, '
        'unpacked so that images/ and annotations/ lie in that folder.',
    }

    # --- a folder
    def find(self, request: DataRequest, split: str) -> tuple[Path, Path] | None:
        """Return the folder of the images and that of the masks, which is what ``--*-ann`` names here."""
        root, images, masks = request.root, request.images(split), request.ann(split)
        if images is None and masks is None:
            return find_folders(root, split)
        if images is None or masks is None:
            raise UserError(f'--{split}-images and --{split}-ann (the folder of masks) must be given together')
        folders = locate(root, images, f'--{split}-images'), locate(root, masks, f'--{split}-ann')
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f'{folder}: is a file; the folders of images and of masks are expected')
        return folders

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split without folders of the usual names."""
        return UserError(
            f'{root}: no images and masks of the {split} split found; usual are img_dir/{split} and '
            f'ann_dir/{split}, or images/{split} and masks/{split}. Give the folders with '
            f'--{split}-images DIR --{split}-ann DIR'
        )

    def read(self, place: tuple[Path, Path], tolerant: bool) -> MaskPairs:
        """Return the pairs of images and masks."""
        return pair_up(*place)

    def agree(self, root: Path, parts: Mapping[str, MaskPairs], request: DataRequest, tolerant: bool) -> Names:
        """Return the classes of a file, or those that the palette of the masks has."""
        path = locate(root, request.classes, '--classes') if request.classes else find_class_file(root)
        if path is not None:
            names = tuple(read_classes(path))
            return Names(names, class_colours(len(names)), inside(root, path))
        first = next(iter(parts.values()))
        found = palette_classes(first, tolerant)
        if found is None:
            raise NeedsConfigError(
                f'{first.mask_dir}: the class names are not known: there is no CLASSES.txt, the masks have no palette',
                'give a text file with --classes FILE, one name per line in the order of the labels',
                Names(tuple(f'label {label}' for label in range(IGNORED))),
            )
        return Names(*found, source=f'the palette of {inside(root, first.mask_dir)}')

    def check(self, root: Path, split: str, part: MaskPairs, names: Names, tolerant: bool) -> MaskSplit:
        """Check sizes and labels of up to 50 masks."""
        checked = 0 if tolerant else check_labels(part, len(names.classes))
        return MaskSplit(part, inside(root, part.image_dir), inside(root, part.mask_dir), checked)

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether there are masks; folders of the same names may hold other labels, in text files."""
        try:
            places = [self.find(request, split) for split in SPLITS]
        except UserError:
            return True
        return any(files_under(place[1], MASK_SUFFIXES) for place in places if place is not None)

    # --- a folder without splits
    divisible = True

    def undivided(self, request: DataRequest) -> tuple[Path, Path] | None:
        """Return the folder of the images and that of the masks."""
        return undivided_folders(request.root)

    def items(self, part: MaskPairs) -> list[Item]:
        """Return the pairs; their classes are not looked at."""
        return [Item(f'{stem}{part.image_suffix}') for stem in part.stems]

    def subset(self, part: MaskPairs, kept: Sequence[int], target: Path) -> MaskPairs:
        """Return some of the pairs."""
        return replace(part, stems=tuple(part.stems[index] for index in kept), list_file=target.with_suffix('.txt'))

    def texts(self, found: Found[MaskSplit]) -> dict[Path, str]:
        """Return the lists of the pairs of splits that were made."""
        made = [split.pairs for split in found.splits.values()]
        return {pairs.list_file: '\n'.join([*pairs.stems, '']) for pairs in made if pairs.list_file}

    # --- what the doctor shows beyond that
    def look(self, place: tuple[Path, Path]) -> str:
        """Return the command that shows which names have no partner."""
        images, masks = (f'<(ls {shlex.quote(str(folder))} | cut -d. -f1)' for folder in place)
        return f'diff {images} {masks}'

    # --- a folder in a config
    def kept(self, view: ConfigView, request: DataRequest) -> list[str] | None:
        """Keep the classes of a config that reads the same folders, where no file names others."""
        if not same_folders(view, request) or find_class_file(request.root) is not None:
            return None
        return ["the config's own classes are kept; for others give --classes FILE"]

    def point(self, reading: Reading, found: Found[MaskSplit], split: MaskSplit) -> tuple[Edit, ...]:
        """Give a data set its folders, suffixes and classes; label 0 is a class like the others."""
        folders = reading.part.edit(
            type='BaseSegDataset',
            data_root=found.root.as_posix(),
            data_prefix={'img_path': split.image_dir, 'seg_map_path': split.mask_dir},
            img_suffix=split.pairs.image_suffix,
            seg_map_suffix=split.pairs.mask_suffix,
            reduce_zero_label=False,
            metainfo={'classes': found.classes, 'palette': list(found.names.palette)},
        )
        listed = split.pairs.list_file
        names = reading.part.edit(ann_file=listed.as_posix()) if listed else reading.part.remove('ann_file')
        return (*names, *folders)

    def finish(self, view: ConfigView, found: Found[MaskSplit]) -> Change:
        """Let the pipelines keep label 0 too.

        mmseg insists that loader and data set agree; the pipelines at the top level are those of its inferencer.
        """
        places = [f'{split}_dataloader' for split in SPLITS] + [f'{name}_pipeline' for name in ('train', 'test', 'tta')]
        every = [part for place in places for part in inner_parts(view.cfg.get(place), place)]
        loaders = [part for part in every if type_name(part.node) == 'LoadAnnotations']
        reducing = [part for part in loaders if 'reduce_zero_label' in part.node]
        return Change(tuple(edit for part in reducing for edit in part.edit(reduce_zero_label=False)))

    # --- a config that names its data
    def reads(self, reading: Reading) -> bool:
        """Tell whether the type is one of mmseg's for images and masks."""
        return inherits(reading.dataset, reading.scope, _BASES)

    def needs(self, reading: Reading) -> list[Path]:
        """Return the folder of the images and that of the masks."""
        return list(_folders(reading))

    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        """Check that the names pair up by the suffixes of the config, and some labels."""
        split, dataset, classes = reading.split, reading.dataset, reading.classes
        image_dir, mask_dir = _folders(reading)
        if dataset.get('ann_file') or not classes:
            return [f'{split}: {image_dir}: labels are not checked (names listed in a file, or no classes declared)']
        pairs = pair_up(image_dir, mask_dir)
        image_suffix, mask_suffix = _suffixes(dataset)
        if not (pairs.image_suffix.endswith(image_suffix) and pairs.mask_suffix.endswith(mask_suffix)):
            raise UserError(
                f'{image_dir}: names end in {pairs.image_suffix} and {pairs.mask_suffix}, but the config reads '
                f'{image_suffix} and {mask_suffix}; give the data set with --data-root DIR --classes FILE'
            )
        checked = 0 if tolerant else check_labels(pairs, labels_in_masks(dataset, len(classes)))
        return [f'{split}: {MaskSplit(pairs, image_dir.as_posix(), mask_dir.as_posix(), checked).line()}']

    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        """Check each image and mask, their sizes, and all labels."""
        pairs = _pairs(reading)
        if pairs is None:
            return Content([], {})
        classes = reading.classes
        labels = labels_in_masks(reading.dataset, len(classes)) if classes else IGNORED
        images = [pairs.image(stem).as_posix() for stem in pairs.stems]
        masks = [pairs.mask(stem).as_posix() for stem in pairs.stems]
        answers = list(zip(check_files(images, check, cache), check_files(masks, 'mask', cache), strict=True))
        faults = [
            fault
            for index, (image, mask) in enumerate(answers)
            for fault in _faults(reading.split, index, (images[index], image), (masks[index], mask), labels)
        ]
        seen = {label for _, mask in answers if not mask.kind for label in mask.labels}
        if seen or not faults:
            require_labels(pairs.mask_dir, sorted(seen), labels, len(masks))
        check_palettes([Path(path) for path in spread(masks)])
        suffix = _suffixes(reading.dataset)[0]  # with which mmseg completes the names of a list
        names = tuple(f'{stem}{pairs.image_suffix}'.removesuffix(suffix) for stem in pairs.stems)
        return Content(faults, {'images': len(names)}, names)


MASKS = MaskLayout()


def find_class_file(root: Path) -> Path | None:
    """Return a text file of class names in the root or among the masks."""
    places = (root / folder / name for folder in ('', *MASK_FOLDERS) for name in CLASS_FILES)
    return next((place for place in places if place.is_file()), None)


def labels_in_masks(dataset: dict[str, Any], classes: int) -> int:
    """Return the number of labels that masks may hold: one more than there are classes where 0 becomes ignored."""
    return classes + bool(dataset.get('reduce_zero_label', type_name(dataset) == 'ADE20KDataset'))


def _folders(reading: Reading) -> tuple[Path, Path]:
    image_prefixes(reading.dataset)  # which checks that they are texts
    prefix = reading.dataset.get('data_prefix', {})
    return reading.path(prefix.get('img_path') or ''), reading.path(prefix.get('seg_map_path') or '')


def _suffixes(dataset: dict[str, Any]) -> tuple[str, str]:
    return dataset.get('img_suffix', '.jpg'), dataset.get('seg_map_suffix', '.png')


def _pairs(reading: Reading) -> MaskPairs | None:
    """Return the images and masks that mmseg reads; None where there are no masks."""
    dataset = reading.dataset
    if not dataset.get('data_prefix', {}).get('seg_map_path'):
        return None
    if not dataset.get('ann_file'):
        return pair_up(*_folders(reading))
    stems = tuple(listed_lines(reading.path(dataset['ann_file'])))
    return MaskPairs(*_folders(reading), *_suffixes(dataset), stems=stems)


def _faults(
    split: str, index: int, image: tuple[str, FileAnswer], mask: tuple[str, FileAnswer], labels: int
) -> Iterator[Fault]:
    """Find what is wrong with an image and its mask, each given by its path and what the check of the file found."""
    (image_path, image_is), (mask_path, mask_is) = image, mask
    drop = ('images', index)
    if image_is.kind:
        yield Fault(split, image_is.kind, image_path, image_is.detail, drop)
    if mask_is.kind:
        yield Fault(split, mask_is.kind.replace('image', 'mask'), mask_path, mask_is.detail, drop)
        return
    if not image_is.kind and (mask_is.width, mask_is.height) != (image_is.width, image_is.height):
        turned = ' as its EXIF data turn it' if image_is.stored else ''
        detail = f'{mask_is.width}x{mask_is.height}, its image is {image_is.width}x{image_is.height}{turned}'
        yield Fault(split, 'mask of another size', mask_path, detail, drop)
    foreign = [label for label in mask_is.labels if labels <= label < IGNORED]
    if foreign:
        yield Fault(split, 'undeclared label', mask_path, f'{shortlist(foreign)}; declared are 0 to {labels - 1}', drop)
    elif not set(mask_is.labels) - {IGNORED}:
        yield Fault(split, 'mask without a label', mask_path, '', None)
