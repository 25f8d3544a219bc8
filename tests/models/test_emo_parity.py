"""EMO and EMOv2 answer what the authors' networks answer."""

import golden
import numpy as np
import pytest
import torch

from emo_mm.benchmark import reference

PARAMS = {
    'emo_1m': 1_361_168,
    'emo_2m': 2_377_472,
    'emo_5m': 5_108_848,
    'emo_6m': 6_168_496,
    'emov2_1m': 1_460_844,
    'emov2_2m': 2_384_312,
    'emov2_5m': 5_126_440,
    'emov2_20m': 20_195_208,
}
MODELS = list(PARAMS)


def load(model, **kwargs):
    backbone = golden.backbone(model, out_indices=range(5), drop_path_rate=0.0, **kwargs)
    backbone.load_state_dict(golden.state_dict(model))
    return backbone


@pytest.fixture(autouse=True)
def _one_thread():
    """Sum in one order, whatever the machine: the golden answers are compared to the last digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('case', golden.cases('eval'), ids=golden.case_id)
def test_feature_maps_equal_the_golden_ones(case):
    backbone = load(case['model'], window_size=case['window_size']).eval()
    with torch.no_grad():
        maps = backbone(golden.image(case))
    answers = golden.answers(case)
    for k, x in enumerate(maps):
        assert list(x.shape) == case[f'stage{k}_shape']
        np.testing.assert_allclose(golden.sample(x), answers[f'stage{k}'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('case', golden.cases('train'), ids=golden.case_id)
@pytest.mark.parametrize('with_cp', [False, True], ids=['', 'with_cp'])
def test_gradients_and_running_statistics_equal_the_golden_ones(case, with_cp):
    backbone = load(case['model'], window_size=case['window_size'], with_cp=with_cp).train()
    maps = backbone(golden.image(case))
    sum(x.square().mean() for x in maps[1:]).backward()
    answers = golden.answers(case)
    native_key = backbone.names.native_key
    parameters, buffers = dict(backbone.named_parameters()), dict(backbone.named_buffers())
    assert {native_key(key) for key in case['grad_keys']} == set(parameters)
    norms = [parameters[native_key(key)].grad.norm().item() for key in case['grad_keys']]
    np.testing.assert_allclose(norms, answers['grad_norms'], rtol=1e-3, atol=1e-5)
    means = [buffers[native_key(key)].norm().item() for key in case['running_mean_keys']]
    np.testing.assert_allclose(means, answers['running_mean_norms'], rtol=1e-3)
    assert all(int(value) == 1 for key, value in buffers.items() if key.endswith('num_batches_tracked'))


@pytest.mark.parametrize('model', MODELS)
def test_every_official_tensor_is_consumed_and_the_counts_are_exact(model):
    keys = golden.key_shapes(model)
    backbone = golden.backbone(model)
    native_key, official_key = backbone.names.native_key, backbone.names.official_key
    own = {native_key(key): shape for key, shape in keys.items() if native_key(key) is not None}
    assert own == {name: tuple(x.shape) for name, x in backbone.state_dict().items()}
    classifier = sum(np.prod(shape) for key, shape in keys.items() if native_key(key) is None)
    assert sum(p.numel() for p in backbone.parameters()) + classifier == PARAMS[model]
    assert all(official_key(native_key(key)) == key for key in keys if native_key(key) is not None)


@pytest.mark.parametrize('model', [model for model in MODELS if model != 'emov2_20m'])
@pytest.mark.parametrize(
    ('size', 'window'), [((32, 32), 7), ((33, 95), 7), ((100, 41), 10), ((129, 64), 3), ((70, 51), 0), ((64, 64), 20)]
)
def test_any_size_and_window_equals_the_plain_formulation(model, size, window):
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(sum(size)))
    backbone = load(model, window_size=window).eval()
    with torch.no_grad():
        for ours, theirs in zip(
            backbone(x), reference.features(model, golden.state_dict(model), x, window), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('model', 'size'), [('emo_1m', (800, 1344)), ('emo_1m', (1344, 481)), ('emov2_1m', (800, 1344))]
)
def test_the_largest_sizes_equal_the_plain_formulation(model, size):
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load(model).eval()(x)
        theirs = reference.features(model, golden.state_dict(model), x, 7)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'case', [case for case in golden.cases('eval') if case['model'].endswith('_1m')][::5], ids=golden.case_id
)
def test_the_plain_formulation_itself_equals_the_golden_answers(case):
    tensors = golden.state_dict(case['model'])
    maps = reference.features(case['model'], tensors, golden.image(case), case['window_size'])
    answers = golden.answers(case)
    for k, x in enumerate(maps):
        np.testing.assert_allclose(golden.sample(x), answers[f'stage{k}'], rtol=1e-4, atol=1e-5)
    ours = reference.logits(maps[-1], tensors).flatten().numpy()
    np.testing.assert_allclose(ours, answers['logits'], rtol=1e-4, atol=1e-5)
