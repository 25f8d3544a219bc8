"""Images and the masks that belong to them: where they lie, and how their names pair up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from emo_mm.data.splits import IMAGE_SUFFIXES, SPLIT_NAMES, count, files_under, shortlist
from emo_mm.errors import UserError

IMAGE_FOLDERS = ('img_dir', 'images', 'image', 'imgs', 'img', 'JPEGImages')
MASK_FOLDERS = ('ann_dir', 'masks', 'mask', 'annotations', 'labels', 'label', 'SegmentationClass')
MASK_SUFFIXES = ('.png', '.bmp', '.tif', '.tiff')
LOSSY_SUFFIXES = ('.jpg', '.jpeg')
# Of images: mmseg reads whatever OpenCV reads.
PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, '.tiff', '.webp')
# How names of masks end that lie among the images.
MARKS = ('_mask', '-mask', '.mask', '_masks', '_label', '_labels', '_seg', '_gt')
# Below the root or one of these, as PASCAL VOC has it: lists of names, images and masks.
_VOC_ROOTS = ('.', 'VOCdevkit/VOC2012', 'VOC2012')
_VOC_LISTS, _VOC_IMAGES, _VOC_MASKS = 'ImageSets/Segmentation', 'JPEGImages', 'SegmentationClass'


@dataclass(frozen=True)
class MaskPlace:
    """Where the images and masks of a split lie.

    Attributes:
        image_dir: Folder of the images.
        mask_dir: Folder of the masks; the same one where they lie among the images.
        names: List of the names of the split, where the folders hold more.
    """

    image_dir: Path
    mask_dir: Path
    names: Path | None = None


@dataclass(frozen=True)
class MaskPairs:
    """Images of one split and the masks that belong to them.

    mmseg's ``BaseSegDataset`` joins ``image_dir/<stem><image_suffix>`` with ``mask_dir/<stem><mask_suffix>``.

    Attributes:
        image_dir: Folder of the images.
        mask_dir: Folder of the masks.
        image_suffix: End of every image's name; empty where they differ, and the stems are whole names.
        mask_suffix: End of every mask's name.
        stems: What image and mask names share, subfolders included.
        masks: Stem to the mask's name, where no one ending leads from one to the other.
        listed: Whether the folders hold more than these pairs, so that a list of them is needed.
    """

    image_dir: Path
    mask_dir: Path
    image_suffix: str
    mask_suffix: str
    stems: tuple[str, ...]
    masks: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False

    def image(self, stem: str) -> Path:
        """Return the path of one image."""
        return self.image_dir / f'{stem}{self.image_suffix}'

    def mask(self, stem: str) -> Path:
        """Return the path of one mask."""
        return self.mask_dir / self.masks.get(stem, f'{stem}{self.mask_suffix}')


def find_place(root: Path, split: str) -> MaskPlace | None:
    """Return where a split lies: in folders of the usual names, in one folder, or as a list of PASCAL VOC says."""
    folders = find_folders(root, split)
    if folders is not None:
        return MaskPlace(*folders)
    for name in SPLIT_NAMES[split]:
        if any(True for _ in _marked(root / name)):
            return MaskPlace(root / name, root / name)
        for base in (root / below for below in _VOC_ROOTS):
            names = base / _VOC_LISTS / f'{name}.txt'
            if names.is_file() and (base / _VOC_MASKS).is_dir() and (base / _VOC_IMAGES).is_dir():
                return MaskPlace(base / _VOC_IMAGES, base / _VOC_MASKS, names)
    return None


def _marked(folder: Path) -> Iterator[str]:
    """Yield the names of masks that lie in a folder beside the images that they are named after."""
    if not folder.is_dir():
        return
    names = {path.name for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES}
    stems = {Path(name).stem for name in names}
    for name in names:
        stem = Path(name).stem
        if any(stem.endswith(mark) and stem.removesuffix(mark) in stems for mark in MARKS):
            yield name


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


def undivided_folders(root: Path) -> MaskPlace | None:
    """Return the image and the mask folder of a data set without splits, by their usual names."""
    pairs = ((root / images, root / masks) for images in IMAGE_FOLDERS for masks in MASK_FOLDERS)
    found = next((pair for pair in pairs if pair[0].is_dir() and pair[1].is_dir()), None)
    return None if found is None else MaskPlace(*found)


def pair_up(image_dir: Path, mask_dir: Path, names: Sequence[str] | None = None) -> MaskPairs:
    """Find by which endings image and mask names differ, and pair them.

    Args:
        image_dir: Folder of the images.
        mask_dir: Folder of the masks, which may be the same one.
        names: Names without their endings, where not all files count.

    Raises:
        UserError: If a folder has no files of the kind, a file has no partner, or a name no file.
    """
    images = files_under(image_dir, PHOTO_SUFFIXES)
    masks = files_under(mask_dir, MASK_SUFFIXES) or files_under(mask_dir, LOSSY_SUFFIXES)
    together = image_dir == mask_dir
    if together:
        images, masks = _apart(images)
    if not images:
        raise UserError(f'{image_dir}: holds no image ({", ".join(PHOTO_SUFFIXES)})')
    if not masks:
        raise UserError(f'{mask_dir}: holds no mask; index masks are single-channel images, best .png')
    if names is not None:
        images, masks = _named(image_dir, images, names), _named(mask_dir, masks, names)
    pairs = _paired(image_dir, mask_dir, images, masks)
    return replace(pairs, listed=together or names is not None or bool(pairs.masks))


def _paired(image_dir: Path, mask_dir: Path, images: Sequence[str], masks: Sequence[str]) -> MaskPairs:
    """Pair all images with all masks by their endings; by their names without file types where these are mixed."""
    mixed = len(_types(images)) > 1 or len(_types(masks)) > 1
    image_of, mask_of = (_keys(names, mixed) for names in (images, masks))
    shared = {
        (image_suffix, mask_suffix): _stems(image_of, image_suffix) & _stems(mask_of, mask_suffix)
        for image_suffix in _suffixes(list(image_of))
        for mask_suffix in _suffixes(list(mask_of))
    }
    suffixes = max(shared, key=lambda pair: len(shared[pair]))
    stems = sorted(shared[suffixes])
    if not stems:
        raise UserError(
            f'{mask_dir}: no mask is named like an image of {image_dir} ({masks[0]} against {images[0]}); '
            'names must be equal but for one fixed ending'
        )
    _all_paired(image_of, {f'{stem}{suffixes[0]}' for stem in stems}, image_dir, f'mask in {mask_dir}')
    _all_paired(mask_of, {f'{stem}{suffixes[1]}' for stem in stems}, mask_dir, f'image in {image_dir}')
    for folder, files, of in ((image_dir, images, image_of), (mask_dir, masks, mask_of)):
        if twice := set(files) - set(of.values()):
            stem = Path(min(twice)).stem
            raise UserError(f'{folder}: several files are called {stem} but for their type; keep one of them')
    if not mixed:
        return MaskPairs(image_dir, mask_dir, *suffixes, tuple(stems))
    found = {image_of[f'{stem}{suffixes[0]}']: mask_of[f'{stem}{suffixes[1]}'] for stem in stems}
    return MaskPairs(image_dir, mask_dir, '', '', tuple(sorted(found)), found)


def _apart(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the images from the masks of one folder, by the endings of the masks' names."""
    bare = {_bare(name) for name in names}
    masks = [
        name
        for name in names
        if any(_bare(name).endswith(mark) and _bare(name).removesuffix(mark) in bare for mark in MARKS)
    ]
    taken = set(masks)
    return [name for name in names if name not in taken], masks


