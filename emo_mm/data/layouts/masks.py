"""Segmentation data as a folder of images and one of index masks: finds the pairs, reads classes, checks labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from emo_mm.data.splits import (
    IMAGE_SUFFIXES,
    SPLIT_NAMES,
    DataRequest,
    count,
    files_under,
    inside,
    locate,
    read_classes,
    shortlist,
    wanted_splits,
)
from emo_mm.errors import UserError
from emo_mm.runtime.colours import class_colours
from emo_mm.runtime.images import FORMATS, upright_size

IMAGE_FOLDERS = ('img_dir', 'images', 'image', 'imgs', 'img', 'JPEGImages')
MASK_FOLDERS = ('ann_dir', 'masks', 'mask', 'annotations', 'labels', 'label', 'SegmentationClass')
CLASS_FILES = ('CLASSES.txt', 'classes.txt', 'labels.txt')
MASK_SUFFIXES = ('.png', '.bmp', '.tif', '.tiff')

IGNORED = 255
CHECKED_MASKS = 50  # per split: at most some seconds, and a wrong labelling shows in nearly every mask


@dataclass(frozen=True)
class MaskPairs:
    """Images of one split and the masks that belong to them.

    mmseg's ``BaseSegDataset`` joins ``image_dir/<stem><image_suffix>`` with ``mask_dir/<stem><mask_suffix>``.

    Attributes:
        image_dir: Folder of the images.
        mask_dir: Folder of the masks.
        image_suffix: End of every image's name.
        mask_suffix: End of every mask's name.
        stems: What image and mask names share, subfolders included.
    """

    image_dir: Path
    mask_dir: Path
    image_suffix: str
    mask_suffix: str
    stems: tuple[str, ...]

    def image(self, stem: str) -> Path:
        """Path of one image."""
        return self.image_dir / f'{stem}{self.image_suffix}'

    def mask(self, stem: str) -> Path:
        """Path of one mask."""
        return self.mask_dir / f'{stem}{self.mask_suffix}'


@dataclass(frozen=True)
class MaskSplits:
    """A segmentation data set, checked.

    Attributes:
        root: Its folder.
        classes: Class names in label order.
        palette: A colour (R, G, B in 0..255) per class.
        source: Where the classes come from, in words.
        splits: Found splits by name (``train``, ``val``, ``test``).
        checked: How many masks of each split had their labels checked.
    """

    root: Path
    classes: tuple[str, ...]
    palette: list[tuple[int, int, int]]
    source: str
    splits: dict[str, MaskPairs]
    checked: dict[str, int]

    def lines(self) -> list[str]:
        """The counts of image and mask pairs, a line per split, after one on the classes."""
        classes = f'{count(len(self.classes), "class", "classes")} from {self.source}: {shortlist(self.classes)}'
        return [classes] + [
            summary(name, inside(self.root, pairs.image_dir), pairs, self.checked[name])
            for name, pairs in self.splits.items()
        ]


def summary(split: str, folder: str, pairs: MaskPairs, checked: int) -> str:
    """One line on a split whose images all have a mask."""
    number = len(pairs.stems)
    labels = f', labels checked in {checked} of them' if checked else ''
    return f'{split}: {folder}: {number} of {number} images have a mask{labels}'


def find_folders(root: Path, split: str) -> tuple[Path, Path] | None:
    """Finds the image and the mask folder of a split by their usual names, either way round: by kind or by split."""
    for name in SPLIT_NAMES[split]:
        for images in IMAGE_FOLDERS:
            for masks in MASK_FOLDERS:
                for pair in ((f'{images}/{name}', f'{masks}/{name}'), (f'{name}/{images}', f'{name}/{masks}')):
                    if (root / pair[0]).is_dir() and (root / pair[1]).is_dir():
                        return root / pair[0], root / pair[1]
    return None


def pair_up(image_dir: Path, mask_dir: Path) -> MaskPairs:
    """Finds by which suffixes image and mask names differ, and pairs them.

    Raises:
        UserError: A folder has no files of the kind, images have several suffixes, or a file has no partner.
    """
    images = files_under(image_dir)
    masks = files_under(mask_dir, MASK_SUFFIXES)
    if not images:
        raise UserError(f'{image_dir}: holds no image ({", ".join(IMAGE_SUFFIXES)})')
    if not masks:
        raise UserError(f'{mask_dir}: holds no mask; index masks are single-channel images, best .png')
    for folder, names in ((image_dir, images), (mask_dir, masks)):
        endings = Counter(Path(name).suffix for name in names)
        if len(endings) > 1:
            kinds = ', '.join(f'{number} {ending}' for ending, number in endings.most_common())
            raise UserError(
                f'{folder}: mixes file types ({kinds}); mmseg reads one suffix per folder, convert the others'
            )
    best: MaskPairs | None = None
    for image_suffix in _suffixes(images):
        for mask_suffix in _suffixes(masks):
            stems = {name.removesuffix(image_suffix) for name in images}
            shared = stems & {name.removesuffix(mask_suffix) for name in masks}
            if best is None or len(shared) > len(best.stems):
                best = MaskPairs(image_dir, mask_dir, image_suffix, mask_suffix, tuple(sorted(shared)))
    assert best is not None  # both lists have a file, so the loops ran
    if not best.stems:
        raise UserError(
            f'{mask_dir}: no mask is named like an image of {image_dir} ({masks[0]} against {images[0]}); '
            'names must be equal but for one fixed ending'
        )
    _all_paired(images, {f'{stem}{best.image_suffix}' for stem in best.stems}, image_dir, f'mask in {mask_dir}')
    _all_paired(masks, {f'{stem}{best.mask_suffix}' for stem in best.stems}, mask_dir, f'image in {image_dir}')
    return best


def _suffixes(names: Sequence[str]) -> list[str]:
    """The file type, and what all names end in from the last ``_``, ``-`` or ``.`` of it on (``_mask.png``)."""
    common = names[0]
    for name in names:
        while not name.endswith(common):
            common = common[1:]
    marks = [index for index, letter in enumerate(common) if letter in '_-.']
    return list(dict.fromkeys([Path(names[0]).suffix, *(common[index:] for index in marks)]))


def _all_paired(names: Sequence[str], paired: set[str], folder: Path, partner: str) -> None:
    alone = [name for name in names if name not in paired]
    if alone:
        raise UserError(
            f'{folder}: {len(alone)} of {count(len(names), "file")} have no {partner}: {shortlist(alone, 3)}'
        )


def read_mask(path: Path) -> np.ndarray:
    """Reads an index mask.

    Returns:
        Labels of shape (height, width), uint8.

    Raises:
        UserError: The file is no image, has several channels, or labels that do not fit in 8 bits.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            labels = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f'{path}: cannot be read as an image ({error})') from error
    if labels.ndim != 2:
        raise UserError(
            f'{path}: has {labels.shape[-1]} channels; wanted is an index mask, one channel whose values are class '
            'numbers, so colour masks must be converted first'
        )
    if labels.dtype != np.uint8 and labels.size and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
        raise UserError(f'{path}: labels run from {labels.min()} to {labels.max()}; mmseg reads 0 to 255')
    return labels.astype(np.uint8)


