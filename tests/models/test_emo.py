"""EMO and EMOv2 as backbones: arguments, pyramid, freezing, loading, precision and compilation."""

import golden
import pytest
import torch
from torch import nn

from emo_mm.models import EMO, EMOv2

TINY = dict(
    depths=(1, 1, 2, 2),
    embed_dims=(8, 8, 16, 16),
    expand_ratio=(2, 2, 2, 2),
    kernel_size=(3, 3, 5, 5),
    num_heads=(0, 0, 2, 2),
)


families = pytest.mark.parametrize('family', [EMO, EMOv2])


def test_the_pyramid_has_the_promised_widths_and_strides():
    backbone = EMO('2m', out_indices=(0, 1, 2, 3, 4)).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert backbone.out_channels == (24, 32, 48, 120, 200)
    assert backbone.out_strides == (2, 4, 8, 16, 32)
    assert [tuple(x.shape) for x in maps] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(backbone.out_channels, backbone.out_strides, strict=True)
    ]


def test_the_stem_of_emov2_is_half_as_wide_as_its_first_stage():
    backbone = EMOv2('20m', out_indices=(0, 1, 2, 3, 4))
    assert backbone.out_channels == (32, 64, 128, 320, 448)
    assert backbone.out_strides == (2, 4, 8, 16, 32)


def test_out_indices_keep_their_order_and_may_count_from_the_end():
    indices = [-1, 3]
    backbone = EMO(TINY, out_indices=indices).eval()
    last, third = backbone(torch.zeros(1, 3, 64, 64))
    assert backbone.out_indices == (4, 3)
    assert indices == [-1, 3]
    assert last.shape[-1] == 2
    assert third.shape[-1] == 4


def test_stages_beyond_the_last_index_are_not_run():
    backbone = EMO(TINY, out_indices=(1,)).eval()
    backbone.stages[1].register_forward_hook(lambda *_: pytest.fail('stage 2 was run'))
    backbone(torch.zeros(1, 3, 32, 32))


def test_other_numbers_of_input_channels_work():
    assert EMO(TINY, in_channels=1).eval()(torch.zeros(1, 1, 32, 32))[0].shape == (1, 8, 8, 8)


@families
@pytest.mark.parametrize(
    ('kwargs', 'names'),
    [
        (dict(arch='3m'), ["'3m'", "'1m'"]),
        (dict(arch=3), ['3', 'dict']),
        (dict(arch={**TINY, 'width': 3}), ['width', 'embed_dims']),
        (dict(arch={**TINY, 'depths': (1, 2)}), ['depths', '(1, 2)']),
        (dict(arch={**TINY, 'depths': (1, 1, 1, 0)}), ['depths', '0']),
        (dict(arch={**TINY, 'num_heads': (0, 0, 3, 2)}), ['num_heads', '16']),
        (dict(arch={**TINY, 'kernel_size': (3, 3, 4, 5)}), ['kernel_size', '4']),
        (dict(arch={**TINY, 'expand_ratio': (2, 2, 0, 2)}), ['expand_ratio', '0']),
        (dict(in_channels=0), ['in_channels', '0']),
        (dict(out_indices=(1, 5)), ['out_indices', '(1, 5)']),
        (dict(out_indices=()), ['out_indices', '()']),
        (dict(out_indices=3), ['out_indices', '3']),
        (dict(window_size=(7, 7)), ['window_size', '(7, 7)']),
        (dict(window_size='7'), ['window_size', "'7'"]),
        (dict(drop_path_rate=1.0), ['drop_path_rate', '1.0']),
        (dict(frozen_stages=5), ['frozen_stages', '5']),
    ],
)
def test_wrong_arguments_are_named(family, kwargs, names):
    with pytest.raises(ValueError, match=r'must|allowed|keys') as error:
        family(**kwargs)
    assert all(name in str(error.value) for name in names)


