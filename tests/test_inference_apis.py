"""The toolboxes' inference APIs with our configs by path, in fresh processes that know nothing of this package.

One process per toolbox runs its inferencer and its functions on the same image, with a checkpoint as training writes it
and with one under the official names of the tensors; the tests read what it answered.
"""

import json
import os
import subprocess
import sys

import golden
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import DATASETS
from PIL import Image

from emo_mm.config.build import build_model
from emo_mm.config.names import find_config, get_config
from emo_mm.engine.hooks import PlainCheckpointHook
from emo_mm.models.names import official_names

pytestmark = pytest.mark.toolbox

# Each script gets: config, trained checkpoint, official checkpoint, image; and leaves its answers in answers.json.
SCRIPTS = {
    'det': """
from mmdet.apis import DetInferencer, inference_detector, init_detector

def answer(instances):
    return {'labels': list(map(int, instances['labels'])), 'scores': list(map(float, instances['scores']))}

answers = {'classes': {}}
for name, weights in (('trained', trained), ('official', official)):
    inferencer = DetInferencer(model=config, weights=weights, device='cpu', show_progress=False)
    answers[f'inferencer {name}'] = answer(inferencer(image, no_save_vis=True)['predictions'][0])
    model = init_detector(config, weights, device='cpu')
    answers[f'functions {name}'] = answer(inference_detector(model, image).pred_instances)
    answers['classes'][name] = list(model.dataset_meta['classes'])
""",
    'seg': """
from mmseg.apis import MMSegInferencer, inference_model, init_model

answers = {'classes': {}}
for name, weights in (('trained', trained), ('official', official)):
    inferencer = MMSegInferencer(model=config, weights=weights, device='cpu')
    answers[f'inferencer {name}'] = inferencer(image)['predictions'].tolist()
    model = init_model(config, weights, device='cpu')
    answers[f'functions {name}'] = inference_model(model, image).pred_sem_seg.data[0].tolist()
    answers['classes'][name] = list(model.dataset_meta['classes'])
""",
    'cls': """
from mmpretrain import ImageClassificationInferencer, get_model, inference_model

answers = {'classes': {}}
for name, weights in (('trained', trained), ('official', official)):
    inferencer = ImageClassificationInferencer(config, pretrained=weights, device='cpu')
    answers[f'inferencer {name}'] = inferencer(image)[0]['pred_scores'].tolist()
    answers['classes'][name] = list(inferencer.classes)
    model = get_model(config, pretrained=weights, device='cpu')
    answers[f'functions {name}'] = ImageClassificationInferencer(model)(image)[0]['pred_scores'].tolist()

import numpy
import torch

with torch.no_grad():
    answers['golden'] = model(torch.from_numpy(numpy.load('golden.npy')), mode='predict')[0].pred_score.tolist()
""",
}
BEFORE = """
import json, sys
config, trained, official, image = sys.argv[1:]
assert 'emo_mm' not in sys.modules
"""
AFTER = """
from mmengine.runner.checkpoint import CheckpointLoader

try:
    CheckpointLoader.load_checkpoint('emo_7m')
except ValueError as error:
    answers['name'] = str(error)
json.dump(answers, open('answers.json', 'w'))
"""
CONFIGS = {'det': 'ssdlite_emo_1m_coco', 'seg': 'deeplabv3_emo_1m_ade20k', 'cls': 'emo_1m_imagenet'}
IMAGES = {
    'det': 'coco_tiny/val2017/*.jpg',
    'seg': 'ade_tiny/images/validation/*.jpg',
    'cls': 'imagenet_tiny/val/*/*.JPEG',
}
GOLDEN_CASE = next(case for case in golden.cases('eval') if case['model'] == 'emo_1m' and case['window_size'] == 7)


@pytest.fixture(scope='module')
def answers(tmp_path_factory, repo_root):
    """A function giving what the process of a task answered."""
    known = {}

    def of(task):
        if task not in known:
            known[task] = run_apis(task, tmp_path_factory.mktemp(task), repo_root)
        return known[task]

    return of


