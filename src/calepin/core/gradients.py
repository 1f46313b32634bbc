"""Gradients of compiled functions, which have no derivatives of their own."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

__all__ = ["differentiable_once"]


class _Once(torch.autograd.Function):
    """A gradient that cannot be differentiated in what it depends on."""

    @staticmethod
    def forward(ctx: Any, needed: str, gradient: Tensor, *inputs: Tensor) -> Tensor:
        ctx.needed = needed
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError(
            f"this gradient cannot be differentiated again: second derivatives need {ctx.needed}"
        )


def differentiable_once(needed: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator of the backward pass of a function, whose own derivative becomes an error.

    The error says what second derivatives need. torch's ``once_differentiable`` raises only if the incoming
    gradient is to be differentiated. For a loss that is linear in the outputs it is a constant, and second
    derivatives would be zero without a word.
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(backward)
        def checked(ctx: Any, *gradients: Tensor) -> Any:
            again = torch.is_grad_enabled()  # the graph of the backward pass is recorded
            with torch.no_grad():
                found = backward(ctx, *(one.detach() for one in gradients))
            if not again:
                return found
            inputs = [
                one for one in (*ctx.saved_tensors, *gradients) if one is not None and one.requires_grad
            ]
            return tuple(
                None if one is None else _Once.apply(needed, one.detach().requires_grad_(), *inputs)
                for one in found
            )

        return checked

    return decorate
