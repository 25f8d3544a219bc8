from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emo_mm.benchmark.counting import count
from emo_mm.models import EMO
from emo_mm.models.layers import LayerNorm2d

pytestmark = pytest.mark.toolbox


class Classifier(nn.Module):
    """A backbone with the published head: norm, average, linear."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.backbone = EMO(arch, out_indices=(4,))
        width = self.backbone.out_channels[0]
        self.norm = LayerNorm2d(width)
        self.head = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.backbone(x)[0]).mean((2, 3)))


@pytest.mark.parametrize(
    ('arch', 'params', 'published_mmacs'),
    [('1m', 1361168, 261), ('2m', 2377472, 439), ('5m', 5108848, 903), ('6m', 6168496, 961)],
)
def test_published_parameters_and_macs_of_the_classifiers(arch: str, params: int, published_mmacs: int) -> None:
    counted = count(Classifier(arch), torch.zeros(1, 3, 224, 224))
    assert counted.params == params
    assert round(counted.macs / 1e6) == published_mmacs
    # Norms belong to the convention: without them the figure would be another.
    assert round(counted.product_macs / 1e6) < published_mmacs


def test_published_macs_of_the_parts_of_emo_1m() -> None:
    parts = count(EMO('1m'), torch.zeros(1, 3, 224, 224)).by_module
    assert [round(parts[name] / 1e6, 2) for name in ('stem', 'stages.0', 'stages.1')] == [19.27, 57.70, 33.80]
    assert parts[''] == parts['stem'] + sum(parts[f'stages.{k}'] for k in range(4))


def test_a_tracing_counter_agrees() -> None:
    """MMEngine's port of fvcore counts the traced graph, operator by operator, on values."""
    from math import prod

    from mmengine.analysis import FlopAnalyzer
    from mmengine.analysis.jit_handles import get_shape

    def attention(inputs: list, outputs: list) -> int:
        query, key, value = (get_shape(x) for x in inputs[:3])
        return prod(query) * key[-2] + prod(query[:-1]) * key[-2] * value[-1]

    # 100 is no multiple of the window at any stage, so that attention works on padded maps.
    model, image = EMO('1m', window_size=5).eval(), torch.zeros(1, 3, 100, 132)
    analyzer = FlopAnalyzer(model, (image,)).set_op_handle('aten::scaled_dot_product_attention', attention)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    by_operator = dict(analyzer.by_operator())
    del by_operator['adaptive_avg_pool2d']  # an average has no multiplications; the published figures agree
    counted = count(model, image)
    assert counted.macs == sum(by_operator.values())
    assert counted.by_operator['bmm'] == by_operator['scaled_dot_product_attention']


@pytest.mark.parametrize(
    ('module', 'shape', 'macs'),
    [
        (nn.Conv2d(6, 8, 3, stride=2, padding=1), (2, 6, 10, 14), 2 * 8 * 5 * 7 * 6 * 9),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6), (1, 6, 10, 14), 6 * 10 * 14 * 25),
        (nn.Linear(12, 5), (3, 7, 12), 3 * 7 * 12 * 5),
        (nn.BatchNorm2d(4), (1, 4, 9, 9), 2 * 4 * 81),
        (nn.LayerNorm(16), (3, 7, 16), 5 * 3 * 7 * 16),
        (nn.GroupNorm(2, 8), (2, 8, 6, 6), 5 * 2 * 8 * 36),
        (nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.GELU(), nn.SiLU()), (1, 4, 8, 8), 0),
    ],
    ids=['conv', 'depthwise', 'linear', 'batchnorm', 'layernorm', 'groupnorm', 'free'],
)
def test_hand_counts(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count(module, torch.zeros(shape)).macs == macs


def test_both_matrix_products_of_fused_attention_count() -> None:
    class Attention(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v)

    counted = count(Attention(), torch.zeros(2, 4, 9, 8), torch.zeros(2, 4, 7, 8), torch.zeros(2, 4, 7, 12))
    assert counted.macs == 2 * 4 * (9 * 7 * 8 + 9 * 7 * 12)
    assert counted.params == 0


def test_the_model_is_left_as_it_was() -> None:
    model = EMO('1m').train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count(model, torch.zeros(1, 3, 64, 64))
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
