"""Results as files: COCO's JSON, PNG masks, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emo_mm.errors import UserError
from emo_mm.files import atomic_write, write_bytes
from emo_mm.runtime.colours import class_colours
from emo_mm.runtime.drawing import draw_result
from emo_mm.runtime.metadata import Metadata
from emo_mm.runtime.predictor import Outcome
from emo_mm.runtime.results import Classification, Detections, Result, Segmentation


class CocoIds:
    """Numbers of images and classes in COCO results.

    Without an annotation file, images count from 1 in the order of prediction and classes from 1 in their own order.

    Args:
        annotations: A COCO annotation file, whose numbers are taken; None without.
        classes: Names of the classes of the model.

    Raises:
        UserError: If the file is no COCO annotations or lacks a class.
    """

    def __init__(self, annotations: str | Path | None, classes: tuple[str, ...]) -> None:
        self._images: dict[str, int] | None = None
        self.categories = list(range(1, len(classes) + 1))
        if annotations is None:
            return
        try:
            content = json.loads(Path(annotations).read_text(encoding='utf-8'))
            self._images = {Path(image['file_name']).name: int(image['id']) for image in content['images']}
            numbers = {category['name']: int(category['id']) for category in content['categories']}
        except OSError as error:
            raise UserError(f'--coco-ids {annotations}: cannot be read: {error.strerror}') from None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise UserError(f'--coco-ids {annotations}: is no COCO annotation file ({error!r})') from None
        missing = [name for name in classes if name not in numbers]
        if missing:
            raise UserError(f'--coco-ids {annotations}: lacks the classes {", ".join(missing[:5])} of the model')
        self.categories = [numbers[name] for name in classes]

    def image(self, name: str, position: int) -> int:
        """Return the number of an image.

        Args:
            name: Its path.
            position: Its place in the order of prediction, from 1.

        Raises:
            UserError: If the annotation file does not list it.
        """
        if self._images is None:
            return position
        try:
            return self._images[Path(name).name]
        except KeyError:
            raise UserError(f'{name}: is not listed in the annotation file of --coco-ids') from None


class Entries:
    """The entries of ``results.json``: boxes and objects in COCO's format of results, one for other images.

    Args:
        classes: Names of the classes.
        ids: Numbers of images and classes.
    """

    def __init__(self, classes: Sequence[str], ids: CocoIds) -> None:
        self._classes = classes
        self._ids = ids

    def of(
        self,
        name: str,
        position: int,
        result: Result,
        mask: str | None = None,
        outlines: Sequence[dict[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the entries of an image.

        Args:
            name: What results call it.
            position: Its place in the order of prediction, from 1.
            result: What was predicted.
            mask: Where its label map was saved.
            outlines: RLE of each object; those of ``result.masks`` if None.

        Raises:
            UserError: If the annotation file of the numbers does not list it.
        """
        if isinstance(result, Detections):
            if outlines is None and result.masks is not None:
                outlines = [result.masks.rle(index) for index in range(len(result.labels))]
            return self._boxes(name, self._ids.image(name, position), result, outlines)
        if isinstance(result, Classification):
            return [self._label(name, result)]
        return [self._areas(name, result, mask)]

    def _boxes(
        self, name: str, number: int, found: Detections, outlines: Sequence[dict[str, Any]] | None
    ) -> list[dict[str, Any]]:
        sizes = found.boxes[:, 2:] - found.boxes[:, :2]
        rows = zip(found.boxes, sizes, found.scores.tolist(), found.labels.tolist(), strict=True)
        entries: list[dict[str, Any]] = [
            {
                'image_id': number,
                'category_id': self._ids.categories[label],
                'bbox': [round(value, 3) for value in (*box[:2].tolist(), *size.tolist())],
                'score': round(score, 6),
                'file_name': name,
                'category': self._classes[label],
            }
            for box, size, score, label in rows
        ]
        if outlines is None:
            return entries
        return [{**entry, 'segmentation': outline} for entry, outline in zip(entries, outlines, strict=True)]

    def _label(self, name: str, found: Classification) -> dict[str, Any]:
        best = int(found.probabilities.argmax())
        values = [round(value, 6) for value in found.probabilities.tolist()]
        return {'file_name': name, 'label': best, 'class': self._classes[best], 'probabilities': values}

    def _areas(self, name: str, found: Segmentation, mask: str | None) -> dict[str, Any]:
        counts = np.bincount(found.labels.reshape(-1), minlength=len(self._classes))  # H,W -> H*W
        return {
            'file_name': name,
            'mask': mask,
            'pixels': {self._classes[label]: int(counts[label]) for label in counts.nonzero()[0]},
        }


