from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch

from emo_mm.benchmark import reference
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.networks import fold
from emo_mm.benchmark.plan import BenchmarkOptions, make_plan, parse_size, with_suite
from emo_mm.benchmark.runtimes import RUNTIMES
from emo_mm.benchmark.subjects import PEERS, find_subject, toolbox_config
from emo_mm.benchmark.suites import SUITES
from emo_mm.errors import UserError
from emo_mm.models.layers import LayerScale

pytestmark = pytest.mark.toolbox


def planned(**options: object) -> list[tuple[str, list[str]]]:
    plan = make_plan(with_suite(BenchmarkOptions(**options)))  # type: ignore[arg-type]
    return [(group.title, [contestant.title for contestant in group.contestants]) for group in plan.groups]


def test_modes_sizes_and_batches_are_groups_and_the_rest_is_measured_side_by_side() -> None:
    assert planned(
        models=('emo_1m', 'edgenext_xxs'),
        runtimes=('reference', 'eager', 'fused'),
        modes=('forward', 'train'),
        batches=(1, 16),
        dtypes=('fp32', 'bf16'),
    )[2:] == [
        (
            f'train, batch {batch}, published input sizes',
            [
                *('emo_1m reference', 'emo_1m reference bf16', 'emo_1m eager', 'emo_1m eager bf16'),
                *('edgenext_xxs eager', 'edgenext_xxs eager bf16'),
            ],
        )
        for batch in (1, 16)
    ]


def test_what_there_is_not_is_listed_with_the_reason() -> None:
    plan = make_plan(with_suite(BenchmarkOptions(models=('edgenext_xxs', 'emo_1m'), runtimes=('reference', 'eager'))))
    assert plan.skipped == (
        'edgenext_xxs reference forward fp32: the plain formulation is that of the published classifiers',
    )
    assert plan.baseline == 'reference'


@pytest.mark.parametrize('suite', SUITES)
def test_every_suite_can_be_planned(suite: str) -> None:
    plan = make_plan(with_suite(BenchmarkOptions(suite=suite)))
    assert {c.subject.name for group in plan.groups for c in group.contestants} == set(SUITES[suite].models)
    assert plan.baseline == SUITES[suite].baseline


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((), 'name models to measure, or a suite: --suite backbones|detectors|segmenters|peers'),
        (('emo_1n',), "no model 'emo_1n' to measure: did you mean emo_1m"),
        (('emo_1m', '--runtime', 'fusd'), "no runtime 'fusd': did you mean fused?"),
        (('emo_1m', '--mode', 'sleep'), "no mode 'sleep': it must be one of forward, e2e, train, train-cp"),
        (('--suite', 'peer'), "no suite 'peer': did you mean peers?"),
        (('emo_1m', '--dtype', 'fp16'), '--dtype fp16 is for GPUs; on a CPU use fp32 or bf16'),
        (('emo_1m', '--device', 'tpu'), "--device is 'tpu'; it must be cpu, cuda or cuda:N"),
        (('emo_1m', '--size', '0'), "size '0': it must be one number or HEIGHTxWIDTH, such as 224 or 800x1344"),
        (('emo_1m', '--batch', '0'), '--batch is 0; it must be at least 1'),
        (('emo_1m', '--threads', '0'), '--threads is 0; it must be at least 1'),
        (('emo_1m', '--baseline', 'emo_2m'), '--baseline emo_2m '),
        (
            ('emo_1m', '--runtime', 'cudagraphs'),
            'nothing to measure: emo_1m cudagraphs forward fp32: it needs a device',
        ),
        (('retinanet_emo_1m_coco', '--mode', 'e2e', '--images', 'nowhere'), '--images nowhere: no folder with JPEG'),
    ],
)
def test_faults_are_one_line_before_anything_is_measured(run_cli: Callable, arguments: tuple, message: str) -> None:
    result = run_cli('benchmark', *arguments)
    assert result.code == 1
    assert result.err.startswith(f'error: {message}')
    assert result.err.count('\n') == 1


def test_sizes_are_height_by_width() -> None:
    assert (parse_size('224'), parse_size('800x1344')) == ((224, 224), (800, 1344))


def test_every_peer_has_a_config_an_input_size_and_a_published_accuracy() -> None:
    found = {name: find_subject(name) for name in PEERS}
    assert {name for name, subject in found.items() if subject.size == (256, 256)} == {
        *('mobilevit_xxs', 'mobilevit_xs', 'mobilevit_s', 'edgenext_xxs', 'edgenext_xs', 'edgenext_s')
    }
    assert found['ssdlite_mobilenetv2'].size == (320, 320)
    assert all(subject.size in ((224, 224), (256, 256), (320, 320)) for subject in found.values())
    for name, subject in found.items():
        assert subject.published is not None
        assert subject.published.source.endswith(PEERS[name].entry)
        assert (
            20 < subject.published.value < 22 if subject.published.metric == 'box_ap' else subject.published.value > 60
        )
    assert found['edgenext_xxs'].published.value == 71.2  # type: ignore[union-attr]


def test_a_toolbox_without_the_config_is_named() -> None:
    with pytest.raises(UserError, match=r'nowhere/none\.py'):
        toolbox_config('mmpretrain', 'nowhere/none.py')


def test_a_plan_imports_neither_torch_nor_a_toolbox() -> None:
    statement = 'import sys, emo_mm.benchmark.plan; print({"torch", "mmengine", "mmdet"} & {*sys.modules})'
    done = subprocess.run([sys.executable, '-c', statement], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'


def test_the_plain_formulation_imports_nothing_of_the_package() -> None:
    tree = ast.parse(Path(reference.__file__).read_text(encoding='utf-8'))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or '' for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split('.')[0] for name in names} == {'__future__', 'collections', 'torch'}


def test_every_runtime_names_a_function_that_makes_a_network() -> None:
    for runtime in RUNTIMES.values():
        assert callable(resolve_name(runtime.network))


@pytest.mark.parametrize('name', ['emo_1m', 'emov2_1m', 'emov2_5m_512_imagenet'])
def test_the_plain_formulation_answers_what_the_classifier_answers(name: str) -> None:
    subject = find_subject(name)
    assert subject.family == ('EMOv2' if 'emov2' in name else 'EMO')
    contestant = Contestant(subject, 'reference', 'forward', 'fp32', 'cpu', (160, 160), batch=1, threads=1)
    image = torch.randn(1, 3, 160, 160)
    network = RUNTIMES['reference'].prepare(contestant, image)
    with torch.no_grad():
        torch.testing.assert_close(network(image), network.model(image), rtol=1e-3, atol=1e-5)  # type: ignore[union-attr]


def test_emov2_is_folded_by_our_own_fuse() -> None:
    folded = fold(find_subject('emov2_1m').build(for_inference=True), (64, 64))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert not any(isinstance(module, LayerScale) for module in folded.modules())


def test_both_families_stand_in_the_suites() -> None:
    assert {'emo_1m', 'emov2_1m', 'emov2_5m'} <= set(SUITES['peers'].models) & set(SUITES['backbones'].models)
    assert {'ssdlite_emov2_1m_coco', 'ssdlite_emov2_20m_512_coco'} <= set(SUITES['detectors'].models)
    assert 'segformer_emov2_5m_ade20k' in SUITES['segmenters'].models
