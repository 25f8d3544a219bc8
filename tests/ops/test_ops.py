"""The stand-ins for mmcv's compiled ops answer as those do, and are found as documented."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ops.cases import CASES, _rois

from emo_mm.ops import ext
from emo_mm.ops.install import MissingOpError, ops_in_use

pytestmark = pytest.mark.toolbox

RECORDED = Path(__file__).parents[1] / 'data' / 'ops' / 'compiled.npz'
# modules of mmcv.ops that hold the compiled module under this name
HOLDERS = ('nms', 'bbox', 'roi_align', 'roi_pool', 'deform_conv', 'modulated_deform_conv', 'focal_loss')


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let mmcv call the stand-ins, also where its ops are compiled."""
    import mmcv.ops  # noqa: F401

    for name in (*HOLDERS, 'multi_scale_deform_attn'):
        monkeypatch.setattr(sys.modules[f'mmcv.ops.{name}'], 'ext_module', ext)


@pytest.mark.parametrize('case', CASES)
def test_a_stand_in_answers_as_the_compiled_op(case: str, stand_ins: None) -> None:
    found = CASES[case]()
    with np.load(RECORDED) as recorded:
        expected = {name.split('/')[1]: recorded[name] for name in recorded.files if name.split('/')[0] == case}
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        # gradients are sums of many products: the same error relative to the largest of them
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5 * max(1, np.abs(array).max()), err_msg=name)


def test_every_recorded_case_is_tested() -> None:
    with np.load(RECORDED) as recorded:
        assert {name.split('/')[0] for name in recorded.files} == set(CASES)


# --- ops that mmcv compiles for GPUs only: held against their definition, in double precision -------------------------
def test_sigmoid_focal_loss_equals_its_definition(stand_ins: None) -> None:
    from mmcv.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    x = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 5, 5, 0, 1, 2, 3, 5])  # 5 is background
    weight = torch.rand(5, dtype=torch.float64) + 0.5
    for given in (None, weight):
        if given is not None:
            target = target.clamp(max=4)
        p = x.sigmoid()
        one_hot = torch.nn.functional.one_hot(target, 6)[:, :5]
        at_target = torch.where(one_hot == 1, p, 1 - p)
        alpha = torch.where(one_hot == 1, 0.25, 0.75).double()
        expected = -alpha * (1 - at_target) ** 2 * at_target.log()
        if given is not None:
            expected = expected * given[target][:, None]
        found = sigmoid_focal_loss(x, target, 2.0, 0.25, given, 'none')
        torch.testing.assert_close(found, expected)
        mean = sigmoid_focal_loss(x, target, 2.0, 0.25, given, 'mean')
        torch.testing.assert_close(*(torch.autograd.grad(loss, x)[0] for loss in (mean, expected.sum() / len(x))))


def test_softmax_focal_loss_equals_its_definition(stand_ins: None) -> None:
    from mmcv.ops import softmax_focal_loss

    torch.manual_seed(0)
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    target = torch.arange(9) % 4
    weight = torch.rand(4, dtype=torch.float64) + 0.5
    for given in (None, weight):
        p = x.softmax(1)[torch.arange(9), target]
        expected = -0.25 * (1 - p) ** 2 * p.log() * (1 if given is None else given[target])
        found = softmax_focal_loss(x, target, 2.0, 0.25, given, 'sum')
        torch.testing.assert_close(found, expected.sum())
        torch.testing.assert_close(*(torch.autograd.grad(loss, x)[0] for loss in (found, expected.sum())))


