"""Where in a model numbers stop being finite: does a forward or backward pass again and watches every module."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

# What a search answers: a sentence, and the indices of the samples of the batch that are concerned, if that is known.
Origin = tuple[str, list[int]]


def search_forward(
    model: nn.Module, args: tuple, kwargs: dict[str, Any], context: Callable[[], AbstractContextManager]
) -> Origin:
    """Do a forward pass again and name the first module whose output is not finite.

    Args:
        model: The model in training mode, without a data-parallel wrapper.
        args: What its forward pass was given, and
        kwargs: by name.
        context: Makes the context that the pass ran in, such as that of mixed precision.
    """
    watch = _ForwardWatch(model, len(batch_files(args, kwargs)))
    try:
        with watch, _eagerly(), context(), torch.no_grad():
            losses = model(*args, **kwargs)
    except Exception as error:  # out of memory, most likely; that a number is not finite must be reported all the same
        return watch.origin or (f'Its origin is not known: the forward pass could not be repeated ({error}).', [])
    if watch.origin is not None:
        return watch.origin
    if all_finite(_tensors(losses)):
        return 'Done again, the same forward pass gives finite numbers: it does not give the same twice.', []
    return 'All modules gave finite outputs; it arises where the losses are computed from them.', []


def search_backward(
    model: Any, args: tuple, kwargs: dict[str, Any], context: Callable[[], AbstractContextManager]
) -> Origin:
    """Do a forward and backward pass again and name where, going backward, the first gradient is not finite.

    The gradients are computed aside: those of the parameters, and what data-parallel wrappers do with them, stay out.

    Args:
        model: As for :func:`search_forward`, a BaseModel of MMEngine.
        args: What the forward pass was given, and
        kwargs: by name.
        context: Makes the context that the pass ran in.
    """
    watch = _BackwardWatch(model)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    try:
        with watch, _eagerly():
            with context():
                losses = model(*args, **kwargs)
            loss = model.parse_losses(losses)[0]
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    except Exception as error:  # as above
        return f'Its origin is not known: the backward pass could not be repeated ({error}).', []
    if watch.origin is not None:
        return watch.origin, []
    for name, gradient in reversed(list(zip(parameters, gradients, strict=True))):
        if gradient is not None and not all_finite([gradient]):
            return f'The first gradient that is not finite, going backward, is that of the parameter {name}.', []
    return 'Done again, the same passes give finite gradients: they do not give the same twice.', []


def batch_files(args: tuple, kwargs: dict[str, Any]) -> list[str]:
    """Return the image files of a batch as the toolboxes' data samples name them; none where they do not."""
    samples = kwargs.get('data_samples', args[1] if len(args) > 1 else None)
    if not isinstance(samples, (list, tuple)):
        return []
    paths = [getattr(sample, 'metainfo', {}).get('img_path') for sample in samples]
    return [str(path) for path in paths] if all(paths) else []


def _bad_images(args: tuple, kwargs: dict[str, Any]) -> list[int]:
    inputs = kwargs.get('inputs', args[0] if args else None)
    if not isinstance(inputs, (list, tuple, Tensor)):
        return []
    return [index for index, image in enumerate(inputs) if not all_finite(_tensors(image))]


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether all numbers of some tensors are finite."""
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


class _ForwardWatch:
    """Hooks on every module, for as long as the context lasts."""

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        self.model = model
        self.batch_size = batch_size
        self.origin: Origin | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self._handles += [
                module.register_forward_pre_hook(self._before(name, module), with_kwargs=True),
                module.register_forward_hook(self._after(name, module)),
            ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, name: str, module: nn.Module) -> Callable[..., None]:
        def look(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            bad = self._first_bad((args, kwargs))
            if bad is None:
                return
            parent = name.rpartition('.')[0]
            if not name:
                self.origin = 'The preprocessed batch itself is not finite.', _bad_images(args, kwargs)
                return
            if not parent:
                text = f"It arises in the model's own code, before {_called(name, module)}, whose input is not finite."
            else:
                text = f'It arises in the code of {parent}, before {_called(name, module)}, whose input is not finite.'
            self.origin = text, self._samples(bad)

        return look

    def _after(self, name: str, module: nn.Module) -> Callable[..., None]:
        def look(_: nn.Module, args: tuple, output: Any) -> None:
            bad = self._first_bad(output)
            if bad is None:
                return
            text = f'The first module whose output is not finite is {_called(name, module)}, on finite input'
            weights = [key for key, p in module.named_parameters(recurse=False) if not all_finite([p])]
            text += f'; its own {" and ".join(weights)} is not finite.' if weights else '.'
            self.origin = text, self._samples(bad)

        return look

    def _first_bad(self, values: Any) -> Tensor | None:
        if self.origin is not None:
            return None
        return next((tensor for tensor in _tensors(values) if not all_finite([tensor])), None)

    def _samples(self, bad: Tensor) -> list[int]:
        if bad.ndim < 2 or bad.shape[0] != self.batch_size:
            return []
        finite = bad.isfinite().flatten(1).all(1)  # N,... -> N
        return [index for index, is_finite in enumerate(finite.tolist()) if not is_finite]


class _BackwardWatch:
    """Hooks on the output of every module, called with its gradient."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.origin: str | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for name, module in self.model.named_modules():
            self._handles.append(module.register_forward_hook(self._after(name, module)))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _after(self, name: str, module: nn.Module) -> Callable[..., None]:
        def watch(_: nn.Module, args: tuple, output: Any) -> None:
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(look)

        def look(gradient: Tensor) -> None:
            if self.origin is None and not all_finite([gradient]):
                self.origin = (
                    'The first gradient that is not finite, going backward, is that of the output of '
                    f'{_called(name, module)}: it arises in what is computed from it.'
                )

        return watch


def _called(name: str, module: nn.Module) -> str:
    return f'{name or "the model"} ({type(module).__name__})'


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)


def _eagerly() -> AbstractContextManager:
    """Compiled parts run as written: they would not call hooks that come after the compilation."""
    set_stance = getattr(torch.compiler, 'set_stance', None)
    return nullcontext() if set_stance is None else set_stance('force_eager')
