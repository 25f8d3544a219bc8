from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emo_mm.benchmark.contest import Measurement, interleave
from emo_mm.benchmark.contestant import Contestant
from emo_mm.benchmark.counting import Complexity
from emo_mm.benchmark.memory import Memory, peak_of_changes
from emo_mm.benchmark.picture import pictures
from emo_mm.benchmark.results import (
    Results,
    make_rows,
    markdown,
    read_csv,
    read_json,
    round_medians,
    speedups,
    write_csv,
    write_json,
)
from emo_mm.benchmark.subjects import Published, Subject
from emo_mm.errors import UserError

SUBJECT = Subject(
    'emo_1m', 'emo_1m_imagenet', 'EMO', (224, 224), Published(71.5, 'top1', 'a table'), True, 'mmpretrain'
)
PEER = replace(SUBJECT, name='edgenext_xxs', family='EdgeNeXt', published=Published(71.2, 'top1', 'another'))
COST = Complexity(params=1_361_168, macs=261_000_000, by_operator={}, by_module={})
MACHINE = {'cpu': 'A CPU', 'gpu': '', 'torch': '2.11.0', 'load': 0.5}


def contestant(subject: Subject, runtime: str, mode: str = 'forward') -> Contestant:
    return Contestant(subject, runtime, mode, 'fp32', 'cpu', (224, 224), 2, 1)


def measured(who: Contestant, *rounds: tuple[float, ...]) -> Measurement:
    return Measurement(who, rounds, Memory(12_000_000, None, 300_000_000), 'process default', 0.25)


def results(*measurements: Measurement, baseline: str = 'eager') -> Results:
    rows = make_rows(measurements, {m.contestant: COST for m in measurements}, baseline)
    rounds = tuple(round_medians(m) for m in measurements)
    return Results(MACHINE, {'suite': 'peers'}, tuple(rows), rounds, ('emo_1m tf32: no GPU',))


def test_contestants_take_turns_in_every_round() -> None:
    turns = []

    def turn(name: str) -> int:
        turns.append(name)
        return len(turns)

    assert interleave('ABC', 3, turn) == {'A': [1, 4, 7], 'B': [2, 5, 8], 'C': [3, 6, 9]}
    assert ''.join(turns) == 'ABCABCABC'


def test_a_slow_round_leaves_the_ratio_as_it_is() -> None:
    # The machine is ten times slower in the second round and in half of the third, which B's turn was in.
    assert speedups((12.0, 120.0, 12.0), (6.0, 60.0, 60.0))[0] == 2.0
    median, p10, p90 = speedups((10.0,) * 11, tuple(10.0 / ratio for ratio in range(1, 12)))
    assert (median, p10, p90) == pytest.approx((6, 2, 10))


def test_medians_and_percentiles_are_those_of_all_steps() -> None:
    row = results(
        measured(contestant(SUBJECT, 'eager'), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.0, 8.0), (9.0, 10.0, 11.0))
    ).rows[0]
    assert (row.median_ms, row.p10_ms, row.p90_ms, row.steps) == (6.0, 2.0, 10.0, 11)
    assert row.images_per_s == pytest.approx(1000 * 2 / 6)
    assert (row.peak_mb, row.kept_for_backward_mb, row.peak_rss_mb) == (12.0, None, 300.0)


def test_each_is_compared_with_its_own_baseline() -> None:
    eager, fused = contestant(SUBJECT, 'eager'), contestant(SUBJECT, 'fused')
    peer, peer_fused = contestant(PEER, 'eager'), contestant(PEER, 'fused')
    timed = (measured(eager, (12.0,)), measured(fused, (6.0,)), measured(peer, (24.0,)), measured(peer_fused, (18.0,)))
    by_runtime = results(*timed, baseline='eager').rows
    assert [row.speedup for row in by_runtime] == pytest.approx([1, 2, 1, 4 / 3])
    assert by_runtime[3].baseline == 'edgenext_xxs eager'
    by_model = results(*timed, baseline='emo_1m').rows
    assert [row.speedup for row in by_model] == pytest.approx([1, 1, 0.5, 1 / 3])
    alone = results(timed[2], baseline='emo_1m').rows[0]
    assert (alone.speedup, alone.baseline) == (None, '')


def test_files_hold_what_was_measured(tmp_path: Path) -> None:
    found = results(
        measured(contestant(SUBJECT, 'eager'), (12.34567, 12.5)), measured(contestant(PEER, 'fused'), (1.0, 2.0))
    )
    write_json(found, tmp_path / 'a.json')
    assert read_json(tmp_path / 'a.json') == replace(found, rounds=tuple(found.rounds))
    write_csv(found, tmp_path / 'a.csv')
    first, second = read_csv(tmp_path / 'a.csv')
    rounded = ('median_ms', 'p10_ms', 'p90_ms', 'images_per_s')
    exact = {name: getattr(found.rows[0], name) for name in rounded}
    assert {name: getattr(first, name) for name in rounded} == pytest.approx(exact, rel=1e-4)
    assert replace(first, **exact) == found.rows[0]
    assert second.speedup is None
    assert second.published_source == 'another'
    assert (tmp_path / 'a.csv').read_text().splitlines()[1].endswith('A CPU,,2.11.0,0.5')


@pytest.mark.parametrize('text', ['', '{"rows": []}', '[1]'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(UserError, match=r'a\.json'):
        read_json(tmp_path / 'a.json')


def test_network_end_to_end_and_training_have_tables_of_their_own() -> None:
    modes = ('forward', 'e2e', 'train')
    text = markdown(results(*(measured(contestant(SUBJECT, 'eager', mode), (4.0,)) for mode in modes)))
    assert [line for line in text.splitlines() if line.startswith('###')] == [
        '### The network alone',
        '### From JPEG files to predictions',
        '### Training step',
    ]
    assert text.count('| emo_1m | eager | fp32 | 224×224 | 2 | 1.36 | 0.261 | 4.00 |') == 3
    assert 'cpu: A CPU.' in text
    assert '- emo_1m tf32: no GPU' in text


def test_a_picture_is_drawn_of_two_models_with_an_accuracy(tmp_path: Path) -> None:
    from PIL import Image

    two = results(measured(contestant(SUBJECT, 'eager'), (12.0,)), measured(contestant(PEER, 'eager'), (24.0,)))
    (file,) = pictures(two, tmp_path)
    assert file.name == 'forward_top1_eager_fp32_b2.png'
    with Image.open(file) as image:
        assert len(image.convert('RGB').getcolors(1 << 24)) > 50
    alone = results(measured(contestant(SUBJECT, 'eager'), (12.0,)))
    assert pictures(alone, tmp_path) == []


def test_the_peak_is_the_highest_sum() -> None:
    assert peak_of_changes([100, 50, -100, 200, -250]) == 250
    assert peak_of_changes([]) == 0
