"""What can be measured: our configs and the networks of the toolboxes (peers), all by name.

Everything published about a peer (accuracy, config, input size) is read from the toolbox that is installed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo_mm.config.build import build_model
from emo_mm.config.catalog import CATALOG, METRICS
from emo_mm.config.names import find_config, get_config, list_models
from emo_mm.config.view import read_view
from emo_mm.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

Size = tuple[int, int]


@dataclass(frozen=True)
class Peer:
    """A network of a toolbox, measured beside ours.

    Attributes:
        toolbox: The toolbox that has it.
        config: Its config, below the toolbox's folder of configs.
        entry: Its name in the metafile beside that config, which holds the published accuracy.
        metric: Metric of that accuracy, a key of ``METRICS`` of the catalogue.
        family: Name of the family, for the picture.
        attention: Whether it has attention.
    """

    toolbox: str
    config: str
    entry: str
    metric: str
    family: str
    attention: bool


@dataclass(frozen=True)
class Published:
    """An accuracy that was published, never one measured here.

    Attributes:
        value: In percent.
        metric: ``top1``, ``box_ap`` or ``miou``.
        source: Where it was published.
    """

    value: float
    metric: str
    source: str


@dataclass(frozen=True)
class Subject:
    """A network that can be measured.

    Attributes:
        name: What the user calls it.
        config: Name or path of its config.
        family: Networks of one family share a colour in the picture.
        size: Height and width in pixels of its input, as published; None where the config fixes none.
        published: Its published accuracy, None if there is none.
        attention: Whether it has attention.
        toolbox: The toolbox that builds it.
    """

    name: str
    config: str | Path
    family: str
    size: Size | None
    published: Published | None
    attention: bool
    toolbox: str

    @property
    def has_reference(self) -> bool:
        """Whether the plain formulation can compute it: the classifiers whose weights are published."""
        entry = CATALOG.get(str(self.config))
        return entry is not None and entry.weights is not None

    @property
    def is_peer(self) -> bool:
        """Whether it is a network of a toolbox, not ours."""
        return self.name in PEERS

    def build(self, for_inference: bool) -> nn.Module:
        """Build it with random weights, in eval mode.

        Args:
            for_inference: Whether networks with a special form for inference (MobileOne) are given that form.
        """
        model = build_model(self.config)
        head: Any = getattr(model, 'bbox_head', None)
        if head is not None and not hasattr(head, 'loss_cls'):
            head.loss_cls = None  # mmdet's SSDHead cannot predict without it: see our SSDLiteHead
        if for_inference:
            _switch_to_deploy(model)
        return model


def _switch_to_deploy(model: nn.Module) -> None:
    """Give the modules that have a special form for inference (those of MobileOne) that form."""
    for module in list(model.modules()):
        switch: Any = getattr(module, 'switch_to_deploy', None)
        if switch is not None:
            switch()


def find_subject(name: str) -> Subject:
    """Return the network of a name: of a backbone (its ImageNet classifier), a config or a peer, or of a path.

    Raises:
        UserError: If there is none; the message suggests similar names.
    """
    if name in PEERS:
        return _peer_subject(name)
    if name in BACKBONES:
        return _own_subject(name, BACKBONES[name])
    known = [*PEERS, *BACKBONES, *list_models()]
    if name not in known and not name.endswith('.py'):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f'did you mean {" or ".join(near)}?' if near else f'the names are {", ".join(known)}'
        raise UserError(f'no model {name!r} to measure: {hint}')
    find_config(name)
    return _own_subject(name, name)


def subject_config(subject: Subject) -> Config:
    """Return the config that a network is built from."""
    return get_config(subject.config)


def _own_subject(name: str, config: str) -> Subject:
    entry = CATALOG.get(config)
    cfg = get_config(config)
    family = cfg.model.backbone.type.removeprefix('emo_mm.')
    if entry is None:
        return Subject(name, config, family, _test_size(cfg), None, True, cfg.default_scope)
    metric = entry.family.metrics[0]
    published = Published(entry.metrics[metric], metric, entry.family.source)
    return Subject(name, config, family, entry.family.input_size, published, True, cfg.default_scope)


def _peer_subject(name: str) -> Subject:
    peer = PEERS[name]
    if find_spec(peer.toolbox) is None:
        raise UserError(
            f'{name} comes from {peer.toolbox}, which is not installed; `emo-mm doctor` says how to install it'
        )
    path = toolbox_config(peer.toolbox, peer.config)
    published = published_accuracy(peer, path.parent / 'metafile.yml')
    return Subject(name, path, peer.family, _test_size(get_config(path)), published, peer.attention, peer.toolbox)


def toolbox_config(toolbox: str, config: str) -> Path:
    """Return the path of a config that is installed with a toolbox.

    Raises:
        UserError: If it is not.
    """
    spec = find_spec(toolbox)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / '.mim' / 'configs' / config
    if not path.is_file():
        raise UserError(f'{toolbox} has no config {config} (expected at {path}); install {toolbox} from a wheel')
    return path


def published_accuracy(peer: Peer, metafile: Path) -> Published:
    """Return the accuracy that the toolbox's metafile gives for a peer.

    Raises:
        UserError: If the metafile does not list the peer.
    """
    from importlib import import_module

    from mmengine.fileio import load

    for model in load(metafile)['Models']:
        if model['Name'] == peer.entry:
            value = model['Results'][0]['Metrics'][METAFILE_METRICS[peer.metric]]
            version = import_module(f'{peer.toolbox}.version').__version__
            return Published(value, peer.metric, f'metafile of {peer.toolbox} {version}, {peer.entry}')
    raise UserError(f'{metafile} has no model {peer.entry}')


def _test_size(cfg: Config) -> Size | None:
    """Return height and width of the network's input in the test of a config, None if the pipeline fixes none."""
    size = None
    for step in read_view(cfg, 'test').only_dataset('test').node['pipeline']:
        if step['type'].endswith('CenterCrop'):
            crop = step['crop_size']
            size = (crop, crop) if isinstance(crop, int) else tuple(crop)
        elif step['type'].endswith('Resize') and not step.get('keep_ratio', False) and 'scale' in step:
            scale = step['scale']  # width, height
            size = (scale, scale) if isinstance(scale, int) else (scale[1], scale[0])
    return size