def _named(folder: Path, files: Sequence[str], names: Sequence[str]) -> list[str]:
    by_name = {_bare(file): file for file in files}
    if missing := [name for name in names if name not in by_name]:
        raise UserError(
            f'{folder}: {len(missing)} of {count(len(names), "listed name")} are not there: {shortlist(missing, 3)}'
        )
    return sorted({by_name[name] for name in names})


def _bare(name: str) -> str:
    """Return a path without the file type."""
    return PurePosixPath(name).with_suffix('').as_posix()


def _types(names: Sequence[str]) -> set[str]:
    return {Path(name).suffix for name in names}


def _keys(names: Sequence[str], mixed: bool) -> dict[str, str]:
    """Return what pairs are found by, with the names: the names, or these without their types where types are mixed."""
    return {_bare(name) if mixed else name: name for name in names}


def _stems(names: Iterable[str], suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in names}


def _suffixes(names: Sequence[str]) -> list[str]:
    """Return the file type, and what all names end in from the last ``_``, ``-`` or ``.`` of it on (``_mask.png``)."""
    common = names[0]
    for name in names:
        while not name.endswith(common):
            common = common[1:]
    marks = [index for index, letter in enumerate(common) if letter in '_-.']
    return list(dict.fromkeys([Path(names[0]).suffix, *(common[index:] for index in marks)]))


def _all_paired(names: Mapping[str, str], paired: set[str], folder: Path, partner: str) -> None:
    alone = [name for name in names if name not in paired]
    if alone:
        raise UserError(
            f'{folder}: {len(alone)} of {count(len(names), "file")} have no {partner}: {shortlist(alone, 3)}'
        )
