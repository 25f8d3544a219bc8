"""Before the first step: are the images and annotations themselves sound, each of them?

``preflight`` asks whether a data set is there and fits the config. This module reads its files (``file_check``), holds
them against the annotations, shows what is wrong in a table, and then stops or leaves the faulty parts out, as asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from emo_mm.config.parts import (
    dataset_classes,
    image_prefixes,
    path_in,
    split_datasets,
    task_scope,
    type_name,
)
from emo_mm.data.faults import Content, Fault, summary, table, write_list
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import FileAnswer, check_files
from emo_mm.data.layouts import coco, folders, masks
from emo_mm.data.leave_out import leave_out
from emo_mm.data.preflight import labels_in_masks, training_splits
from emo_mm.data.splits import count, files_under, shortlist
from emo_mm.errors import UserError
from emo_mm.weights.cache import cache_dir

if TYPE_CHECKING:
    from mmengine.config import Config

POLICIES = ('error', 'skip')
FAULT_LIST = 'data_faults.csv'  # in the work directory


def check_content(cfg: Config, training: bool, check: str = 'quick', policy: str = 'error') -> list[str]:
    """Check every image and annotation that a run reads.

    Args:
        cfg: The whole config; with the policy ``skip`` its data sets are changed to leave faulty parts out. Its work
            directory gets the list of faults, and lists of what is left.
        training: Check what training reads (train, val), else what testing reads (test).
        check: ``quick`` or ``full``; see ``file_check``.
        policy: What to do about faults: ``error`` or ``skip``.

    Returns:
        Lines to print.

    Raises:
        UserError: There are faults and the policy is ``error``, or nothing is left without them.
    """
    folder = Path(cfg.work_dir)
    start = time.monotonic()
    with _one_at_a_time() as cache:
        found = [
            (split, dataset, _CHECKS[task_scope(cfg)](split, dataset, check, cache))
            for split in training_splits(training)
            for dataset in split_datasets(cfg, split)
        ]
    faults = [fault for _, _, content in found for fault in content.faults]
    number = sum(content.items.get('images', 0) for _, _, content in found)
    seconds = time.monotonic() - start
    checked = f'{check} check of {count(number, "image")} in {seconds:.1f} s'
    if not faults:
        (folder / FAULT_LIST).unlink(missing_ok=True)  # of a run before they were mended
        return [f'{checked}: no fault'] if number else []
    write_list(faults, folder / FAULT_LIST)
    shown = [f'  {row}' for row in table(faults)]
    listed = f'  all of them: {folder / FAULT_LIST}'
    if policy == 'error' and any(fault.serious for fault in faults):
        ways = 'Mend them, leave them out with --bad-data skip, or pass over this check with --skip-check.'
        raise UserError('\n'.join([f'the data have {summary(faults)} ({checked})', *shown, listed, ways]))
    lines = [f'{checked}: {summary(faults)}', *shown, listed]
    for index, (split, dataset, content) in enumerate(found):
        if any(fault.serious for fault in content.faults):
            lines += leave_out(cfg, split, dataset, content, folder / 'checked_data' / f'{index}_{split}')
    return lines


@contextmanager
def _one_at_a_time() -> Iterator[CheckCache]:
    """The cache of answers; of the processes of a distributed run, one after another checks, the first for all."""
    folder = cache_dir().with_name('checks')
    cache = CheckCache(folder)
    if int(os.environ.get('WORLD_SIZE', os.environ.get('SLURM_NTASKS', 1))) == 1:
        yield cache
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / 'lock')
        lock.acquire()
    except OSError:  # not ours to write: each process checks for itself
        yield cache
        return
    try:
        yield cache
    finally:
        lock.release()


def _check_coco(split: str, dataset: dict[str, Any], check: str, cache: CheckCache) -> Content:
    if 'Coco' not in type_name(dataset) or not dataset.get('ann_file'):
        return Content([], {})
    path = path_in(dataset, dataset['ann_file'])
    file = coco.read_annotations(path, tolerant=True)
    image_dir = path_in(dataset, dataset.get('data_prefix', {}).get('img', ''))
    paths = [(image_dir / name).as_posix() for name in file.images]
    # The annotations of COCO itself have a few empty boxes, which all figures were made with: mmdet passes over them.
    published = not (dataset.get('metainfo') or {}).get('classes')
    faults = []
    for index, (image, answer) in enumerate(zip(paths, check_files(paths, check, cache), strict=True)):
        if answer.kind:
            faults.append(Fault(split, answer.kind, image, answer.detail, ('images', index)))
        elif fault := _size_differs(answer, file.sizes[index], path):
            note = published and answer.stored == file.sizes[index]
            faults.append(Fault(split, fault[0], image, fault[1], None if note else ('images', index)))
    for entry in file.faults:
        harmless = not entry.broken and (published or entry.kind in coco.HARMLESS)
        place = (image_dir / entry.image).as_posix() if entry.image else path.as_posix()
        drop = None if harmless else (entry.entries, entry.index)
        faults.append(Fault(split, entry.kind, place, f'{path.name}: {entry.detail}', drop))
    if file.annotated:
        faults += [Fault(split, 'image without a box', paths[index], '', None) for index in file.without_boxes]
    return Content(faults, {'images': len(paths), 'annotations': file.annotations})


def _size_differs(answer: FileAnswer, declared: tuple[Any, Any], path: Path) -> tuple[str, str] | None:
    width, height = declared
    if (answer.width, answer.height) == (width, height):
        return None
    detail = f'{answer.width}x{answer.height}, in {path.name} {width}x{height}'
    if answer.stored == (width, height):
        detail += '; its EXIF data turn it, and the boxes are for the image as it lies'
    return 'size other than annotated', detail


def _check_masks(split: str, dataset: dict[str, Any], check: str, cache: CheckCache) -> Content:
    pairs = _mask_pairs(dataset)
    if pairs is None:
        return Content([], {})
    classes = dataset_classes(dataset, 'mmseg')
    labels = labels_in_masks(dataset, classes) if classes else masks.IGNORED
    image_paths = [pairs.image(stem).as_posix() for stem in pairs.stems]
    mask_paths = [pairs.mask(stem).as_posix() for stem in pairs.stems]
    images, found = check_files(image_paths, check, cache), check_files(mask_paths, 'mask', cache)
    faults = []
    seen: set[int] = set()
    for index, (image, mask) in enumerate(zip(images, found, strict=True)):
        drop = ('images', index)
        if image.kind:
            faults.append(Fault(split, image.kind, image_paths[index], image.detail, drop))
        if mask.kind:
            faults.append(Fault(split, mask.kind.replace('image', 'mask'), mask_paths[index], mask.detail, drop))
            continue
        seen.update(mask.labels)
        if not image.kind and (mask.width, mask.height) != (image.width, image.height):
            turned = ' as its EXIF data turn it' if image.stored else ''
            detail = f'{mask.width}x{mask.height}, its image is {image.width}x{image.height}{turned}'
            faults.append(Fault(split, 'mask of another size', mask_paths[index], detail, drop))
        foreign = [label for label in mask.labels if labels <= label < masks.IGNORED]
        if foreign:
            detail = f'{shortlist(foreign)}; declared are 0 to {labels - 1}'
            faults.append(Fault(split, 'undeclared label', mask_paths[index], detail, drop))
        elif not set(mask.labels) - {masks.IGNORED}:
            faults.append(Fault(split, 'mask without a label', mask_paths[index], '', None))
    if seen or not faults:
        masks.require_labels(pairs.mask_dir, sorted(seen), labels, len(mask_paths))
    masks.check_palettes([Path(path) for path in masks.spread(mask_paths)])
    names = tuple(_listed_name(pairs, stem, dataset) for stem in pairs.stems)
    return Content(faults, {'images': len(names)}, names)


def _mask_pairs(dataset: dict[str, Any]) -> masks.MaskPairs | None:
    """The images and masks that mmseg reads; None where there are no masks."""
    prefix = dataset.get('data_prefix', {})
    image_dir, mask_dir = (path_in(dataset, prefix.get(key) or '') for key in ('img_path', 'seg_map_path'))
    if not prefix.get('seg_map_path'):
        return None
    if not dataset.get('ann_file'):
        return masks.pair_up(image_dir, mask_dir)
    suffixes = dataset.get('img_suffix', '.jpg'), dataset.get('seg_map_suffix', '.png')
    listed = path_in(dataset, dataset['ann_file'])
    return masks.MaskPairs(image_dir, mask_dir, *suffixes, stems=tuple(_lines(listed)))


def _listed_name(pairs: masks.MaskPairs, stem: str, dataset: dict[str, Any]) -> str:
    """What mmseg completes by its suffix of images."""
    suffix = dataset.get('img_suffix', '.jpg')
    return f'{stem}{pairs.image_suffix}'.removesuffix(suffix)


def _check_folders(split: str, dataset: dict[str, Any], check: str, cache: CheckCache) -> Content:
    if not dataset.get('with_label', True) or dataset.get('split') == 'test':
        return Content([], {})
    folder = path_in(dataset, image_prefixes(dataset)[0])
    listed = path_in(dataset, dataset.get('ann_file') or f'meta/{dataset.get("split")}.txt')
    if listed.is_file():
        names = tuple(_lines(listed))
    else:
        numbered = enumerate(folders.count_images(folder))
        names = tuple(f'{name}/{file} {label}' for label, name in numbered for file in files_under(folder / name))
    classes = dataset_classes(dataset, 'mmpretrain')
    faults = []
    paths = [(folder / name.rpartition(' ')[0]).as_posix() for name in names]
    for index, (path, answer) in enumerate(zip(paths, check_files(paths, check, cache), strict=True)):
        label = names[index].rpartition(' ')[2]
        if answer.kind:
            faults.append(Fault(split, answer.kind, path, answer.detail, ('images', index)))
        if not label.isdecimal() or (classes and int(label) >= len(classes)):
            detail = f'{label} in {listed.name}; declared are 0 to {len(classes or ()) - 1}'
            faults.append(Fault(split, 'undeclared label', path, detail, ('images', index)))
    return Content(faults, {'images': len(names)}, names)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path}: cannot be read as a list of images ({error})') from error


_CHECKS: dict[str, Callable[[str, dict[str, Any], str, CheckCache], Content]] = {
    'mmdet': _check_coco,
    'mmseg': _check_masks,
    'mmpretrain': _check_folders,
}
