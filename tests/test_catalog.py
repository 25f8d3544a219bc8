from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_model_zoo as generator
import pytest

from emo_mm.config.catalog import CATALOG, EMOV2_README, METRICS, OWN, ModelEntry, format_models_table, published_as
from emo_mm.config.names import find_config, get_config, list_models
from emo_mm.errors import UserError
from emo_mm.models.emov2 import ARCHS

TASKS = {'cls': 'classification', 'det': 'detection', 'ins': 'detection', 'seg': 'segmentation'}


@pytest.fixture(scope='module')
def counts() -> dict[str, Any]:
    """Every published model, built and counted."""
    return {name: generator.recount(entry) for name, entry in CATALOG.items()}


# -- The table -------------------------------------------------------------------------------------------------------


def test_every_config_but_the_demos_has_a_row_and_every_row_a_config() -> None:
    # The authors publish EMOv2-20M as the backbone of detectors and segmenters only.
    expected = {name for name in list_models() if not name.endswith('_demo')} - {'emov2_20m_imagenet'}
    assert expected == set(CATALOG) | set(OWN)
    assert not set(CATALOG) & set(OWN)
    for name, entry in CATALOG.items():
        assert find_config(name).as_posix().endswith(entry.config)


def test_rows_are_the_published_results(shared_dir: Path) -> None:
    path = shared_dir / 'spec' / 'published_results.json'
    published = json.loads(path.read_text())

    def key(entry: ModelEntry) -> tuple[Any, ...]:
        size = 512 if '_512_' in entry.name else None
        return entry.backbone, TASKS[entry.family.task], entry.family.head, size, '_kd_' in entry.name

    ours = {key(e): e for e in CATALOG.values()}
    assert len(published) == len(ours) == len(CATALOG) == 55
    assert sum(entry.backbone.startswith('emov2_') for entry in CATALOG.values()) == 39
    for row in published:
        size = 512 if row.get('input') == '512x512' else None
        entry = ours[row['backbone'], row['task'], row['head'], size, row.get('note') == 'knowledge distillation']
        metrics = {key: value for key, value in entry.metrics.items() if key != 'mask_ap'}  # in another table
        assert (entry.params_m, entry.macs_g, metrics) == (row['params_m'], row['macs_g'], row['metrics'])
        assert (entry.family.dataset, entry.family.source) == (row['dataset'], row['source'])


def test_classifiers_name_their_published_weights() -> None:
    from emo_mm.weights.registry import PUBLISHED

    with_weights = {entry.weights: entry for entry in CATALOG.values() if entry.weights is not None}
    assert set(with_weights) == set(PUBLISHED)
    for name, entry in with_weights.items():
        assert entry.metrics['top1'] == round(PUBLISHED[name].top1, 1)


@pytest.mark.parametrize(
    ('figure', 'exact', 'decimals', 'how'),
    [
        (2.3, 2.34, 1, 'equal'),
        (2.4, 2.38, 1, 'rounded'),
        (2.3, 2.38, 1, 'cut'),
        (2.5, 2.38, 1, 'differs'),
        (2.2, 2.38, 1, 'differs'),
        (163, 163.9, 0, 'cut'),
        (0.903, 0.90258, 3, 'rounded'),
    ],
)
def test_published_as(figure: float, exact: float, decimals: int, how: str) -> None:
    assert published_as(figure, exact, decimals) == how


def test_models_table_lists_the_configs_of_a_task_with_published_figures() -> None:
    lines = format_models_table('det').splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == list_models('det')
    row = next(line for line in lines if line.startswith('rtmdet_emo_1m_coco'))
    assert row.split() == ['rtmdet_emo_1m_coco', 'det', '1.5', '0.9', 'no:', 'ours']
    row = next(line for line in lines if line.startswith('ssdlite_emo_5m_coco'))
    assert row.split() == ['ssdlite_emo_5m_coco', 'det', '6.0', '1.8', 'box', 'AP', '27.9']
    assert 'published by the authors' in lines[-2]
    assert 'no published metric' in lines[-1]


def test_models_table_of_an_unknown_task_is_an_error() -> None:
    with pytest.raises(UserError, match="'pose'"):
        format_models_table('pose')


# -- The recount -----------------------------------------------------------------------------------------------------


@pytest.mark.toolbox
@pytest.mark.parametrize('name', OWN)
def test_models_of_ours_have_the_parameters_and_macs_that_are_told(name: str) -> None:
    entry = OWN[name]
    assert generator.recount_own(entry) == (entry.params_m, entry.macs_g)
    size = get_config(name).test_dataloader.dataset.pipeline[1].scale
    assert (size, find_config(name).read_text(encoding='utf-8')[:40].split(',')[0]) == (entry.input_size, '# Ours')


@pytest.mark.toolbox
def test_built_models_have_the_published_parameters(counts: dict[str, Any]) -> None:
    how = {n: published_as(e.params_m, counts[n].params / 1e6, 1) for n, e in CATALOG.items()}
    others = {name: value for name, value in how.items() if value not in ('equal', 'cut')}
    assert others == {'segformer_emov2_20m_ade20k': 'rounded'}  # 20.3998 M


