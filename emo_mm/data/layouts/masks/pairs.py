"""Images and the masks that belong to them: where they lie, and how their names pair up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emo_mm.data.splits import IMAGE_SUFFIXES, SPLIT_NAMES, count, files_under, shortlist
from emo_mm.errors import UserError

IMAGE_FOLDERS = ('img_dir', 'images', 'image', 'imgs', 'img', 'JPEGImages')
MASK_FOLDERS = ('ann_dir', 'masks', 'mask', 'annotations', 'labels', 'label', 'SegmentationClass')
MASK_SUFFIXES = ('.png', '.bmp', '.tif', '.tiff')


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
        list_file: List of the stems, where they are not all that lie there.
    """

    image_dir: Path
    mask_dir: Path
    image_suffix: str
    mask_suffix: str
    stems: tuple[str, ...]
    list_file: Path | None = None

    def image(self, stem: str) -> Path:
        """Return the path of one image."""
        return self.image_dir / f'{stem}{self.image_suffix}'

    def mask(self, stem: str) -> Path:
        """Return the path of one mask."""
        return self.mask_dir / f'{stem}{self.mask_suffix}'


def find_folders(root: Path, split: str) -> tuple[Path, Path] | None:
    """Return the image and the mask folder of a split, by their usual names: by kind first, or by split first."""
    pairs = (
        (root / first[0] / first[1], root / second[0] / second[1])
        for name in SPLIT_NAMES[split]
        for images in IMAGE_FOLDERS
        for masks in MASK_FOLDERS
        for first, second in (((images, name), (masks, name)), ((name, images), (name, masks)))
    )
    return next((pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir()), None)


def undivided_folders(root: Path) -> tuple[Path, Path] | None:
    """Return the image and the mask folder of a data set without splits, by their usual names."""
    pairs = ((root / images, root / masks) for images in IMAGE_FOLDERS for masks in MASK_FOLDERS)
    return next((pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir()), None)


def pair_up(image_dir: Path, mask_dir: Path) -> MaskPairs:
    """Find by which suffixes image and mask names differ, and pair them.

    Raises:
        UserError: If a folder has no files of the kind, images have several suffixes, or a file has no partner.
    """
    images = files_under(image_dir)
    masks = files_under(mask_dir, MASK_SUFFIXES)
    if not images:
        raise UserError(f'{image_dir}: holds no image ({", ".join(IMAGE_SUFFIXES)})')
    if not masks:
        raise UserError(f'{mask_dir}: holds no mask; index masks are single-channel images, best .png')
    for folder, names in ((image_dir, images), (mask_dir, masks)):
        _one_ending(folder, names)
    shared = {
        (image_suffix, mask_suffix): _stems(images, image_suffix) & _stems(masks, mask_suffix)
        for image_suffix in _suffixes(images)
        for mask_suffix in _suffixes(masks)
    }
    suffixes = max(shared, key=lambda pair: len(shared[pair]))
    stems = shared[suffixes]
    if not stems:
        raise UserError(
            f'{mask_dir}: no mask is named like an image of {image_dir} ({masks[0]} against {images[0]}); '
            'names must be equal but for one fixed ending'
        )
    _all_paired(images, {f'{stem}{suffixes[0]}' for stem in stems}, image_dir, f'mask in {mask_dir}')
    _all_paired(masks, {f'{stem}{suffixes[1]}' for stem in stems}, mask_dir, f'image in {image_dir}')
    return MaskPairs(image_dir, mask_dir, *suffixes, tuple(sorted(stems)))


def _one_ending(folder: Path, names: Sequence[str]) -> None:
    endings = Counter(Path(name).suffix for name in names)
    if len(endings) > 1:
        kinds = ', '.join(f'{number} {ending}' for ending, number in endings.most_common())
        raise UserError(f'{folder}: mixes file types ({kinds}); mmseg reads one suffix per folder, convert the others')


def _stems(names: Sequence[str], suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in names}


def _suffixes(names: Sequence[str]) -> list[str]:
    """Return the file type, and what all names end in from the last ``_``, ``-`` or ``.`` of it on (``_mask.png``)."""
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