# Names of metrics in OpenMMLab's metafiles, by their keys in the catalogue.
METAFILE_METRICS = {**METRICS, 'top1': 'Top 1 Accuracy'}

# Name of a backbone -> the config of its published ImageNet classifier: backbone, norm, average, linear. The distilled
# ones are the same networks, and are measured by the names of their configs.
BACKBONES = {entry.backbone: name for name, entry in CATALOG.items() if entry.weights == entry.backbone}

# Each row: name, config without `.py`, entry of the metafile, family, whether it has attention. Where a metafile has
# several entries, the one of the published weights (3rdparty) rather than of the toolbox's own training.
_CLASSIFIERS = (
    ('mobilenet_v2', 'mobilenet_v2/mobilenet-v2_8xb32_in1k', 'mobilenet-v2_8xb32_in1k', 'MobileNet', False),
    (
        'mobilenet_v3_small',
        'mobilenet_v3/mobilenet-v3-small_8xb128_in1k',
        'mobilenet-v3-small_3rdparty_in1k',
        'MobileNet',
        False,
    ),
    (
        'mobilenet_v3_large',
        'mobilenet_v3/mobilenet-v3-large_8xb128_in1k',
        'mobilenet-v3-large_3rdparty_in1k',
        'MobileNet',
        False,
    ),
    ('mobilevit_xxs', 'mobilevit/mobilevit-xxsmall_8xb128_in1k', 'mobilevit-xxsmall_3rdparty_in1k', 'MobileViT', True),
    ('mobilevit_xs', 'mobilevit/mobilevit-xsmall_8xb128_in1k', 'mobilevit-xsmall_3rdparty_in1k', 'MobileViT', True),
    ('mobilevit_s', 'mobilevit/mobilevit-small_8xb128_in1k', 'mobilevit-small_3rdparty_in1k', 'MobileViT', True),
    ('edgenext_xxs', 'edgenext/edgenext-xxsmall_8xb256_in1k', 'edgenext-xxsmall_3rdparty_in1k', 'EdgeNeXt', True),
    ('edgenext_xs', 'edgenext/edgenext-xsmall_8xb256_in1k', 'edgenext-xsmall_3rdparty_in1k', 'EdgeNeXt', True),
    ('edgenext_s', 'edgenext/edgenext-small_8xb256_in1k', 'edgenext-small_3rdparty_in1k', 'EdgeNeXt', True),
    (
        'efficientformer_l1',
        'efficientformer/efficientformer-l1_8xb128_in1k',
        'efficientformer-l1_3rdparty_8xb128_in1k',
        'EfficientFormer',
        True,
    ),
    ('tinyvit_5m', 'tinyvit/tinyvit-5m_8xb256_in1k', 'tinyvit-5m_3rdparty_in1k', 'TinyViT', True),
    ('mobileone_s1', 'mobileone/mobileone-s1_8xb32_in1k', 'mobileone-s1_8xb32_in1k', 'MobileOne', False),
)
CLASSIFIERS = {
    name: Peer('mmpretrain', f'{config}.py', entry, 'top1', family, attention)
    for name, config, entry, family, attention in _CLASSIFIERS
}
DETECTORS = {
    'ssdlite_mobilenetv2': Peer(
        'mmdet',
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        'ssdlite_mobilenetv2-scratch_8xb24-600e_coco',
        'box_ap',
        'MobileNet',
        False,
    )
}
PEERS: dict[str, Peer] = CLASSIFIERS | DETECTORS