def run_apis(task, folder, repo_root):
    model = build_model(CONFIGS[task])
    names = official_names(model.state_dict())
    published = golden.state_dict('emo_1m')
    # The published networks' values, and for the tensors of other heads such as make them answer something.
    state = {
        name: published.get(names[name].removeprefix('backbone.'), golden.tensor(name, tuple(value.shape)))
        for name, value in model.state_dict().items()
    }
    cfg = get_config(CONFIGS[task])
    meta = dict(DATASETS.get(f'{cfg.default_scope}.{cfg.test_dataloader.dataset.type}').METAINFO)
    torch.save(trained_checkpoint(state, meta), folder / 'trained.pth')
    official = {names[name]: value for name, value in state.items()}
    if task != 'cls':  # as the toolboxes of the authors' day wrote it
        official = {'meta': {key.upper(): value for key, value in meta.items()}, 'state_dict': official}
    torch.save(official, folder / 'official.pth')
    np.save(folder / 'golden.npy', golden.image(GOLDEN_CASE).numpy())
    arguments = [find_config(CONFIGS[task]).resolve(), 'trained.pth', 'official.pth', an_image(task, folder, repo_root)]
    done = subprocess.run(
        [sys.executable, '-c', BEFORE + SCRIPTS[task] + AFTER, *map(str, arguments)],
        cwd=folder,  # nothing of the clone is there
        env={**os.environ, 'PYTHONPATH': str(repo_root), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert 'missing key' not in output, output[-3000:]
    assert 'unexpected key' not in output, output[-3000:]
    return json.loads((folder / 'answers.json').read_text())


def trained_checkpoint(state, dataset_meta):
    """Return a checkpoint as a training of ours leaves it: MMEngine's own with its objects made plain."""
    scalars = {'train/loss': HistoryBuffer([2.0, 1.0], [1, 1])}
    info = {'iter': 2, 'best_score': np.float64(0.5), 'dataset_meta': dataset_meta}
    checkpoint = {
        'meta': {'epoch': 1, 'iter': 2, 'dataset_meta': dataset_meta, 'seed': np.int64(3)},
        'state_dict': state,
        'message_hub': {'log_scalars': scalars, 'runtime_info': info, 'resumed_keys': {'iter': True}},
    }
    PlainCheckpointHook().before_save_checkpoint(None, checkpoint)
    return checkpoint


def an_image(task, folder, repo_root):
    """Return the path of a real image, where there are any, or else of a made one."""
    real = sorted((repo_root.parent / 'shared' / 'data').glob(IMAGES[task]))
    if real:
        return real[0].resolve()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 300, 3), np.uint8)).save(folder / 'image.png')
    return folder / 'image.png'


def assert_same(first, second):
    np.testing.assert_allclose(first['scores'], second['scores'], rtol=1e-4, atol=1e-5)
    assert first['labels'] == second['labels']


@pytest.mark.parametrize('api', ['inferencer', 'functions'])
def test_detectors_answer_alike_with_trained_and_official_weights(api, answers):
    found = answers('det')
    trained = found[f'{api} trained']
    assert len(trained['scores']) > 10
    assert_same(trained, found[f'{api} official'])
    assert_same(trained, found['functions trained'])
    assert found['classes']['trained'] == found['classes']['official']
    assert found['classes']['trained'][:2] == ['person', 'bicycle']


@pytest.mark.parametrize('api', ['inferencer', 'functions'])
def test_segmenters_answer_alike_with_trained_and_official_weights(api, answers):
    found = answers('seg')
    trained = np.array(found[f'{api} trained'])
    assert trained.ndim == 2
    assert len(np.unique(trained)) > 3
    # A pixel where two classes are equally likely may go either way.
    assert np.mean(trained == np.array(found[f'{api} official'])) > 0.999
    assert np.mean(trained == np.array(found['functions trained'])) > 0.999
    assert found['classes']['trained'] == found['classes']['official']
    assert found['classes']['trained'][:2] == ['wall', 'building']


@pytest.mark.parametrize('api', ['inferencer', 'functions'])
def test_classifiers_answer_alike_with_trained_and_official_weights(api, answers):
    found = answers('cls')
    trained = found[f'{api} trained']
    assert sum(trained) == pytest.approx(1, abs=1e-4)
    assert max(trained) > 2 / 1000
    np.testing.assert_allclose(trained, found[f'{api} official'], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(trained, found['functions trained'], rtol=1e-4, atol=1e-6)
    assert found['classes']['trained'] == found['classes']['official']
    assert len(found['classes']['official']) == 1000


def test_a_classifier_with_the_official_file_gives_the_golden_probabilities(answers):
    logits = torch.from_numpy(golden.answers(GOLDEN_CASE)['logits'])
    np.testing.assert_allclose(answers('cls')['golden'], logits.softmax(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('task', ['det', 'seg', 'cls'])
def test_the_toolboxes_take_names_of_published_weights_for_checkpoints(task, answers):
    assert answers(task)['name'].startswith('emo_7m is neither a file nor the name of published weights; did you mean')
