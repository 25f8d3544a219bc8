"""Backbones of any architecture give, for images of any size, what the plain formulation gives."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from exploring import explore, few_or_many, refusal_of
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from emo_mm.benchmark import reference
from emo_mm.models import EMO, EMOv2
from emo_mm.models.inference.fuse import fuse
from emo_mm.models.pyramid import MobilePyramid

FAMILIES = {'EMO': EMO, 'EMOv2': EMOv2}
LARGEST = 400  # pixels of a side


@dataclass(frozen=True)
class Case:
    """A backbone and images for it."""

    family: str
    arch: Any
    windows: int | tuple[int, ...]
    indices: tuple[int, ...]
    batch: int
    height: int
    width: int
    layout: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        return FAMILIES[self.family].archs[self.arch] if isinstance(self.arch, str) else self.arch

    def backbone(self, dtype: torch.dtype, **options: Any) -> MobilePyramid:
        torch.manual_seed(self.seed)
        kind = FAMILIES[self.family]
        backbone = kind(
            self.arch, window_size=self.windows, out_indices=self.indices, drop_path_rate=0.0, **options
        ).to(dtype)
        for module in backbone.modules():  # statistics, gains and biases that matter
            if isinstance(module, _BatchNorm | nn.LayerNorm):
                for tensor in (module.weight.data, module.bias.data, *module.buffers()):
                    if tensor.is_floating_point():
                        tensor.uniform_(0.5, 1.5)
            elif type(module).__name__ == 'LayerScale':
                module.gamma.data.uniform_(0.5, 1.5)
        return backbone.eval()

    def image(self, dtype: torch.dtype) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        x = torch.randn(self.batch, 3, self.height, self.width, generator=generator, dtype=torch.float64).to(dtype)
        if self.layout == 'channels_last':
            return x.contiguous(memory_format=torch.channels_last)
        if self.layout == 'strided':  # every second column of a wider image
            return torch.stack([x, x * 0], dim=-1).flatten(3)[..., ::2]
        if self.layout == 'transposed':
            return x.transpose(2, 3).contiguous().transpose(2, 3)
        return x


@st.composite
def tiny_archs(draw: st.DrawFn) -> dict[str, tuple[float, ...]]:
    heads = [draw(st.sampled_from((0, 0, 1, 2))), draw(st.sampled_from((0, 0, 2))), draw(st.integers(0, 4)), 2]
    dims = [max(1, head) * draw(st.sampled_from((4, 6, 8))) for head in heads]
    # the expansion of EMOv2 is a multiple of its heads too
    ratios = [draw(st.sampled_from((1, 2, 3) if head else (1, 2, 2.5, 3))) for head in heads]
    return dict(
        depths=tuple(draw(st.integers(1, 2)) for _ in range(4)),
        embed_dims=tuple(dims),
        expand_ratio=tuple(ratios),
        kernel_size=tuple(draw(st.sampled_from((3, 5, 7, 9))) for _ in range(4)),
        num_heads=tuple(heads),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    family = draw(st.sampled_from(list(FAMILIES)))
    arch: Any = draw(tiny_archs())
    largest = LARGEST
    if draw(st.integers(0, 7)) == 7:
        arch, largest = draw(st.sampled_from(list(FAMILIES[family].archs))), 160
    one = st.integers(1, 20)
    windows = draw(st.one_of(st.just(0), one, one, st.tuples(one, one, st.integers(0, 20), st.integers(0, 20))))
    if windows == 0 and not isinstance(arch, str) and any(arch['num_heads'][:2]):
        largest = 160  # one window over a map of 100x100 would be 10,000 x 10,000 weights
    # small sides more often, and those around a multiple of the stride
    side = st.one_of(
        st.integers(1, largest),
        st.integers(1, 70),
        st.integers(1, largest // 32).flatmap(lambda n: st.integers(32 * n - 1, 32 * n + 1)),
    )
    return Case(
        family=family,
        arch=arch,
        windows=windows,
        indices=draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True).map(tuple)),
        batch=draw(st.integers(1, 3)),
        height=min(draw(side), LARGEST),
        width=min(draw(side), LARGEST),
        layout=draw(st.sampled_from(('contiguous', 'channels_last', 'strided', 'transposed'))),
        seed=draw(st.integers(0, 1000)),
    )


def plain(case: Case, backbone: MobilePyramid, x: Tensor, training: bool = False) -> list[Tensor]:
    """The maps of the plain formulation, in float64 or that of the backbone."""
    return _plain(case, official(case, backbone), x, training)


def _plain(case: Case, tensors: dict[str, Tensor], x: Tensor, training: bool) -> list[Tensor]:
    arch = case.settings
    head_dims = [dim // heads if heads else 0 for dim, heads in zip(arch['embed_dims'], arch['num_heads'], strict=True)]
    windows = case.windows if isinstance(case.windows, tuple) else (case.windows,) * 4
    depths = arch['depths'][: max(case.indices)]  # what comes later is not run, and has statistics of its own
    maps = reference.network(case.family == 'EMOv2', tensors, x, depths, head_dims, windows, training)
    return [maps[i] for i in case.indices]


def official(case: Case, backbone: MobilePyramid) -> dict[str, Tensor]:
    """The tensors of a backbone by their published names."""
    return {official_key(case, backbone, name): value.clone() for name, value in backbone.state_dict().items()}


def official_key(case: Case, backbone: MobilePyramid, name: str) -> str:
    key = backbone.names.official_key(name)
    if 'eops.0.' in key and '.qk.' not in key:  # named after what the published networks have at this place
        stage, index = int(key[len('stage')]), int(key.split('.')[1])
        attends = case.settings['num_heads'][stage - 1] and index > 0
        key = key.replace('eops.0.net.', 'eops.0.v.').replace('eops.0.v.', 'eops.0.v.' if attends else 'eops.0.net.')
    return key


def error_of(maps: tuple[Tensor, ...], expected: list[Tensor]) -> float:
    """The largest error relative to the largest value of a map."""
    errors = []
    for ours, theirs in zip(maps, expected, strict=True):
        assert ours.shape == theirs.shape
        assert torch.isfinite(ours).all()
        errors.append(float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp(min=1)))
    return max(errors)


@few_or_many(30, 1500)
def test_maps_equal_those_of_the_plain_formulation(examples):
    def check(drawn: tuple[Case, Any, Any]) -> None:
        case, dtype, context = drawn
        backbone, x = case.backbone(dtype), case.image(dtype)
        before = x.clone()
        with {'inference': torch.inference_mode, 'no_grad': torch.no_grad, 'grad': nullcontext}[context]():
            maps = backbone(x)
        assert torch.equal(x, before), 'the image was changed'
        with torch.no_grad():
            expected = plain(case, backbone.double(), case.image(dtype).double())
        assert error_of(maps, expected) < {torch.float64: 1e-9, torch.float32: 1e-3}[dtype]

    contexts = st.sampled_from(('inference', 'no_grad', 'grad'))
    explore(check, st.tuples(cases(), st.sampled_from((torch.float32, torch.float64)), contexts), examples)


@few_or_many(15, 500)
def test_maps_of_a_fused_backbone_equal_those_of_the_plain_formulation(examples):
    def check(case: Case) -> None:
        backbone = case.backbone(torch.float64)
        with torch.inference_mode():
            maps = fuse(backbone)(case.image(torch.float64))
        with torch.no_grad():
            expected = plain(case, backbone, case.image(torch.float64))
        assert error_of(maps, expected) < 1e-8

    explore(check, cases(), examples)


@few_or_many(15, 500)
def test_half_precision_and_autocast_stay_near(examples):
    def check(drawn: tuple[Case, bool]) -> None:
        case, autocast = drawn
        backbone, x = case.backbone(torch.float32), case.image(torch.float32)
        with torch.no_grad():
            expected = plain(case, backbone, x)
            if autocast:
                with torch.autocast('cpu', torch.bfloat16):
                    maps = backbone(x)
            else:
                maps = backbone.to(torch.bfloat16)(x.to(torch.bfloat16))
        for ours, theirs in zip(maps, expected, strict=True):
            assert ours.shape == theirs.shape
            assert torch.isfinite(ours).all()
            # 8 bits, through up to thirty blocks
            assert (ours.float() - theirs).norm() < 0.15 * theirs.norm() + 1e-2

    explore(check, st.tuples(cases(), st.booleans()), examples)


@few_or_many(15, 500)
def test_training_steps_equal_those_of_the_plain_formulation(examples):
    def check(drawn: tuple[Case, bool]) -> None:
        case, with_cp = drawn
        backbone = case.backbone(torch.float64, with_cp=with_cp).train()
        x = case.image(torch.float64)
        tensors = official(case, backbone)
        leaves = {
            name: tensors[official_key(case, backbone, name)].requires_grad_()
            for name, _ in backbone.named_parameters()
        }
        found: list[Tensor] = []
        said = refusal_of(lambda: found.extend(_plain(case, tensors, x, training=True)))
        if said is not None:  # statistics of a single pixel
            assert 'more than 1 value per channel' in said
            assert refusal_of(lambda: backbone(x)) is not None
            return
        expected = found
        maps = backbone(x)
        assert error_of(tuple(x.detach() for x in maps), [x.detach() for x in expected]) < 1e-8
        for buffer, value in backbone.named_buffers():
            if 'running' in buffer:
                torch.testing.assert_close(value, tensors[official_key(case, backbone, buffer)], rtol=1e-8, atol=1e-8)
        for outputs in (maps, expected):
            sum((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum() for output in outputs).backward()
        for name, parameter in backbone.named_parameters():
            if parameter.grad is None:
                assert leaves[name].grad is None or not leaves[name].grad.any()
                continue
            scale = float(leaves[name].grad.abs().max().clamp(min=1))
            torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-6, atol=1e-7 * scale)

    explore(check, st.tuples(cases().filter(lambda case: case.height * case.width < 30_000), st.booleans()), examples)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('shape', [(0, 3, 32, 32), (1, 3, 0, 32), (1, 4, 32, 32), (3, 32, 32), (1, 1, 3, 32, 32)])
def test_what_is_no_batch_of_images_is_refused(family, shape):
    with pytest.raises(ValueError, match='images are'):
        FAMILIES[family]().eval()(torch.zeros(shape))
