"""Misspelt names and values of other types in configs give one clear error, with the name that was meant."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
from data_trees import write_coco
from exploring import explore, few_or_many, refusal_of
from hypothesis import strategies as st
from planning import apply_train_options, load_run_config

from emo_mm.config.build import build_from_config
from emo_mm.config.check import explained
from emo_mm.config.names import find_config, get_config, list_models
from emo_mm.data.splits import DataRequest
from emo_mm.engine.options import TrainOptions
from emo_mm.errors import UserError
from emo_mm.models import EMO, EMOv2

pytestmark = pytest.mark.toolbox

ARGUMENTS = [name for name in inspect.signature(EMO).parameters if name != 'self']
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, float('nan'), float('inf'), '', '1m', '9m', 'x' * 3000, (), [], {}, [[]], (1, 2),
    [None] * 4, ['a'] * 4, [1.5] * 4, [0] * 4, [-1] * 4, [float('nan')] * 4, {'a': 1}, {None: 1}, object, b'1m',
)  # fmt: skip


@st.composite
def misspelt(draw: st.DrawFn, names: list[str]) -> tuple[str, str]:
    """A name and a misspelling of it: a letter lost, doubled or exchanged."""
    name = draw(st.sampled_from(names))
    place = draw(st.integers(1, len(name) - 1))
    kind = draw(st.integers(0, 2))
    if kind == 0:
        wrong = name[:place] + name[place + 1 :]
    elif kind == 1:
        wrong = name[:place] + name[place] + name[place:]
    else:
        wrong = name[: place - 1] + name[place] + name[place - 1] + name[place + 1 :]
    return name, wrong


@few_or_many(50, 2000)
def test_misspelt_names_of_configs_are_told_with_the_name_that_was_meant(examples):
    names = list_models()

    def check(drawn: tuple[str, str]) -> None:
        _, wrong = drawn
        if wrong in names:
            return
        with pytest.raises(UserError) as error:
            find_config(wrong)
        assert 'did you mean ' in str(error.value)
        # several names may be as near
        assert '\n' not in str(error.value)

    explore(check, misspelt(names), examples)


@few_or_many(50, 2000)
def test_a_backbone_with_an_argument_of_another_type_is_refused_or_works(examples):
    def check(drawn: tuple[type, str, Any]) -> None:
        kind, name, value = drawn
        said = refusal_of(lambda: kind(**{name: value}))
        assert said is None or (name in said and len(said) < 6000)

    kinds = st.sampled_from((EMO, EMOv2))
    explore(check, st.tuples(kinds, st.sampled_from(ARGUMENTS), st.sampled_from(ODD)), examples)


@few_or_many(50, 2000)
def test_an_architecture_with_an_entry_of_another_type_is_refused_or_works(examples):
    tiny = dict(
        depths=(1, 1, 1, 1),
        embed_dims=(8, 8, 8, 8),
        expand_ratio=(1, 1, 1, 1),
        kernel_size=(3,) * 4,
        num_heads=(0, 0, 2, 2),
    )

    def check(drawn: tuple[type, str, Any, int | None]) -> None:
        kind, name, value, place = drawn
        arch: dict[str, Any] = dict(tiny, drop_path_rate=0.0)
        if place is None or name == 'drop_path_rate':
            arch[name] = value
        else:
            arch[name] = [*arch[name][:place], value, *arch[name][place + 1 :]]
        said = refusal_of(lambda: kind(arch))
        assert said is None or name in said or 'num_heads' in said  # whose widths may be the wrong ones

    names = st.sampled_from([*tiny, 'drop_path_rate'])
    places = st.one_of(st.none(), st.integers(0, 3))
    explore(check, st.tuples(st.sampled_from((EMO, EMOv2)), names, st.sampled_from(ODD), places), examples)


@few_or_many(8, 200)
def test_a_misspelt_argument_of_the_backbone_is_told_with_the_one_that_was_meant(examples):
    plain = get_config('ssdlite_emo_1m_coco')

    def check(drawn: tuple[str, str]) -> None:
        name, wrong = drawn
        if wrong in (*ARGUMENTS, 'type'):
            return
        cfg = copy.deepcopy(plain)
        cfg.model.backbone[wrong] = cfg.model.backbone.pop(name, None)
        with pytest.raises(UserError, match=f"EMO has no argument '{wrong}'; did you mean {name}"):
            build_from_config(cfg)

    explore(check, misspelt([name for name in ARGUMENTS if len(name) > 4 and name != 'init_cfg']), examples)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'model.backbone.type': 'emo_mm.EM0'}, 'did you mean EMO'),
        ({'model.backbone.arch': '9m'}, "arch is '9m'; it must be one of '1m', '2m', '5m', '6m' or a dict"),
        ({'model.bbox_head.type': 'emo_mm.SSDLteHead'}, 'did you mean SSDLiteHead'),
        ({'model.type': 'SingleStageDetecter'}, 'did you mean SingleStageDetector'),
        ({'model.backbone.window_size': 'seven'}, "window_size is 'seven'"),
        ({'default_scope': 'mmdett'}, "default_scope is 'mmdett'"),
    ],
)
def test_a_model_that_cannot_be_built_is_told(change, said):
    cfg = get_config('ssdlite_emo_1m_coco')
    cfg.merge_from_dict(change)
    with pytest.raises(UserError) as error:
        build_from_config(cfg)
    assert said in str(error.value)


def test_what_is_no_model_is_told():
    cfg = get_config('ssdlite_emo_1m_coco')
    cfg.pop('model')
    with pytest.raises(UserError, match='it has no model with a backbone'):
        build_from_config(cfg)


def test_an_error_without_a_name_is_told_as_it_is():
    assert explained(ValueError('depth is odd')) == 'depth is odd'
    assert explained(KeyError('depth')) == 'KeyError: depth'


@pytest.fixture
def tree(tmp_path: Path, monkeypatch) -> TrainOptions:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('EMO_MM_CACHE', str(tmp_path / 'cache'))
    request = write_coco(tmp_path / 'data')
    return TrainOptions('ssdlite_emo_1m_coco', work_dir='runs', data=DataRequest(data_root=request.data_root))


@pytest.mark.parametrize(
    ('key', 'said'),
    [
        ('modle.backbone.arch', "the config has no 'modle'; did you mean model?"),
        ('model.backbone.widow_size', "EMO has no argument 'widow_size'; did you mean window_size?"),
        ('optim_wrapper.optimizer.weight_deacy', "has no argument 'weight_deacy'; did you mean weight_decay?"),
        ('train_cfg.max_epoch', "has no argument 'max_epoch'; did you mean max_epochs?"),
        ('default_hooks.logger.intervall', "LoggerHook has no argument 'intervall'; did you mean interval?"),
    ],
)
def test_a_misspelt_option_is_told_before_the_data_are_read(key, said, tree):
    tree.cfg_options = {key: 1}
    tree.data = DataRequest(data_root='nowhere')
    with pytest.raises(UserError) as error:
        load_run_config(tree, training=True)
    assert str(error.value).startswith('--cfg-options ')
    assert said in str(error.value)


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [
        ('train_cfg', None, 'train_cfg is None; it must be a dict'),
        ('train_cfg', '', "train_cfg is ''; it must be a dict"),
        ('val_dataloader', True, 'val_dataloader is True; it must be a dict'),
        ('train_dataloader.dataset', 'train', "train_dataloader.dataset is 'train'; it must be a dict"),
        ('optim_wrapper', 1, 'optim_wrapper is 1; it must be a dict'),
        ('optim_wrapper.optimizer', None, 'optim_wrapper.optimizer is None; it must be a dict'),
        ('val_evaluator', True, 'val_evaluator has True; its entries must be dicts'),
        ('default_hooks', None, 'default_hooks is None; it must be a dict'),
        ('default_scope', [], 'default_scope is []; it must be one of mmdet, mmseg, mmpretrain'),
        ('default_hooks.logger.interval', '', "default_hooks.logger.interval is ''; it must be a whole number"),
        ('train_cfg.max_epochs', None, 'train_cfg.max_epochs is None; it must be a whole number'),
        ('default_hooks', [1], 'default_hooks is [1]; it must be a dict'),
        ('default_hooks.logger', 'x', "default_hooks.logger is 'x'; it must be a dict, or None to leave it out"),
        ('param_scheduler', ['x'], "param_scheduler has 'x'; its entries must be dicts"),
    ],
)
def test_a_part_that_is_no_dict_is_told_before_the_data_are_read(key, value, said, tree):
    tree.cfg_options = {key: value}
    tree.data = DataRequest(data_root='nowhere')
    with pytest.raises(UserError) as error:
        load_run_config(tree, training=True)
    assert str(error.value) == said


@few_or_many(8, 300)
def test_options_of_other_types_are_refused_or_taken(examples, tree):
    cfg = get_config(tree.config)
    keys: list[str] = []

    def collect(part: Any, where: str) -> None:
        for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            keys.append(f'{where}{key}')
            collect(value, f'{where}{key}.')

    collect(cfg._cfg_dict.to_dict(), '')

    def check(drawn: tuple[str, Any]) -> None:
        key, value = drawn
        tree.cfg_options = {key: value}
        said = refusal_of(lambda: apply_train_options(load_run_config(tree, training=True)[0], tree), UserError)
        assert said is None or len(said) < 6000

    values = st.sampled_from([None, True, -1, 1.5, '', 'x', [], [1], {}, {'a': 1}, '../..'])
    explore(check, st.tuples(st.sampled_from(keys), values), examples)