@families
@pytest.mark.parametrize('frozen', range(-1, 5))
def test_frozen_stages_stay_frozen_through_train(family, frozen):
    backbone = family(TINY, frozen_stages=frozen).train()
    parts = [backbone.stem, *backbone.stages]
    for k, part in enumerate(parts):
        assert all(p.requires_grad != (k <= frozen) for p in part.parameters())
        assert all(m.training != (k <= frozen) for m in part.modules())
    state = {key: x.clone() for key, x in backbone.state_dict().items()}
    maps = backbone(torch.randn(2, 3, 64, 64))
    if frozen < 4:
        maps[-1].sum().backward()
    for k in range(len(parts)):
        name = 'stem' if k == 0 else f'stages.{k - 1}'
        means = [key for key in state if key.startswith(name) and key.endswith('running_mean')]
        moved = any(not torch.equal(state[key], backbone.state_dict()[key]) for key in means)
        assert moved == (k > frozen)


def test_norm_eval_keeps_the_statistics_but_trains_the_weights():
    backbone = EMO(TINY, norm_eval=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(m.training for m in norms)
    assert all(m.weight.requires_grad for m in norms)
    assert backbone.training


def test_window_size_may_differ_by_stage():
    backbone = EMO(TINY, window_size=(7, 7, 4, 0))
    assert [block.window_size for block in backbone.stages[2]] == [4, 4]
    assert [block.window_size for block in backbone.stages[3]] == [0, 0]


def test_stochastic_depth_grows_linearly_and_rests_in_eval():
    backbone = EMO('1m', drop_path_rate=0.28)
    rates = [getattr(block.drop_path, 'p', 0.0) for stage in backbone.stages for block in stage]
    expected = [0.28 * i / 14 for i in range(15)]
    skips = [block.has_skip for stage in backbone.stages for block in stage]
    assert rates == pytest.approx([rate if skip else 0.0 for rate, skip in zip(expected, skips, strict=True)])
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(backbone.eval()(x)[-1], backbone(x)[-1], rtol=0, atol=0)


def test_channels_last_flows_through_to_every_map():
    backbone = EMO('1m', out_indices=range(5)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 70, 70))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)


@pytest.mark.parametrize(
    ('family', 'stem_weight'), [(EMO, 'stage0.0.convs.0.0.weight'), (EMOv2, 'stage0.0.conv.weight')]
)
def test_official_weights_load_below_a_prefix_and_report_what_is_wrong(family, stem_weight):
    detector = nn.ModuleDict({'backbone': family('1m'), 'neck': nn.Linear(2, 2)})
    official = golden.state_dict(f'{family.__name__.lower()}_1m')
    prefixed = {f'backbone.{key}': x for key, x in official.items()}
    prefixed |= {'neck.weight': torch.ones(2, 2), 'neck.bias': torch.ones(2)}
    detector.load_state_dict(prefixed)
    stem = detector['backbone'].stem.conv.weight
    assert torch.equal(stem, official[stem_weight])
    with pytest.raises(RuntimeError, match='Missing'):
        detector.load_state_dict({key: x for key, x in prefixed.items() if 'stage2.0' not in key})
    with pytest.raises(RuntimeError, match='Unexpected'):
        detector.load_state_dict({**prefixed, 'backbone.stage5.0.v.conv.weight': torch.ones(1)})
    with pytest.raises(RuntimeError, match='size mismatch'):
        family('5m').load_state_dict(official)


def test_the_weights_of_one_family_do_not_load_into_the_other():
    with pytest.raises(RuntimeError, match='Missing'):
        EMOv2('1m').load_state_dict(golden.state_dict('emo_1m'))
    with pytest.raises(RuntimeError, match='Missing'):
        EMO('1m').load_state_dict(golden.state_dict('emov2_1m'))


def test_heads_that_do_not_divide_the_expanded_width_are_refused():
    with pytest.raises(ValueError, match=r'num_heads is 4.*16.*50.*divide both'):
        EMOv2({**TINY, 'num_heads': (0, 0, 2, 4), 'expand_ratio': (2, 2, 2, 3.125)})


def test_layer_scale_starts_at_a_millionth():
    gammas = [x for name, x in EMOv2('1m').named_parameters() if name.endswith('layer_scale.gamma')]
    assert len(gammas) == 15
    assert all(torch.all(gamma == 1e-6) for gamma in gammas)