def test_roi_pool_takes_the_maximum_of_each_bin(stand_ins: None) -> None:
    from mmcv.ops import roi_pool

    torch.manual_seed(0)
    maps = torch.randn(2, 3, 20, 24, dtype=torch.float64, requires_grad=True)
    rois = _rois().double()
    found = roi_pool(maps, rois, (3, 2), 0.25)
    for number, (image, left, top, right, bottom) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = left / 4, top / 4, (right + 1) / 4, (bottom + 1) / 4
        for row in range(3):
            for column in range(2):
                rows = [int(np.floor(row * (y1 - y0) / 3 + y0)), int(np.ceil((row + 1) * (y1 - y0) / 3 + y0))]
                columns = [int(np.floor(column * (x1 - x0) / 2 + x0)), int(np.ceil((column + 1) * (x1 - x0) / 2 + x0))]
                (a, b), (c, d) = np.clip(rows, 0, 20), np.clip(columns, 0, 24)
                inside = maps[int(image), :, a:b, c:d].flatten(1)
                expected = inside.max(1).values if inside.shape[1] else torch.zeros(3, dtype=torch.float64)
                torch.testing.assert_close(found[number, :, row, column], expected)
    few = torch.randn(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    roi = torch.tensor([[0, 2, 3, 25, 20]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: roi_pool(x, roi, (3, 2), 0.25), few)


def test_deformable_attention_equals_the_mean_of_what_it_samples(stand_ins: None) -> None:
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction as Function
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch as in_pytorch

    torch.manual_seed(0)
    shapes, starts = torch.tensor([[4, 6], [2, 3]]), torch.tensor([0, 24])
    value = torch.randn(2, 30, 3, 4, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(2, 5, 3, 2, 4, 2, dtype=torch.float64) * 1.2 - 0.1).requires_grad_()
    weights = torch.rand(2, 5, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    found = Function.apply(value, shapes, starts, places, weights, 64)
    expected = in_pytorch(value, shapes, places, weights)  # mmcv's own, which it has for CPUs
    torch.testing.assert_close(found, expected)
    leaves, factor = (value, places, weights), torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad((y * factor).sum(), leaves) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_ops_without_a_stand_in_name_themselves_and_the_command() -> None:
    with pytest.raises(MissingOpError, match=r'carafe_forward.*pip install'):
        ext.carafe_forward(torch.zeros(1), kernel=3)
    with pytest.raises(MissingOpError, match=r"pool_mode='max'"):
        ext.roi_align_forward(*[torch.zeros(1, 1, 1, 1)] * 5, 1, 1, 1.0, 0, 0, True)


def test_nms_takes_no_box_and_half_precision(stand_ins: None) -> None:
    from mmcv.ops import nms

    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert (dets.shape, kept.shape) == ((0, 5), (0,))
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]]).half()
    assert nms(boxes, torch.tensor([0.8, 0.9, 0.7]).half(), 0.5)[1].tolist() == [1, 2]


# --- how they are found -----------------------------------------------------------------------------------------------
def in_a_fresh_process(statement: str, **env: str) -> str:
    # not from the clone, whose folder would be on the path
    done = subprocess.run(
        [sys.executable, '-c', statement],
        cwd=tempfile.gettempdir(),
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


WHICH = 'import mmcv.ops, sys; print(sys.modules["mmcv._ext"].__file__, "emo_mm" in sys.modules)'


def test_mmcv_finds_ops_in_a_process_that_does_not_import_emo_mm() -> None:
    statement = 'import sys; print("emo_mm" in sys.modules, "torch" in sys.modules); import mmcv.ops'
    assert in_a_fresh_process(statement) == 'False False'


def test_stand_ins_can_be_chosen_over_compiled_ops() -> None:
    file, _ = in_a_fresh_process(WHICH, EMO_MM_OPS='torch').split()
    assert Path(file).name == 'ext.py'


@pytest.mark.skipif(ops_in_use() != 'torch', reason='mmcv has compiled ops here, which win')
def test_stand_ins_can_be_switched_off() -> None:
    assert 'mmcv._ext' in in_a_fresh_process(WHICH, EMO_MM_OPS='off')
    assert 'ModuleNotFoundError' in in_a_fresh_process(WHICH, EMO_MM_OPS='off')


@pytest.mark.skipif(ops_in_use() != 'compiled', reason='mmcv has no compiled ops here')
def test_compiled_ops_win() -> None:
    assert Path(in_a_fresh_process(WHICH).split()[0]).suffix == '.so'


@pytest.mark.gpu
@pytest.mark.parametrize('case', [case for case in CASES if case.startswith(('nms', 'roi', 'deform', 'modulated'))])
def test_stand_ins_answer_on_a_gpu_as_on_the_cpu(case: str, stand_ins: None) -> None:
    on_cpu = CASES[case]()
    with torch.device('cuda'):
        on_gpu = CASES[case]()
    for name, array in on_cpu.items():
        np.testing.assert_allclose(on_gpu[name], array, rtol=1e-4, atol=1e-4 * max(1, np.abs(array).max()))
