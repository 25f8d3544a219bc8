"""Segmentation data whose labels are outlines: those of each image are drawn into an index mask, which a run reads.

The label files are read as those of boxes are, by the same layouts: COCO files with polygons or RLE, YOLO's polygons,
CVAT's and LabelMe's shapes. From there on the data are images with masks. Label 0 is the background; where outlines
overlap, the one that was drawn later counts, or the smaller one where files do not tell an order. Crowds are ignored.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from emo_mm.config.edits import Change, Edit
from emo_mm.config.view import ConfigView
from emo_mm.data.faults import Content
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.labelled import LabelledImage
from emo_mm.data.layouts.base import DERIVED, Found, Layout, LayoutError, Names, Reading
from emo_mm.data.layouts.boxes.base import BoxLayout
from emo_mm.data.layouts.boxes.cvat import CVAT
from emo_mm.data.layouts.boxes.labelme import LABELME
from emo_mm.data.layouts.boxes.yolo import YOLO
from emo_mm.data.layouts.coco import COCO, CocoLayout
from emo_mm.data.layouts.coco.file import file_of
from emo_mm.data.layouts.coco.find import require_images
from emo_mm.data.layouts.masks import MASKS, MaskSplit
from emo_mm.data.layouts.masks.convert import MaskSource
from emo_mm.data.layouts.masks.pairs import MaskPairs
from emo_mm.data.layouts.outlines.classes import OutlineNames, outline_names
from emo_mm.data.layouts.outlines.drawing import Drawing, Shape
from emo_mm.data.layouts.outlines.read import FAULTS, Annotations, read_outlines
from emo_mm.data.splits import DataRequest, count, inside, shortlist
from emo_mm.data.splitting import Item
from emo_mm.errors import UserError


@dataclass(frozen=True)
class OutlineSplit(MaskSplit):
    """One split of images and outlines, checked; its masks are still to be drawn.

    Attributes:
        labels: The label files, relative to the root where they lie under it.
        present: Number of images that exist.
        outlines: Number of outlines.
        drawings: What is drawn for each image, by its name.
    """

    labels: str = ''
    present: int = 0
    outlines: int = 0
    drawings: Mapping[str, Drawing] = field(default_factory=dict, repr=False)

    @property
    def copied(self) -> bool:
        """Tell that a run reads masks that are drawn."""
        return True

    def sources(self) -> dict[str, MaskSource]:
        """Return what each mask is made from, by the names of the images."""
        return {name: drawing.source() for name, drawing in self.drawings.items()}

    def line(self) -> str:
        """Return the label files, their images found and listed, and the number of outlines."""
        listed = count(len(self.pairs.stems), 'image')
        drawn = f'{count(self.outlines, "outline")}, drawn to {DERIVED}/masks_{self.name} in the work directory'
        return f'{self.labels}: {self.present} of {listed} found, {drawn}'

    def detail(self) -> str:
        """Return the numbers, and the folder of the images."""
        counts = f'{self.present} of {count(len(self.pairs.stems), "image")} found, {count(self.outlines, "outline")}'
        return f'{counts}; images in {self.image_dir.rstrip("/") or "."}'


class OutlineLayout(Layout[Any, Any, OutlineSplit]):
    """Label files that hold outlines.

    Attributes:
        reader: The layout that reads them, as boxes.
        by_area: Whether smaller outlines lie above larger ones, as the files tell no order.
    """

    reader: ClassVar[CocoLayout | BoxLayout]
    by_area: ClassVar[bool]
    has_masks = True
    of_configs = False

    # --- a folder
    def find(self, request: DataRequest, split: str) -> Any | None:
        """Return where the label files of a split lie."""
        return self.reader.find(request, split)

    def recognises(self, request: DataRequest) -> bool:
        """Tell whether there are such label files and no masks, which are the better source where both are there."""
        return self.reader.recognises(request) and not MASKS.recognises(request)

    def absent(self, root: Path, split: str) -> UserError:
        """Return the error for a split that is not there."""
        return self.reader.absent(root, split)

    def read(self, place: Any, tolerant: bool) -> Any:
        """Return what is labelled; what boxes are like does not matter here."""
        return self.reader.read(place, tolerant=True)

    def agree(self, root: Path, parts: Mapping[str, Any], request: DataRequest, tolerant: bool) -> OutlineNames:
        """Return the background and the classes of the outlines."""
        return outline_names(self.reader, root, parts, request)

    def check(self, root: Path, split: str, part: Any, names: Names, tolerant: bool) -> OutlineSplit:
        """Check that the images exist and every label has an outline that can be drawn; a test needs none."""
        assert isinstance(names, OutlineNames)
        annotated = part.annotated(names.read)
        file = file_of(part.source, annotated.content)
        present = require_images(file, part.image_dir, f'--{split}-images', tolerant)
        found = read_outlines(annotated.content, names)
        outlines = found.outlines.total()
        if not outlines and (split != 'test' or found.number('box without an outline') == found.total > 0):
            raise _no_outline(part.source, found, names)
        if found.faults and not tolerant:
            raise _first_fault(root, part.source, found)
        folder, images = _below([part.image_dir / name for name in file.images])
        return OutlineSplit(
            name=split,
            pairs=MaskPairs(folder, folder, '', '.png', tuple(dict.fromkeys(images)), listed=True),
            image_dir=inside(root.absolute(), folder),
            mask_dir='',
            checked=0,
            how=names.how,
            notes=(*annotated.notes, *names.notes, *found.notes(names, file.images)),
            labels=inside(root, part.source) + '/' * part.source.is_dir(),
            present=present,
            outlines=outlines,
            annotated=file.annotated,
            drawings=self._drawings(folder, images, annotated.content['images'], found, names),
        )

    def _drawings(
        self,
        folder: Path,
        images: Sequence[str],
        entries: Sequence[Mapping[str, Any]],
        found: Annotations,
        names: OutlineNames,
    ) -> dict[str, Drawing]:
        """Return what is drawn for each image; outlines of an image that is listed twice belong together."""
        shapes: dict[str, list[Shape]] = {}
        faults: dict[str, list[tuple[str, str]]] = {}
        for index, name in enumerate(images):
            shapes.setdefault(name, []).extend(found.shapes.get(index, ()))
            faults.setdefault(name, []).extend(found.faults.get(index, ()))
        entry_of = dict(zip(images, entries, strict=True))
        drawings = {}
        for name, entry in entry_of.items():
            fault = _one_of(faults[name])
            size = (0, 0) if fault else (int(entry['width']), int(entry['height']))
            drawings[name] = Drawing(folder / name, size, shapes[name], self.by_area, fault, names.how)
        return drawings

    def resolve(
        self,
        request: DataRequest,
        training: bool = True,
        tolerant: bool = False,
        validating: bool = True,
        derived: Path = Path(DERIVED),
    ) -> Found[OutlineSplit]:
        """Find and check the splits; a test split without labels, as for a test server, cannot be tested on."""
        found = super().resolve(request, training, tolerant, validating, derived)
        bare = [name for name, split in found.splits.items() if not split.annotated]
        if not bare:
            return found
        if not training:
            raise UserError(f'{request.root}: the {bare[0]} split has no labels, so no prediction can be scored')
        splits = {name: split for name, split in found.splits.items() if name not in bare}
        told = tuple(f'{name}: left out, as it has no labels' for name in bare)
        return Found(found.root, found.names, splits, found.derived, (*found.told, *told))

    # --- a folder without splits
    divisible = True

    def undivided(self, request: DataRequest) -> Any | None:
        """Return the label files of the whole data set."""
        return self.reader.undivided(request)

    def items(self, part: Any) -> list[Item]:
        """Return the images with the classes of their labels."""
        return self.reader.items(part)

    def subset(self, part: Any, kept: Sequence[int], target: Path) -> Any:
        """Return some of the images."""
        return self.reader.subset(part, kept, target)

    # --- what is shown of a folder
    def labelled(self, found: Found[OutlineSplit], split: OutlineSplit) -> Iterator[LabelledImage]:
        """Yield the images with the masks that are drawn."""
        return MASKS.labelled(_as_masks(found), split)

    def title(self, root: Path, split: str, place: Any) -> str:
        """Return what the reader calls a split."""
        return self.reader.title(root, split, place)

    def look(self, place: Any) -> str:
        """Return the command of the reader."""
        return self.reader.look(place)

    def others(self, request: DataRequest) -> list[tuple[str, Any]]:
        """Return what looks like further splits to the reader."""
        return self.reader.others(request)

    # --- a folder in a config
    def point(self, reading: Reading, found: Found[OutlineSplit], split: OutlineSplit) -> tuple[Edit, ...]:
        """Give a data set the images and the masks that are drawn."""
        return MASKS.point(reading, _as_masks(found), split)

    def finish(self, view: ConfigView, found: Found[OutlineSplit]) -> Change:
        """Let the pipelines keep label 0 too."""
        return MASKS.finish(view, _as_masks(found))

    def write(self, found: Found[OutlineSplit], tolerant: bool) -> None:
        """Draw the masks, and write the lists of the images."""
        MASKS.write(_as_masks(found), tolerant)

    def reads(self, reading: Reading) -> bool:
        """Tell that no data set of a config has outlines: it reads the masks."""
        return False

    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        """Check the images and masks."""
        return MASKS.fits(view, reading, tolerant)

    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        """Check each image and its mask."""
        return MASKS.content(reading, check, cache)


class CocoOutlines(OutlineLayout):
    """Polygons and RLE of COCO files."""

    name = 'outlines in COCO annotation files'
    looks_like = COCO.looks_like
    reader = COCO
    by_area = True


class YoloOutlines(OutlineLayout):
    """Polygons of YOLO."""

    name = 'outlines in YOLO labels'
    looks_like = YOLO.looks_like
    reader = YOLO
    by_area = True


class CvatOutlines(OutlineLayout):
    """Polygons, ellipses and masks of CVAT."""

    name = 'outlines in CVAT annotations'
    looks_like = CVAT.looks_like
    reader = CVAT
    by_area = False


class LabelmeOutlines(OutlineLayout):
    """Shapes of LabelMe, its rectangles too."""

    name = 'outlines in LabelMe files'
    looks_like = LABELME.looks_like
    reader = LABELME
    by_area = False


COCO_OUTLINES = CocoOutlines()
YOLO_OUTLINES = YoloOutlines()
CVAT_OUTLINES = CvatOutlines()
LABELME_OUTLINES = LabelmeOutlines()


def _as_masks(found: Found[OutlineSplit]) -> Found[MaskSplit]:
    return Found(found.root, found.names, dict(found.splits), found.derived)


def _below(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """Return the folder that all paths lie below, and what leads from there to each: mmseg joins names to folders."""
    plain = [Path(os.path.normpath(path.absolute())) for path in paths]
    folder = Path(os.path.commonpath([path.parent for path in plain]))
    return folder, [path.relative_to(folder).as_posix() for path in plain]


def _one_of(faults: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """Return the first kind of fault with its details; None if there is no fault."""
    if not faults:
        return None
    kind = faults[0][0]
    return kind, shortlist((detail for found, detail in faults if found == kind), 2)


def _no_outline(source: Path, found: Annotations, names: OutlineNames) -> LayoutError:
    """Return the error for a split that nothing can be learned from."""
    boxes = found.number('box without an outline')
    if boxes:
        return LayoutError(
            f'{source}: none of its labels has an outline, {count(boxes, "box", "boxes")} only',
            'segmentation needs polygons or masks of the objects; boxes are for a detector (`emo-mm list --task det`)',
            'emo-mm list --task det',
        )
    why = f', but {count(found.crowds, "crowd")}, which are ignored' if found.crowds else ''
    faults = sum(map(len, found.faults.values()))
    why += f', and {count(faults, "label")} that cannot be drawn' if faults else ''
    return LayoutError(f'{source}: holds no outline of the classes {shortlist(names.classes[1:])}{why}')


def _first_fault(root: Path, source: Path, found: Annotations) -> LayoutError:
    kind = next(iter(found.faults.values()))[0][0]
    details = [detail for faults in found.faults.values() for other, detail in faults if other == kind]
    advice = 'leave these images out with --bad-data skip'
    return LayoutError(
        f'{source}: {len(details)} of {count(found.total, "label")} {FAULTS[kind]}: {shortlist(details, 3)}',
        f'draw their outlines, or {advice}' if kind == 'box without an outline' else f'correct them, or {advice}',
        f'emo-mm train CONFIG --data-root {shlex.quote(str(root))} --bad-data skip',
    )