def test_layer_scale_starts_where_the_initialisation_says_and_nothing_else_changes():
    torch.manual_seed(0)
    plain = EMOv2('1m')
    torch.manual_seed(0)
    model = EMOv2('1m', init_cfg=dict(type='emo_mm.LayerScaleInit', value=0.5))
    model.init_weights()
    for (name, value), before in zip(model.named_parameters(), plain.parameters(), strict=True):
        if name.endswith('layer_scale.gamma'):
            assert torch.all(value == 0.5)
        else:
            assert torch.equal(value, before)


def test_loading_leaves_the_given_state_dict_as_it_is():
    official = golden.state_dict('emo_1m')
    keys = list(official)
    EMO('1m').load_state_dict(official)
    assert list(official) == keys


@families
def test_own_state_dict_round_trips_strictly(family):
    backbone = family(TINY)
    family(TINY).load_state_dict(backbone.state_dict())


@families
def test_bfloat16_autocast_stays_close_to_float32_and_trains(family):
    backbone = family('1m', drop_path_rate=0.0)
    backbone.load_state_dict(golden.state_dict(f'{family.__name__.lower()}_1m'))
    backbone.eval()
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    exact = backbone(x)[-1]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = backbone(x)[-1]
    assert torch.nn.functional.cosine_similarity(rough.float().flatten(), exact.flatten(), 0) > 0.99
    rough.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


@pytest.mark.parametrize('scale', [1.0, 300.0])
def test_attention_in_float16_takes_its_softmax_in_float32(scale):
    from emo_mm.models.layers import multi_head_attention

    # Products of queries and keys of this size overflow float16 (65504), whose softmax would be NaN.
    q, k, v = (torch.randn(4, 49, 32, generator=torch.Generator().manual_seed(i)) for i in range(3))
    half = [x.half() for x in (q * scale, k * scale, v)]
    out = multi_head_attention(*half, 4)
    exact = multi_head_attention(*(x.float() for x in half), 4)
    assert out.dtype == torch.float16
    assert out.isfinite().all()
    torch.testing.assert_close(out.float(), exact, rtol=2e-2, atol=2e-2)


@families
@pytest.mark.parametrize('size', [(64, 64), (75, 50)])
def test_compilation_makes_one_graph_in_inference_and_in_training(family, size):
    torch._dynamo.reset()
    backbone = family(TINY)
    x = torch.randn(2, 3, *size)
    # fullgraph raises at the first graph break
    compiled = torch.compile(backbone, backend='aot_eager', fullgraph=True)
    sum(y.sum() for y in compiled(x)).backward()
    assert backbone.stem.conv.weight.grad is not None
    backbone.eval()
    with torch.no_grad():
        for ours, theirs in zip(compiled(x), backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs)


@families
def test_compilation_with_dynamic_sizes_does_not_compile_again_for_each_size(family):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    backbone = family(TINY, window_size=2).eval()
    compiled = torch.compile(backbone, backend=backend, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for size in [(96, 128), (80, 101), (133, 77), (110, 110)]:
            x = torch.randn(2, 3, *size)
            torch.testing.assert_close(compiled(x)[-1], backbone(x)[-1])
    assert len(graphs) == 1


@families
def test_export_has_dynamic_batch_height_and_width(family):
    backbone = family('1m').eval()
    batch, height, width = (
        torch.export.Dim(name, min=low, max=1344) for name, low in zip('nhw', (1, 33, 33), strict=True)
    )
    program = torch.export.export(
        backbone, (torch.randn(2, 3, 96, 128),), dynamic_shapes={'x': {0: batch, 2: height, 3: width}}
    )
    # From 33 pixels: at 32 the last map is a single pixel, and torch.export treats sizes of 1 apart.
    module = program.module()
    with torch.no_grad():
        for shape in [(2, 3, 96, 128), (1, 3, 33, 64), (3, 3, 230, 75)]:
            x = torch.randn(shape)
            for ours, theirs in zip(module(x), backbone(x), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
