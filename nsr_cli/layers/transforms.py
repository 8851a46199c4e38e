"""Detecting compilers, exporters, tracers and transforms, which need plain operators."""

import torch
from torch.autograd import forward_ad


def is_transformed() -> bool:
    """Whether torch.compile, torch.export, torch.jit.trace, torch.func or forward-mode differentiation is active.

    None of them supports our autograd functions, which write in place.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._functorch.maybe_current_level() is not None or forward_ad._current_level >= 0


def has_any_size(size: int) -> bool:
    """Whether a size of a tensor is dynamic in the program that is compiled, exported or traced."""
    if torch.jit.is_tracing():
        return True
    if not torch.compiler.is_compiling():
        return False
    from torch.fx.experimental import symbolic_shapes  # half a second to import

    return not (hasattr(symbolic_shapes, "has_static_value") and symbolic_shapes.has_static_value(size))
