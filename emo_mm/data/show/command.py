"""``emo-mm data show``: sheets of the truth and a page of statistics, before anything is trained."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from emo_mm.data.show.document import MADE_BY, Shown, numbers_of, page_of
from emo_mm.data.show.figures import figures_of
from emo_mm.data.show.findings import findings_of, pairs_of
from emo_mm.data.show.options import ShowOptions
from emo_mm.data.show.sheets import Sheet, truth_of, twins_sheet
from emo_mm.data.show.survey import Survey, survey
from emo_mm.data.splits import count
from emo_mm.errors import UserError
from emo_mm.files import remove_partial_files, write_bytes, write_json
from emo_mm.report.page import Picture, write_page
from emo_mm.tasks import TASKS

PAGE = 'index.html'
NUMBERS = 'statistics.json'
_SHEET = 'truth_{}.png'
_SAVED = {'JPEG': {'quality': 88}, 'PNG': {'compress_level': 3}}  # inside the page; beside it, and quick


def show(options: ShowOptions) -> None:
    """Look through a data set, write what was seen, and print the counts.

    Raises:
        UserError: If a training could not read the data, or the folder of the report is another one's.
    """
    request = options.data
    if not Path(str(request.data_root)).is_dir():
        raise UserError(f'{request.data_root}: no such folder; give the folder that holds the data set')
    if options.images < 1:
        raise UserError(f'--images {options.images}: a sheet needs at least one image')
    out = Path(options.out)
    _require_own(out, request.root)
    task = TASKS[options.task] if options.task else None
    with TemporaryDirectory() as derived:
        seen = survey(request, task, Path(derived))
        for line in seen.lines:
            print(line)
        shown, twins = _look(seen, options.images)
    _write(shown, twins, out)
    for finding in shown.findings:
        print(f'- {finding.line()}')
    beside = f'{NUMBERS} and {count(len(shown.sheets), "sheet")} of the truth'
    print(f'written: {out / PAGE}, with {beside} beside it')


def _look(seen: Survey, images: int) -> tuple[Shown, Image.Image | None]:
    """Return what the page shows, and the sheet of twins."""
    figures, pairs = figures_of(seen), pairs_of(seen)
    sheets = {part.name: sheet for part in seen.parts if (sheet := truth_of(seen, part, images)) is not None}
    return Shown(seen, figures, pairs, findings_of(seen, figures, pairs), sheets), twins_sheet(seen, pairs)


def _require_own(out: Path, root: Path) -> None:
    """Check that a folder may be written to.

    Raises:
        UserError: If it lies in the data set, or holds what this command did not write.
    """
    if out.resolve().is_relative_to(root.resolve()):
        raise UserError(f'--out {out}: lies in the data set, which stays as it is; give a folder outside it')
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        made_by = json.loads((out / NUMBERS).read_text(encoding='utf-8'))['made_by']
    except (OSError, ValueError, TypeError, KeyError):
        made_by = None
    if made_by != MADE_BY:
        raise UserError(f'--out {out}: is not empty, and not of this command; give the name of a new folder')


def _write(shown: Shown, twins: Image.Image | None, out: Path) -> None:
    """Write the numbers, by which the folder is known as ours, then the sheets, and last the page."""
    pictures = {name: _picture(f'Truth of {name}', sheet) for name, sheet in shown.sheets.items()}
    other = None if twins is None else Picture('Images that are there twice', _encoded(twins, 'JPEG'), '.jpg')
    page = page_of(shown, pictures, other)
    files = {_SHEET.format(name): _encoded(sheet.image, 'PNG') for name, sheet in shown.sheets.items()}
    out.mkdir(parents=True, exist_ok=True)
    remove_partial_files(out)
    write_json(out / NUMBERS, numbers_of(shown))
    for old in set(out.glob(_SHEET.format('*'))) - {out / name for name in files}:
        old.unlink()
    for name, data in files.items():
        write_bytes(out / name, data)
    write_page(page, out / PAGE)


def _picture(title: str, sheet: Sheet) -> Picture:
    return Picture(title, _encoded(sheet.image, 'JPEG'), '.jpg', sheet.words)


def _encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, format=form, **_SAVED[form])
    return out.getvalue()
