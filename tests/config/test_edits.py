"""Edits change a config in one place, and say what they changed."""

from mmengine.config import Config

from emo_mm.config.edits import REMOVED, Change, Edit, Part, apply_edits, join


def config():
    return Config(
        dict(model=dict(depth=3), hooks=[dict(type='A'), dict(type='B')], scheduler=[dict(end=10), dict(end=20)])
    )


def test_edits_reach_into_dicts_and_lists_and_make_what_is_missing():
    cfg = config()
    lines = apply_edits(cfg, [Edit('model.depth', 4), Edit('scheduler.1.end', 5), Edit('new.place.value', 1)])
    assert (cfg.model.depth, cfg.scheduler[1].end, cfg.new.place.value) == (4, 5, 1)
    assert lines == ['model.depth: 3 -> 4', 'scheduler.1.end: 20 -> 5', 'new.place.value: not set -> 1']


def test_what_makes_no_difference_is_not_told():
    cfg = config()
    assert apply_edits(cfg, [Edit('model.depth', 3), Edit('model.width', REMOVED)]) == []


def test_a_removed_key_is_gone_though_its_value_was_none():
    cfg = Config(dict(model=dict(init_cfg=None)))
    assert apply_edits(cfg, [Edit('model.init_cfg', REMOVED)]) == ['model.init_cfg: None -> not set']
    assert 'init_cfg' not in cfg.model


def test_of_a_list_the_items_that_came_and_went_are_told():
    cfg = config()
    lines = apply_edits(cfg, [Edit('hooks', [dict(type='B'), dict(type='C')])])
    assert lines == ["hooks: added {'type': 'C'}", "hooks: removed {'type': 'A'}"]


def test_a_part_edits_only_what_differs():
    part = Part('model', dict(depth=3, width=2))
    assert part.edit(depth=3, width=4) == (Edit('model.width', 4),)
    assert part.remove('depth', 'unknown') == (Edit('model.depth', REMOVED),)


def test_changes_are_joined_in_their_order():
    one, other = Change((Edit('a', 1),), ('first',)), Change((Edit('b', 2),), ('second',))
    assert join([one, other]) == Change((Edit('a', 1), Edit('b', 2)), ('first', 'second'))