@pytest.mark.toolbox
def test_built_models_have_the_published_macs_or_a_note_says_why_not(counts: dict[str, Any]) -> None:
    differing = {
        name: entry
        for name, entry in CATALOG.items()
        if published_as(entry.macs_g, counts[name].macs / 1e9, entry.family.macs_decimals) == 'differs'
    }
    # What the notes on their families say of EMOv2.
    v2 = {
        name for name, e in CATALOG.items() if 'emov2' in name and e.family.head in ('linear', 'RetinaNet', 'MaskRCNN')
    } - {'emov2_5m_512_imagenet'}
    v2.add('fpn_emov2_2m_ade20k')  # by a few hundredths
    assert set(differing) == {'deeplabv3_emo_5m_ade20k', 'pspnet_emo_5m_ade20k'} | v2
    for name, entry in differing.items():
        assert entry.note or entry.family.note
        if name in v2:
            continue
        without_attention = (counts[name].macs - counts[name].attention_macs) / 1e9
        assert published_as(entry.macs_g, without_attention, 1) == 'cut'


@pytest.mark.toolbox
def test_notes_on_published_macs_hold(counts: dict[str, Any]) -> None:
    rounded = {'equal', 'rounded'}
    first = {n: e for n, e in CATALOG.items() if '_emo_' in n}
    ssdlite = {n: e for n, e in first.items() if e.family.head == 'SSDLite'}
    assert all(published_as(e.macs_g, counts[n].macs / 1e9, 1) in rounded for n, e in ssdlite.items())
    at_320 = [n for n, e in ssdlite.items() if published_as(e.macs_g, counts[n].input_macs / 1e9, 1) in rounded]
    assert at_320 == ['ssdlite_emo_1m_coco']
    for name, entry in first.items():
        if entry.family.head == 'RetinaNet':
            assert published_as(entry.macs_g, counts[name].macs / 1e9, 0) == 'equal'
        if entry.family.task == 'seg' and not entry.note:
            assert published_as(entry.macs_g, counts[name].macs / 1e9, 1) in {'equal', 'cut'}
    # What the note on EMOv2's classifiers says: at 224x224 two blocks of stage 4 attend within one window of 49 tokens.
    for name, entry in CATALOG.items():
        if entry.family.source == EMOV2_README and entry.family.counted_at == (224, 224):
            dims, ratios = (ARCHS[entry.backbone.removeprefix('emov2_')][key] for key in ('embed_dims', 'expand_ratio'))
            once_more = 2 * 49**2 * (dims[3] + int(dims[3] * ratios[3]))
            assert published_as(entry.macs_g, (counts[name].macs + once_more) / 1e9, 3) in rounded | {'cut'}
    # What the note on the segmenters of 5M says of those of 2M: attention is in their published figures.
    for name in ('deeplabv3_emo_2m_ade20k', 'pspnet_emo_2m_ade20k'):
        without_attention = (counts[name].macs - counts[name].attention_macs) / 1e9
        assert published_as(CATALOG[name].macs_g, without_attention, 1) != 'cut'


# -- The generated files ---------------------------------------------------------------------------------------------


@pytest.mark.toolbox
def test_generated_files_are_current(counts: dict[str, Any]) -> None:
    # If this fails: python tools/documents/make_model_zoo.py
    assert generator.stale(generator.files(counts, 'any version')) == []


@pytest.mark.toolbox
def test_stale_files_are_found(counts: dict[str, Any], tmp_path: Path) -> None:
    contents = generator.files(counts, 'torch 1', root=tmp_path)
    assert generator.stale(contents) == list(contents)
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert generator.stale(generator.files(counts, 'torch 2', root=tmp_path)) == []
    page = tmp_path / 'docs' / 'model_zoo.md'
    page.write_text(page.read_text().replace('27.9', '28.9'))
    assert generator.stale(contents) == [page]


def test_readme_table_goes_between_its_marks() -> None:
    readme = '# Title\n<!-- models -->\nold\n<!-- /models -->\nrest\n'
    assert generator.with_readme_table(readme, '| a |\n') == (
        '# Title\n<!-- models -->\n| a |\n<!-- /models -->\nrest\n'
    )
    assert generator.with_readme_table('# No marks\n', '| a |\n') == '# No marks\n'


@pytest.mark.toolbox
def test_model_index_passes_its_readers_checks(repo_root: Path) -> None:
    from modelindex.load_model_index import load

    index = load(str(repo_root / 'model-index.yml'))
    assert index.check(silent=True) == []
    models = {model.name: model for model in index.models}
    assert set(models) == set(CATALOG)
    for name, model in models.items():
        entry = CATALOG[name]
        assert (repo_root / model.config).is_file()
        assert model.full_model.paper['URL'].startswith('https://arxiv.org/abs/')  # from its collection
        assert 'published by the authors' in model.metadata.data['Source']
        given = [value for result in model.results for value in result.metrics.values()]
        assert given == [entry.metrics[key] for key in entry.family.metrics]
        assert len(model.results) == 1 + ('mask_ap' in entry.metrics)
        assert (model.weights is None) == (entry.weights is None)


@pytest.mark.toolbox
def test_model_index_is_read_by_mmpretrain(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmpretrain.apis.model import ModelHub

    monkeypatch.setattr(ModelHub, '_models_dict', {})
    ModelHub.register_model_index(repo_root / 'model-index.yml', config_prefix=repo_root)
    assert all(Path(model.config).is_file() for model in ModelHub._models_dict.values())
    assert len(ModelHub._models_dict) == len(CATALOG)


def test_every_metric_has_a_name() -> None:
    for entry in CATALOG.values():
        assert tuple(entry.metrics) == entry.family.metrics
        assert set(entry.metrics) <= set(METRICS)


def test_list_gives_the_paths_of_configs(run_cli) -> None:
    from pathlib import Path

    done = run_cli('list', '--task', 'seg', '--paths')
    paths = [Path(line) for line in done.out.splitlines()]
    assert paths
    assert all(path.is_file() and path.parent.name == 'seg' for path in paths)
