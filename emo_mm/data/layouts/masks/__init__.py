"""Segmentation data as a folder of images and one of masks, per split.

Known without further options: ``img_dir/{train,val,test}`` with ``ann_dir/...``, ``images/...`` with ``masks/...`` or
``annotations/...``, the same with the split first (``train/images``), images and masks in one folder per split
(``train/a.jpg`` and ``train/a_mask.png``), and PASCAL VOC's folders with lists of names. Classes come from
``--classes``, a file of them in the root or beside the masks, or else from the palette of the masks. What is no index
mask yet, be it black and white or coloured, is converted (``decide``, ``convert``); a run reads the copies.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from emo_mm.config.edits import Change, Edit
from emo_mm.config.parts import dataset_classes, dataset_palette, image_prefixes, inherits, type_name
from emo_mm.config.view import ConfigView, inner_parts
from emo_mm.data.faults import Content, Fault
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import FileAnswer, check_files
from emo_mm.data.labelled import LabelledImage, MaskLabels
from emo_mm.data.layouts.base import (
    DERIVED,
    Checked,
    Found,
    Layout,
    Names,
    Reading,
    listed_lines,
    same_folders,
    write_text,
)
from emo_mm.data.layouts.masks.classes import MaskNames, agreed_names, other_classes
from emo_mm.data.layouts.masks.convert import INDEX_MASKS, Conversion, MaskSource, converted, read_record, write_copies
from emo_mm.data.layouts.masks.labels import check_labels, check_palettes, require_labels, spread
from emo_mm.data.layouts.masks.pairs import (
    LOSSY_SUFFIXES,
    MASK_SUFFIXES,
    MaskPairs,
    MaskPlace,
    find_place,
    pair_up,
    undivided_folders,
)
from emo_mm.data.layouts.masks.pixels import IGNORED
from emo_mm.data.layouts.masks.table import find_class_file
from emo_mm.data.splits import SPLITS, DataRequest, files_under, inside, locate, shortlist
from emo_mm.data.splitting import Item
from emo_mm.errors import UserError

# Data sets of mmseg that read images and masks; of two images, where changes between them are labelled.
_BASES = ('BaseSegDataset', 'BaseCDDataset')


@dataclass(frozen=True)
class MaskSplit(Checked):
    """One split of images and masks, checked.

    Attributes:
        name: The split.
        pairs: The images and masks.
        image_dir: Folder of the images, relative to the root where it lies under it.
        mask_dir: Folder of the masks, likewise.
        checked: How many masks had their labels checked.
        how: How the masks become index masks.
        notes: Oddities that are no faults.
        annotated: Whether there are labels at all; the images for a test server have none.
    """

    name: str
    pairs: MaskPairs
    image_dir: str
    mask_dir: str
    checked: int
    how: Conversion = INDEX_MASKS
    notes: tuple[str, ...] = ()
    annotated: bool = True

    @property
    def copied(self) -> bool:
        """Whether a run reads copies of the masks, which differ or have names that mmseg finds."""
        return self.how.changes or bool(self.pairs.masks)

    def sources(self) -> dict[str, MaskSource]:
        """Return what each mask is made from, by the names of the images.

        Raises:
            OSError: If a mask is not there.
        """
        return {stem: converted(self.pairs.mask(stem), self.how) for stem in self.pairs.stems}

    def copies(self, derived: Path) -> Path:
        """Return the folder of the copies."""
        return derived.absolute() / f'masks_{self.name}'

    def listed(self, derived: Path) -> Path:
        """Return the list of the names of the images."""
        return derived.absolute() / f'images_{self.name}.txt'

    def line(self) -> str:
        """Return the folder of the images, which all have a mask, and how many masks were checked."""
        number = len(self.pairs.stems)
        labels = f', labels checked in {self.checked} of them' if self.checked else ''
        return f'{self.image_dir}: {number} of {number} images have a mask{labels}'

    def detail(self) -> str:
        """Return the number of pairs, both folders, and how many masks were checked."""
        return f'{len(self.pairs.stems)} pairs in {self.image_dir} and {self.mask_dir}, {self.checked} masks read'


class MaskLayout(Layout[MaskPlace, MaskPairs, MaskSplit]):
    """A folder of images and a folder of masks."""

    name = 'images with masks'
    has_masks = True
    looks_like = 'img_dir/train with ann_dir/train, images/train with masks/train, or train/a.jpg with train/a_mask.png'
    sources: ClassVar[Mapping[str, str]] = {
        'ADE20KDataset': 'ADE20K for scene parsing: ADEChallengeData2016.zip from http://sceneparsing.csail.mit.edu/, '
        'unpacked so that images/ and annotations/ lie in that folder.',
    }

    # --- a folder
    def find(self, request: DataRequest, split: str) -> MaskPlace | None:
        """Return the folder of the images and that of the masks, which is what ``--*-ann`` names here."""
        root, images, masks = request.root, request.images(split), request.ann(split)
        if images is None and masks is None:
            return find_place(root, split)
        if images is None or masks is None:
            raise UserError(f'--{split}-images and --{split}-ann (the folder of masks) must be given together')
        folders = locate(root, images, f'--{split}-images'), locate(root, masks, f'--{split}-ann')
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f'{folder}: is a file; the folders of images and of masks are expected')
        return MaskPlace(*folders)

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split without folders of the usual names."""
        return UserError(
            f'{root}: no images and masks of the {split} split found; usual are img_dir/{split} and '
            f'ann_dir/{split}, images/{split} and masks/{split}, or {split}/a.jpg and {split}/a_mask.png. Give the '
            f'folders with --{split}-images DIR --{split}-ann DIR'
        )

    def read(self, place: MaskPlace, tolerant: bool) -> MaskPairs:
        """Return the pairs of images and masks."""
        return pair_up(place.image_dir, place.mask_dir, listed_lines(place.names) if place.names else None)

    def agree(self, root: Path, parts: Mapping[str, MaskPairs], request: DataRequest, tolerant: bool) -> MaskNames:
        """Return the classes of a file, or those that the masks have, and how masks become index masks."""
        return agreed_names(root, parts, request, tolerant)

    def check(self, root: Path, split: str, part: MaskPairs, names: Names, tolerant: bool) -> MaskSplit:
        """Check sizes and labels of up to 50 masks."""
        how = names.how if isinstance(names, MaskNames) else INDEX_MASKS
        checked = 0 if tolerant else check_labels(part, len(names.classes), how)
        notes = names.notes if isinstance(names, MaskNames) else ()
        if part.masks:
            notes = (*notes, 'files of several types: a run reads a list of them')
        if how.changes or part.masks:
            notes = (*notes, f'copies of the masks are read, {DERIVED}/masks_{split} in the work directory')
        return MaskSplit(split, part, inside(root, part.image_dir), inside(root, part.mask_dir), checked, how, notes)

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether there are masks; folders of the same names may hold other labels, in text files."""
        named = [ann for split in SPLITS if (ann := request.ann(split))]
        if any(path.is_file() for ann in named for path in (request.root / ann, Path(ann))):
            return False
        try:
            places = [self.find(request, split) for split in SPLITS]
        except UserError:  # what was named is not there; images alone say nothing of their labels
            return bool(named)
        whole = self.undivided(request) if request.split is not None else None
        return any(_has_masks(place.mask_dir) for place in (*places, whole) if place is not None)

    # --- a folder without splits
    divisible = True

    def undivided(self, request: DataRequest) -> MaskPlace | None:
        """Return the folder of the images and that of the masks."""
        place = undivided_folders(request.root)
        return place if place is not None and _has_masks(place.mask_dir) else None

    def items(self, part: MaskPairs) -> list[Item]:
        """Return the pairs; their classes are not looked at."""
        return [Item(f'{stem}{part.image_suffix}') for stem in part.stems]

    def subset(self, part: MaskPairs, kept: Sequence[int], target: Path) -> MaskPairs:
        """Return some of the pairs."""
        return replace(part, stems=tuple(part.stems[index] for index in kept), listed=True)

    # --- what is shown of a folder
    def labelled(self, found: Found[MaskSplit], split: MaskSplit) -> Iterator[LabelledImage]:
        """Yield the images with their masks, which are read or made when they are asked for."""
        for name, source in split.sources().items():
            yield LabelledImage(split.pairs.image(name), MaskLabels(source.make))

    def look(self, place: MaskPlace) -> str:
        """Return the command that shows which names have no partner."""
        folders = (place.image_dir, place.mask_dir)
        images, masks = (f'<(ls {shlex.quote(str(folder))} | cut -d. -f1)' for folder in folders)
        return f'diff {images} {masks}'

    # --- a folder in a config
    def kept(self, view: ConfigView, request: DataRequest) -> list[str] | None:
        """Keep the classes of a config that reads the same folders, where nothing in these speaks of other ones."""
        if not same_folders(view, request) or find_class_file(request.root) is not None:
            return None
        dataset, scope = view.only_dataset('train' if view.training else 'test').node, view.task.scope
        classes, palette = dataset_classes(dataset, scope) or (), dataset_palette(dataset, scope)
        mask_dir = request.root / (dataset.get('data_prefix', {}).get('seg_map_path') or '')
        warning = other_classes(mask_dir, len(classes), palette)
        if warning is None:
            return None
        line = "the config's own classes are kept; for others give --classes FILE"
        return [*([f'WARNING: {warning}'] if warning else []), line]

    def point(self, reading: Reading, found: Found[MaskSplit], split: MaskSplit) -> tuple[Edit, ...]:
        """Give a data set its folders, endings and classes; label 0 is a class like the others."""
        pairs, derived = split.pairs, found.derived
        masks = (split.copies(derived).as_posix(), '.png') if split.copied else (split.mask_dir, pairs.mask_suffix)
        folders = reading.part.edit(
            type='BaseSegDataset',
            data_root=found.root.as_posix(),
            data_prefix={'img_path': split.image_dir, 'seg_map_path': masks[0]},
            img_suffix=pairs.image_suffix,
            seg_map_suffix=masks[1],
            reduce_zero_label=False,
            metainfo={'classes': found.classes, 'palette': list(found.names.palette)},
        )
        if split.copied or pairs.listed:
            return (*reading.part.edit(ann_file=split.listed(derived).as_posix()), *folders)
        return (*reading.part.remove('ann_file'), *folders)

    def write(self, found: Found[MaskSplit], tolerant: bool) -> None:
        """Write copies of the masks that are converted, and the lists of the images."""
        for split in found.splits.values():
            pairs = split.pairs
            if not (split.copied or pairs.listed):
                continue
            try:
                write_text(split.listed(found.derived), '\n'.join([*pairs.stems, '']))
                folder = split.copies(found.derived)
                copied = write_copies(split.sources(), repr(split.how), folder) if split.copied else {}
            except OSError as error:
                raise UserError(
                    f'{found.derived}: cannot be written: {error.strerror}; give another --work-dir'
                ) from error
            bad = [one for one in copied.values() if one.answer.kind]
            if bad and not tolerant:
                raise UserError(f'{bad[0].source}: {bad[0].answer.kind}: {bad[0].answer.detail}')

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
        if pairs.masks:
            raise UserError(
                f'{image_dir}: mixes file types, but the config reads {image_suffix} and {mask_suffix}; give the data '
                'set with --data-root DIR --classes FILE'
            )
        if not (pairs.image_suffix.endswith(image_suffix) and pairs.mask_suffix.endswith(mask_suffix)):
            raise UserError(
                f'{image_dir}: names end in {pairs.image_suffix} and {pairs.mask_suffix}, but the config reads '
                f'{image_suffix} and {mask_suffix}; give the data set with --data-root DIR --classes FILE'
            )
        checked = 0 if tolerant else check_labels(pairs, labels_in_masks(dataset, len(classes)))
        return [f'{split}: {MaskSplit(split, pairs, image_dir.as_posix(), mask_dir.as_posix(), checked).line()}']

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
        copied, mask_dir = read_record(pairs.mask_dir), pairs.mask_dir
        if copied:  # what is told is told of the user's masks
            sources = [copied[stem] for stem in pairs.stems]
            masks, mask_dir = [one.source for one in sources], Path(sources[0].source).parent
            answers = [
                (image, one.answer if one.answer.kind else mask)
                for (image, mask), one in zip(answers, sources, strict=True)
            ]
        faults = [
            fault
            for index, (image, mask) in enumerate(answers)
            for fault in _faults(reading.split, index, (images[index], image), (masks[index], mask), labels)
        ]
        seen = {label for _, mask in answers if not mask.kind for label in mask.labels}
        if seen or not faults:
            require_labels(mask_dir, sorted(seen), labels, len(masks))
        if not copied:
            check_palettes([Path(path) for path in spread(masks)])
        suffix = _suffixes(reading.dataset)[0]  # with which mmseg completes the names of a list
        names = tuple(f'{stem}{pairs.image_suffix}'.removesuffix(suffix) for stem in pairs.stems)
        return Content(faults, {'images': len(names)}, names)


MASKS = MaskLayout()


def labels_in_masks(dataset: dict[str, Any], classes: int) -> int:
    """Return the number of labels that masks may hold: one more than there are classes where 0 becomes ignored."""
    return classes + bool(dataset.get('reduce_zero_label', type_name(dataset) == 'ADE20KDataset'))


def _has_masks(folder: Path) -> bool:
    return bool(files_under(folder, (*MASK_SUFFIXES, *LOSSY_SUFFIXES)))


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
