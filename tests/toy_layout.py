"""A layout that the package does not have: a table of images and classes per split, ``toy_train.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emo_mm.config.edits import Edit
from emo_mm.config.parts import type_name
from emo_mm.config.view import ConfigView
from emo_mm.data.faults import Content, Fault
from emo_mm.data.files.cache import CheckCache
from emo_mm.data.files.check import check_files
from emo_mm.data.labelled import ClassLabel, LabelledImage
from emo_mm.data.layouts.base import Checked, Found, Layout, Names, Reading
from emo_mm.data.splits import DataRequest, count
from emo_mm.errors import UserError

if TYPE_CHECKING:
    pass

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class ToySplit(Checked):
    table: str
    rows: Rows
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        return f'{self.table}: {self.detail()}'

    def detail(self) -> str:
        return count(len(self.rows), 'toy')


class ToyLayout(Layout[Path, Rows, ToySplit]):
    name = 'toy tables'
    looks_like = 'toy_train.csv'

    def find(self, request: DataRequest, split: str) -> Path | None:
        path = request.root / f'toy_{split}.csv'
        return path if path.is_file() else None

    def absent(self, root: Path, split: str) -> UserError:
        return UserError(f'{root}: no toy_{split}.csv')

    def read(self, place: Path, tolerant: bool) -> Rows:
        with place.open() as file:
            return [(image, label) for image, label in csv.reader(file)]

    def agree(self, root: Path, parts: Mapping[str, Rows], request: DataRequest, tolerant: bool) -> Names:
        return Names(tuple(sorted({label for _, label in next(iter(parts.values()))})))

    def check(self, root: Path, split: str, part: Rows, names: Names, tolerant: bool) -> ToySplit:
        foreign = sorted({label for _, label in part} - set(names.classes))
        if foreign:
            raise UserError(f'toy_{split}.csv: unknown toys {foreign}')
        return ToySplit(f'toy_{split}.csv', part)

    def labelled(self, found: Found[ToySplit], split: ToySplit) -> Iterator[LabelledImage]:
        return (LabelledImage(found.root / image, ClassLabel(found.classes.index(name))) for image, name in split.rows)

    def point(self, reading: Reading, found: Found[ToySplit], split: ToySplit) -> tuple[Edit, ...]:
        root, classes = found.root.as_posix(), found.classes
        return reading.part.edit(
            type='ToyDataset', data_root=root, ann_file=split.table, data_prefix='', metainfo={'classes': classes}
        )

    def reads(self, reading: Reading) -> bool:
        return type_name(reading.dataset) == 'ToyDataset'

    def needs(self, reading: Reading) -> list[Path]:
        return [reading.path(reading.dataset['ann_file'])]

    def fits(self, view: ConfigView, reading: Reading, tolerant: bool) -> list[str]:
        rows = self.read(self.needs(reading)[0], tolerant)
        return [f'{reading.split}: {ToySplit(reading.dataset["ann_file"], rows).line()}']

    def content(self, reading: Reading, check: str, cache: CheckCache | None) -> Content:
        rows = self.read(self.needs(reading)[0], tolerant=True)
        paths = [reading.path(image).as_posix() for image, _ in rows]
        faults = [
            Fault(reading.split, answer.kind, paths[index], answer.detail, ('images', index))
            for index, answer in enumerate(check_files(paths, check, cache))
            if answer.kind
        ]
        return Content(faults, {'images': len(rows)}, tuple(','.join(row) for row in rows))


TOY = ToyLayout()
