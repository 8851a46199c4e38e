"""Gates: from the pooled input of a layer to the weights that mix its kernels (Sec. 3.1 and 3.3 of the paper)."""

import importlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.layers.transforms import is_transformed

LARGE = 2**21  # numbers from which a copy on a CPU is slow, because it does not fit the caches

GATES = ("softmax", "sigmoid", "gumbel", "none", "se", "uniform", "static")
INPUT_INDEPENDENT = ("none", "uniform", "static")  # the baseline and two controls: the same weights for every input


def softmax_gate(logits: Tensor, tau: float | Tensor, training: bool) -> Tensor:  # Eq. 7
    return torch.softmax(logits / tau, dim=1)


def sigmoid_gate(logits: Tensor, tau: float | Tensor, training: bool) -> Tensor:  # unnormalised, as in CondConv
    return torch.sigmoid(logits / tau)


def gumbel_gate(logits: Tensor, tau: float | Tensor, training: bool) -> Tensor:  # one-hot, Eq. 5 and 6
    if training:
        return F.gumbel_softmax(logits, tau=tau, hard=True, dim=1)
    return one_hot(logits)


def one_hot(scores: Tensor) -> Tensor:
    """1 for the largest of the k scores of each cardinal group, 0 for the others; (..., k, d) as the scores."""
    groups = torch.arange(scores.shape[-2], device=scores.device)[:, None]  # (k, 1)
    return (scores.argmax(dim=-2, keepdim=True) == groups).to(scores.dtype)


ACTIVATIONS = {"softmax": softmax_gate, "sigmoid": sigmoid_gate, "gumbel": gumbel_gate, "se": sigmoid_gate}


def activation_of(gate: str) -> Callable:
    """The activation function of a gate, from logits to mixing weights.

    Args:
        gate: a key of ACTIVATIONS, or the dotted name of a function ``f(logits, tau, training, **options)``, as in
            ``my_module.sparsemax``, with logits and mixing weights (B, k, d), not yet divided by the temperature.

    Raises:
        ValueError: there is no such gate; the text lists the gates.
    """
    if gate in ACTIVATIONS:
        return ACTIVATIONS[gate]
    module, _, name = str(gate).rpartition(".")
    reason = ""
    try:
        if module:
            function = getattr(importlib.import_module(module), name)
            if callable(function):
                return function
            reason = " (it is not a function)"
    except (ImportError, AttributeError) as error:
        reason = f" ({error})"
    raise ValueError(f"no gate {gate!r}{reason}; there are: {', '.join(GATES)}, or your function as module.function")


def at_least_float32(x: Tensor) -> Tensor:
    return x.to(pooling_dtype(x.dtype))


def pooling_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of pooling and logits: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Pool(torch.autograd.Function):
    """Global average pool of (B, C, H, W) in at least float32, (B, C).

    Its gradient to the input is one number per channel, stored once and expanded to all pixels. Autograd's gradient
    would fill an image, in another memory layout than the convolution's gradient.
    """

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.shape, ctx.dtype = x.shape, x.dtype
        dtype = pooling_dtype(x.dtype)
        cached = dtype == x.dtype or x.device.type != "cpu" or x.numel() < LARGE
        parts = [x] if cached else x.split(1)  # a float32 copy of one sample at a time
        return torch.cat([part.mean(dim=(2, 3), dtype=dtype) for part in parts])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        return (gradient / pixels).to(ctx.dtype)[:, :, None, None].expand(ctx.shape)


def global_average(x: Tensor) -> Tensor:
    """Global average pool of (B, C, H, W) in at least float32, (B, C)."""
    if is_transformed():
        return x.mean(dim=(2, 3), dtype=pooling_dtype(x.dtype))
    return Pool.apply(x)


def full_precision(device: str) -> AbstractContextManager:
    """A context with autocast off, on devices that have autocast (the meta device does not)."""
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if casts else nullcontext()


class Gate(nn.Module):
    """A gate: global average pool, a linear layer (or two), an activation along the sparsity groups.

    Args:
        in_channels: channels of the pooled input.
        sparsity_groups: k, the number of sparsity groups, along which the activation runs.
        cardinality: d, the number of cardinal groups, which are gated independently.
        activation: ``softmax``, ``sigmoid``, ``gumbel``, ``se`` (a sigmoid; k = 1, d = C_out), or a dotted name; see
            :func:`activation_of`.
        tau: temperature that the logits are divided by, > 0. An attribute that may change at any time, as in annealing;
            with ``learn_tau`` it is only where the training starts.
        hidden: units of a ReLU layer before the linear one; 0 for none, as in the authors' code.
        learn_tau: train the temperature, starting from ``tau``, by its logarithm, so that it stays above 0.
        options: keyword arguments of the activation.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        in_channels: int,
        sparsity_groups: int,
        cardinality: int,
        activation: str,
        tau: float,
        hidden: int = 0,
        learn_tau: bool = False,
        options: dict | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.sparsity_groups, self.cardinality = sparsity_groups, cardinality
        self.activation, self.tau = activation, tau
        self.activate, self.options = activation_of(activation), options or {}
        place = {"device": device, "dtype": dtype}
        self.hidden = nn.Linear(in_channels, hidden, **place) if hidden else None
        self.linear = nn.Linear(hidden or in_channels, sparsity_groups * cardinality, **place)
        self.log_tau = nn.Parameter(torch.empty((), **place)) if learn_tau else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the temperature; the linear layers reset themselves."""
        if self.log_tau is not None:
            nn.init.constant_(self.log_tau, math.log(self.tau))

    def forward(self, x: Tensor) -> Tensor:
        """Mixing weights (B, k, d), float32 or wider, of inputs (B, C_in, H, W), or of their averages (B, C_in)."""
        with full_precision(x.device.type):
            pooled = (x if x.dim() == 2 else global_average(x)).to(self.linear.weight.dtype)  # (B, C_in)
            if self.hidden is not None:
                pooled = F.relu(self.hidden(pooled))  # (B, hidden)
            logits = at_least_float32(self.linear(pooled))  # (B, k * d)
            logits = logits.view(-1, self.sparsity_groups, self.cardinality)  # (B, k, d)
            tau = self.tau if self.log_tau is None else self.log_tau.exp()
            gates = self.activate(logits, tau, self.training, **self.options)
        if gates.shape != logits.shape:
            found = f"gate={self.activation}: it returned weights {tuple(gates.shape)}"
            raise ValueError(f"{found}; expected (B, k, d), here {tuple(logits.shape)}")
        return gates

    def extra_repr(self) -> str:
        return f"{self.activation}, tau={self.tau}" + ", learn_tau=True" * (self.log_tau is not None)


class StaticGate(nn.Module):
    """Learned mixing weights that do not depend on the input: a control for the effect of gates.

    Args:
        sparsity_groups, cardinality, tau, device, dtype: as in :class:`Gate`.
    """

    def __init__(self, sparsity_groups: int, cardinality: int, tau: float, device=None, dtype=None):
        super().__init__()
        self.tau = tau
        self.logits = nn.Parameter(torch.empty(sparsity_groups, cardinality, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.logits)

    def forward(self) -> Tensor:
        """Mixing weights (k, d), float32 or wider: a softmax along k."""
        return torch.softmax(at_least_float32(self.logits) / self.tau, dim=0)