def spread(stems: Sequence[str], most: int = CHECKED_MASKS) -> list[str]:
    """Takes at most so many items, evenly over the whole sequence."""
    if len(stems) <= most:
        return list(stems)
    return [stems[index * len(stems) // most] for index in range(most)]


def check_labels(pairs: MaskPairs, labels: int) -> int:
    """Checks masks, at most 50 spread over the split: size as their image's, labels declared, some not ignored.

    Args:
        pairs: The images and masks.
        labels: Number of labels allowed: 0 to ``labels - 1``, and 255 for ignored pixels.

    Returns:
        Number of masks checked.

    Raises:
        UserError: A mask is not as it must be.
    """
    stems = spread(pairs.stems)
    check_palettes([pairs.mask(stem) for stem in stems])
    seen = np.zeros(256, dtype=bool)
    for stem in stems:
        mask = read_mask(pairs.mask(stem))
        if mask.shape != (shape := _image_shape(pairs.image(stem))):
            raise UserError(
                f'{pairs.mask(stem)}: is {mask.shape[1]}x{mask.shape[0]} but its image is {shape[1]}x{shape[0]} '
                '(as shown, after any rotation in its EXIF data)'
            )
        present = np.bincount(mask.ravel(), minlength=256) > 0  # mask (H, W) -> (H*W,)
        foreign = [int(value) for value in np.flatnonzero(present[:IGNORED]) if value >= labels]
        if foreign:
            hint = f' (if 0 is a class too, {labels + 1} names are needed)' if foreign == [labels] else ''
            raise UserError(
                f'{pairs.mask(stem)}: holds {count(len(foreign), "label")} beyond the '
                f'{count(labels, "class", "classes")} 0 to {labels - 1}: {shortlist(foreign)}; declare their names or '
                f'set those pixels to {IGNORED}{hint}'
            )
        seen |= present
    require_labels(pairs.mask_dir, np.flatnonzero(seen).tolist(), labels, len(stems))
    return len(stems)


def check_palettes(paths: Sequence[Path]) -> None:
    """Checks that masks with palettes give each label one colour.

    Programs that save a colour mask with few colours number them anew in each file: by frequency, or as they come.

    Raises:
        UserError: The same label has two colours.
    """
    known: dict[int, tuple[tuple[int, ...], Path]] = {}
    for path in paths:
        for label, colour in _label_colours(path).items():
            first, where = known.setdefault(label, (colour, path))
            if first != colour:
                raise UserError(
                    f'{where} and {path}: label {label} is {first} in the palette of one and {colour} in that of the '
                    'other, so their labels may mean different classes; write the masks with one palette, or as grey '
                    'images of class numbers'
                )


def _label_colours(path: Path) -> dict[int, tuple[int, ...]]:
    """Returns the colour of each label that a mask with a palette holds; nothing without one, or for one of greys."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode != 'P':
                return {}
            colours = image.getpalette() or []
            labels = [label for _, label in image.getcolors() or []]
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError):
        return {}  # the caller says so
    if all(colours[3 * n : 3 * n + 3] == [n] * 3 for n in labels):
        return {}
    found = {n: tuple(colours[3 * n : 3 * n + 3]) for n in labels if isinstance(n, int) and n != IGNORED}
    return {label: colour for label, colour in found.items() if colour}


def require_labels(mask_dir: Path, seen: Sequence[int], labels: int, checked: int) -> None:
    """Checks that masks, together, hold something to learn.

    Args:
        mask_dir: Their folder.
        seen: The labels that they hold.
        labels: Number of labels allowed.
        checked: Number of masks looked into.

    Raises:
        UserError: They hold nothing but ignored pixels, or these and label 0.
    """
    used = [label for label in seen if label != IGNORED]
    if not used or (IGNORED in seen and used == [0]):
        only = 'only label 0' if used else 'no label'
        names = '' if labels > 1 else ', and the two classes named (the background first)'
        raise UserError(
            f'{mask_dir}: {count(checked, "mask")} checked and {only} found besides {IGNORED}, which is '
            f'ignored; in masks of 0 and {IGNORED}, {IGNORED} must be rewritten as 1{names}'
        )
    if labels == 1:
        raise UserError(
            f'{mask_dir}: there is one class only, and each pixel is of it or ignored: nothing can be learned; name '
            'the background too, as the first class'
        )


def _image_shape(path: Path) -> tuple[int, int]:
    """Height and width as decoded for training, that is turned as the EXIF data say."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = upright_size(image)
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f'{path}: cannot be read as an image ({error})') from error
    return height, width


def find_class_file(root: Path) -> Path | None:
    """Finds a text file of class names in the root or among the masks."""
    for folder in ('', *MASK_FOLDERS):
        for name in CLASS_FILES:
            if (root / folder / name).is_file():
                return root / folder / name
    return None


def palette_classes(pairs: MaskPairs, tolerant: bool = False) -> tuple[tuple[str, ...], list[tuple[int, int, int]]]:
    """Makes classes from masks with a palette: ``class_0``, ... up to the largest label of all masks of the split.

    Args:
        pairs: The images and masks.
        tolerant: Whether masks that cannot be read are left to ``content_check``.

    Returns:
        The names, and the palette's colours as triples of R, G, B in 0..255.

    Raises:
        UserError: The masks have no palette.
    """
    colours = None
    largest = -1
    for stem in pairs.stems:
        try:
            with Image.open(pairs.mask(stem), formats=FORMATS) as image:
                colours = colours or image.getpalette()
            labels = read_mask(pairs.mask(stem))
        except (UserError, OSError):
            if not tolerant:
                raise
            continue
        if not colours:
            break
        known = labels[labels != IGNORED]  # (H, W) -> (known pixels,)
        largest = max(largest, int(known.max()) if known.size else -1)
    if not colours:
        raise UserError(
            f'{pairs.mask_dir}: the class names are not known: there is no CLASSES.txt, and the masks have no palette. '
            'Give a text file with --classes FILE, one name per line in the order of the labels'
        )
    # a palette may hold fewer colours than labels; the missing ones are filled with our own
    triples = [(colours[start], colours[start + 1], colours[start + 2]) for start in range(0, len(colours), 3)]
    triples = triples[: largest + 1] + class_colours(largest + 1)[len(triples) :]
    return tuple(f'class_{label}' for label in range(largest + 1)), triples


def resolve_masks(request: DataRequest, training: bool = True, tolerant: bool = False) -> MaskSplits:
    """Finds and checks the splits of a folder of images and index masks.

    Known without further options: ``img_dir/{train,val,test}`` with ``ann_dir/...``, ``images/...`` with ``masks/...``
    or ``annotations/...``, and the same with the split first (``train/images``). Classes come from ``--classes``, a
    ``CLASSES.txt`` in the root or beside the masks, or else from the palette of the masks.

    Args:
        request: The data root and what overrides the search; ``*_ann`` are the folders of masks.
        training: Whether train and val are needed (test is taken if there is one), or only test (val if there is none).
        tolerant: Whether sizes and labels of the masks are left to ``content_check``.

    Raises:
        UserError: A split cannot be found, a pair is incomplete, or the masks do not fit the classes.
    """
    root = request.root
    found: dict[str, MaskPairs] = {}
    for split in wanted_splits(request, training, find_folders):
        folders = _given_folders(root, request, split) or find_folders(root, split)
        if folders is None:
            raise UserError(
                f'{root}: no images and masks of the {split} split found; usual are img_dir/{split} and '
                f'ann_dir/{split}, or images/{split} and masks/{split}. Give the folders with '
                f'--{split}-images DIR --{split}-ann DIR'
            )
        found[split] = pair_up(*folders)
    first = next(iter(found.values()))
    path = locate(root, request.classes, '--classes') if request.classes else find_class_file(root)
    if path is not None:
        names = tuple(read_classes(path))
        result = MaskSplits(root, names, class_colours(len(names)), inside(root, path), found, {})
    else:
        names, colours = palette_classes(first, tolerant)
        result = MaskSplits(root, names, colours, f'the palette of {inside(root, first.mask_dir)}', found, {})
    checked = {split: 0 if tolerant else check_labels(pairs, len(names)) for split, pairs in found.items()}
    return replace(result, checked=checked)


def _given_folders(root: Path, request: DataRequest, split: str) -> tuple[Path, Path] | None:
    images, masks = request.images(split), request.ann(split)
    if images is None and masks is None:
        return None
    if images is None or masks is None:
        raise UserError(f'--{split}-images and --{split}-ann (the folder of masks) must be given together')
    folders = locate(root, images, f'--{split}-images'), locate(root, masks, f'--{split}-ann')
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f'{folder}: is a file; the folders of images and of masks are wanted')
    return folders
