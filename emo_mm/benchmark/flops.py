"""``emo-mm flops``: parameters and multiply-adds of each module of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from emo_mm.benchmark.counting import COUNTER, Complexity, count
from emo_mm.benchmark.subjects import Size, find_subject
from emo_mm.errors import UserError, first_line


@dataclass(frozen=True)
class ModuleCost:
    """What a module costs, all that is inside it included.

    Attributes:
        name: Dotted name; empty for the whole model.
        kind: Class.
        params: Parameters.
        macs: Multiply-adds for one image.
    """

    name: str
    kind: str
    params: int
    macs: int


def print_flops(model: str, size: Size | None = None, depth: int = 3) -> None:
    """Print the table of a model.

    Raises:
        UserError: If there is no such model, or it cannot take the input.
    """
    subject = find_subject(model)
    size = size or subject.size
    if size is None:
        raise UserError(f'the config of {model} fixes no input size: give one with --shape')
    network = subject.build(for_inference=True)
    try:
        costs = module_costs(network, count(network, torch.empty(1, 3, *size, device='meta')), depth)
    except Exception as error:  # a network may raise anything at a wrong size
        raise UserError(f'{model} cannot take an image of {size[0]}×{size[1]}: {first_line(error)}') from error
    print(flops_table(costs))
    print(f'One image of {size[0]}×{size[1]}; multiply-adds by {COUNTER}, matrix products and norms included.')


def module_costs(model: nn.Module, complexity: Complexity, depth: int) -> list[ModuleCost]:
    """Return what the modules of a model cost, down to a depth, those without any cost left out.

    Multiply-adds that a module does itself, not in one of its children, are listed under its name with ``(own)``, so
    that the children of a module add up to it.

    Args:
        model: The model.
        complexity: What ``count`` found.
        depth: Levels of modules below the whole.
    """
    costs: list[ModuleCost] = []

    def visit(name: str, module: nn.Module, level: int) -> None:
        params = sum(parameter.numel() for parameter in module.parameters())
        macs = _macs(name, module, complexity)
        if not params and not macs:
            return
        costs.append(ModuleCost(name, type(module).__name__, params, macs))
        children = dict(module.named_children())
        if level == depth or not children:
            return
        for child, submodule in children.items():
            visit(f'{name}.{child}' if name else child, submodule, level + 1)
        own_macs = macs - sum(_macs(f'{name}.{c}' if name else c, m, complexity) for c, m in children.items())
        own_params = params - sum(p.numel() for m in children.values() for p in m.parameters())
        if own_macs or own_params:
            costs.append(ModuleCost(f'{name}.(own)' if name else '(own)', '', own_params, own_macs))

    visit('', model, 0)
    return costs


def _macs(name: str, module: nn.Module, complexity: Complexity) -> int:
    """Return the multiply-adds of a module; of one whose parts are called without it, those of the parts."""
    if name in complexity.by_module:
        return complexity.by_module[name]
    if not name:
        return complexity.macs
    return sum(_macs(f'{name}.{child}', submodule, complexity) for child, submodule in module.named_children())


def flops_table(costs: list[ModuleCost]) -> str:
    """Return the costs as a plain text table, indented by depth."""
    whole = costs[0]
    rows = [('module', 'class', 'params', 'MACs (M)', 'share of MACs')]
    for cost in costs:
        level = cost.name.count('.') + 1 if cost.name else 0
        label = '  ' * level + (cost.name.rsplit('.', 1)[-1] if cost.name else 'total')
        share = f'{100 * cost.macs / whole.macs:.1f} %' if whole.macs else '-'
        rows.append((label, cost.kind, f'{cost.params:,}', f'{cost.macs / 1e6:,.2f}', share))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            cell.rjust(w) if i > 1 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