def mask_picture(result: Result) -> Image.Image | None:
    """Return the pixels of a result as a picture of numbers; None if it has none.

    Of a segmentation it is the class of each pixel, of detections with masks the object, numbered from 1 by score,
    which up to 255 objects have colours.
    """
    if isinstance(result, Segmentation):
        return Image.fromarray(result.labels)
    if not isinstance(result, Detections) or result.masks is None:
        return None
    picture = Image.fromarray(result.masks.numbers())
    if picture.mode == 'L':
        picture.putpalette([0, 0, 0, *chain(*class_colours(255))])
    return picture


class Writer:
    """Writes results into a folder, one by one, and what belongs into one file at the end.

    Args:
        out: The folder; made if need be.
        metadata: The description of the model.
        save_json: Whether to write ``results.json``.
        save_images: Whether to write the photographs with the results drawn in, to ``images``.
        save_masks: Whether to write label maps, or the numbers of objects, as PNG, to ``masks``.
        coco_ids: A COCO annotation file for the numbers in ``results.json``; None without.

    Raises:
        UserError: If the folder cannot be written, or the annotation file is wrong.
    """

    def __init__(
        self,
        out: str | Path,
        metadata: Metadata,
        save_json: bool = False,
        save_images: bool = False,
        save_masks: bool = False,
        coco_ids: str | Path | None = None,
    ) -> None:
        self._out = Path(out)
        self._metadata = metadata
        self.save_images = save_images
        self._save_masks = save_masks
        self._entries: list[dict[str, Any]] | None = [] if save_json else None
        self._of = Entries(metadata.classes, CocoIds(coco_ids, metadata.classes)).of
        self._colours = metadata.palette or class_colours(len(metadata.classes))
        if save_json or save_images or save_masks:
            try:
                self._out.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f'--out {out}: cannot be made: {error.strerror}') from None

    def write(self, outcome: Outcome, position: int) -> None:
        """Write the result of an image.

        Args:
            outcome: What became of it.
            position: Its place in the order of prediction, from 1, among those that failed too.

        Raises:
            UserError: If a file cannot be written.
        """
        result, key = outcome.result, outcome.item.key
        assert result is not None
        try:
            if self._save_masks and (picture := mask_picture(result)) is not None:
                self._save('masks', f'{key}.png', picture)
            if self.save_images:
                assert outcome.pixels is not None
                drawn = draw_result(outcome.pixels, result, self._metadata.classes, self._colours)
                self._save('images', f'{key}.jpg', Image.fromarray(drawn))
        except OSError as error:
            raise UserError(f'{self._out}: cannot be written: {error.strerror or error}') from None
        if self._entries is not None:
            mask = f'masks/{key}.png' if self._save_masks else None
            self._entries += self._of(str(outcome.item), position, result, mask)

    def close(self) -> None:
        """Write what was gathered for one file."""
        if self._entries is not None:
            write_bytes(self._out / 'results.json', json.dumps(self._entries).encode())

    def _save(self, folder: str, name: str, picture: Image.Image) -> None:
        """Save a picture below a folder of ``out``.

        Raises:
            UserError: If a link there leads out of it.
        """
        path = self._out / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(self._out.resolve()):
            raise UserError(f'{path.parent}: is or is below a link that leads out of --out; remove it')
        with atomic_write(path, durable=False) as file:
            picture.save(file, format='PNG' if path.suffix == '.png' else 'JPEG', quality=90)
