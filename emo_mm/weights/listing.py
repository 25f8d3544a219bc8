"""The table that ``emo-mm weights`` prints."""

from __future__ import annotations

from emo_mm.weights.cache import cache_dir
from emo_mm.weights.registry import PUBLISHED


def format_weights_table() -> str:
    """Return the published weights as a plain text table, with what of it is in the cache."""
    folder = cache_dir()
    header = ('name', 'backbone', 'input', 'window', 'top-1 %', 'in cache', 'address')
    rows = [
        (
            row.name,
            f'{row.backbone}-{row.arch.upper()}',
            str(row.input_size),
            str(row.window_size),
            f'{row.top1:.3f}',
            'yes' if (folder / row.filename).is_file() else 'no',
            row.url,
        )
        for row in PUBLISHED.values()
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    return '\n'.join(
        (
            *lines,
            f'cache: {folder}',
            'Top-1 on ImageNet-1k as published. The files belong to their authors and are downloaded from them.',
        )
    )
