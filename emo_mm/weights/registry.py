"""The weights that the authors of EMO and EMOv2 published: one row per file.

The files are their authors' and are never redistributed; a row says where they lie and how to recognise them.
"""

from __future__ import annotations

from dataclasses import dataclass

RAW_CONTENT = 'https://raw.githubusercontent.com'


@dataclass(frozen=True)
class PublishedWeights:
    """One published file.

    Attributes:
        name: Name by which the weights are asked for.
        backbone: Backbone that they fit, ``EMO`` or ``EMOv2``.
        arch: Architecture that they fit, as the backbone's ``arch``.
        repository: GitHub repository of the authors.
        commit: Commit at which the file was read.
        path: Path in the repository.
        git_blob_sha1: Git's id of the content, the SHA-1 of ``blob <size>``, a zero byte and the content.
        top1: Published ImageNet-1k top-1 accuracy in percent.
        input_size: Side of the training images in pixels.
        window_size: Side of the attention windows that the weights were trained with, in pixels of the map.
    """

    name: str
    backbone: str
    arch: str
    repository: str
    commit: str
    path: str
    git_blob_sha1: str
    top1: float
    input_size: int
    window_size: int

    @property
    def url(self) -> str:
        """Raw-content address; the ``blob/`` pages of GitHub are HTML."""
        return f'{RAW_CONTENT}/{self.repository}/{self.commit}/{self.path}'

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""
        return f'{self.name}-{self.git_blob_sha1[:8]}.pth'


def _emo(size: str, git_blob_sha1: str, top1: float) -> PublishedWeights:
    return PublishedWeights(
        name=f'emo_{size}',
        backbone='EMO',
        arch=size,
        repository='zhangzjn/EMO',
        commit='27d9b40fea9c2a12a2fe7acc51032184852a99d8',
        path=f'resources/EMO_{size.upper()}/net.pth',
        git_blob_sha1=git_blob_sha1,
        top1=top1,
        input_size=224,
        window_size=7,
    )


def _emov2(
    size: str, git_blob_sha1: str, top1: float, variant: str = '', input_size: int = 224, window_size: int = 7
) -> PublishedWeights:
    file = variant or f'_{input_size}'
    return PublishedWeights(
        name=f'emov2_{size}{variant.lower()}',
        backbone='EMOv2',
        arch=size,
        repository='zhangzjn/data',
        commit='12360dad7a1cec3ae941fb6d5269f500ddefce29',
        path=f'emov2_pretrained_weights/EMOv2_{size.upper()}{file}.pth',
        git_blob_sha1=git_blob_sha1,
        top1=top1,
        input_size=input_size,
        window_size=window_size,
    )


PUBLISHED: dict[str, PublishedWeights] = {
    row.name: row
    for row in (
        _emo('1m', '76c4282de548fa76eca6011720b29d8f80ffa784', 71.498),
        _emo('2m', '9ec7138d292ca9b2d07923aec05762f547db8cf2', 75.134),
        _emo('5m', '3ea7450fa9c290c3c46f372c1f5cebe1198d1ce1', 78.422),
        _emo('6m', '10a248725247cf18b51e449dbd1a220354457c99', 78.988),
        # KD: distilled from a larger network.
        _emov2('1m', '4cbb1c0541597da1442bb5bd7f155fa9d00cd486', 72.3),
        _emov2('1m', 'd3d292c37d874de97ed8828c61114b5365325d25', 73.5, '_224_KD'),
        _emov2('2m', '009fd7338ac833177c5ae2014061d56203c423ea', 75.8),
        _emov2('2m', 'bcc37347a7082df62a5c5f025a3f322fc273b46d', 76.7, '_224_KD'),
        _emov2('5m', '174a94f26e6bd2456f396cca427702c3a70b412b', 79.4),
        _emov2('5m', '9332927c3751291dc574a151a10074bce706bb1f', 80.9, '_224_KD'),
        _emov2('5m', 'e1235b440edd1517bacd30fc6ff0c476098b2847', 82.9, '_512_KD', input_size=512, window_size=8),
    )
}

# Networks of the papers whose ImageNet weights their authors did not publish, by the name that these would have.
UNPUBLISHED = ('emov2_20m',)
