"""The sparse convolution: every sample is convolved with its own mixture of k kernels (Eq. 10 of the paper)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.layers import choice, per_sample
from nsr_cli.layers.gates import Gate, StaticGate, one_hot
from nsr_cli.layers.per_sample import NOTHING, After, Pair
from nsr_cli.layers.sparsity import Sparsity
from nsr_cli.layers.transforms import is_transformed


def channel_groups(channels: int, cardinality: int, device: torch.device) -> Tensor:
    """Cardinal group floor(c * d / C) of each output channel c, as integers (C,)."""
    return torch.arange(channels, device=device) * cardinality // channels


def mix_kernels(weight: Tensor, gate: Tensor) -> Tensor:
    """One kernel (or bias) per sample: the gate's mixture of the k groups (Eq. 10).

    Args:
        weight: (k * C_out, ...), ordered by sparsity group, then output channel.
        gate: mixing weights (B, k, d), each shared by the channels of its cardinal group.

    Returns:
        (B, C_out, ...)
    """
    _, k, d = gate.shape
    stacked = weight.reshape(k, weight.shape[0] // k, -1)  # (k, C_out, n)
    channels = stacked.shape[1]
    if channels % d == 0:  # equal cardinal groups: one small matrix product for each
        stacked = stacked.view(k, d, -1).transpose(0, 1)  # (d, k, C_out / d * n)
        mixed = torch.bmm(gate.permute(2, 0, 1).to(weight.dtype), stacked).transpose(0, 1)  # (B, d, ...)
    else:
        per_channel = gate[:, :, channel_groups(channels, d, gate.device)]  # (B, k, C_out)
        mixed = torch.einsum("bkc,kcn->bcn", per_channel.to(weight.dtype), stacked)
    return mixed.reshape(gate.shape[0], channels, *weight.shape[1:])


def mix_once(weight: Tensor, shares: Tensor) -> Tensor:
    """One kernel (or bias) for all samples: the mixture of the k groups by input-independent weights.

    Args:
        weight: (k * C_out, ...), ordered by sparsity group, then output channel.
        shares: mixing weights (k, d), each shared by the channels of its cardinal group.

    Returns:
        (C_out, ...)
    """
    k, d = shares.shape
    stacked = weight.unflatten(0, (k, -1))  # (k, C_out, ...)
    channels = stacked.shape[1]
    per_channel = shares[:, channel_groups(channels, d, shares.device)].to(weight.dtype)  # (k, C_out)
    return (stacked * per_channel.view(k, channels, *[1] * (weight.dim() - 1))).sum(dim=0)


def choose_kernels(weight: Tensor, gate: Tensor) -> Tensor:
    """One kernel (or bias) per sample: in each cardinal group, that of the largest gate (Eq. 5 and 6).

    Args and Returns as in :func:`mix_kernels`.
    """
    _, k, d = gate.shape
    channels = weight.shape[0] // k
    chosen = gate.argmax(dim=1)[:, channel_groups(channels, d, gate.device)]  # (B, C_out)
    return weight[chosen * channels + torch.arange(channels, device=gate.device)]


def sparse_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    gate: Tensor,
    kernels_of: Callable = mix_kernels,
    way: str | None = None,
    after: After = NOTHING,
    **conv,
) -> Tensor | tuple[Tensor, Tensor | None]:
    """Convolve each sample of x with its own mixture of kernels.

    Args:
        x: input (B, C_in, H, W).
        weight: (k * C_out, C_in / groups, kh, kw).
        bias: (k * C_out) or None.
        gate: mixing weights (B, k, d).
        kernels_of: mix_kernels, or choose_kernels for the group of the largest gate alone.
        way: one of per_sample.WAYS; None for the choice of :func:`~nsr_cli.layers.choice.fastest`.
        after: what follows the convolution.
        **conv: stride, padding, dilation and groups, as in torch.nn.functional.conv2d.

    Returns:
        (B, C_out, H', W'); if ``after`` pools, also its global average (B, C_out), or None where it was not computed.
    """
    groups, sizes = conv.get("groups", 1), {"stride": 1, "padding": 0, "dilation": 1} | conv
    sizes = [_pair(sizes[name]) for name in ("stride", "padding", "dilation")]
    biases = None if bias is None else kernels_of(bias, gate)  # (B, C_out)
    shape = weight.shape[0] // gate.shape[1], *weight.shape[1:]
    if way is None or is_transformed():  # compilers and transforms need plain operators
        way = choice.fastest(x, shape, *sizes, groups)
    if way in per_sample.CHANNELS_LAST:
        kernels = kernels_of(weight.permute(0, 2, 3, 1), gate).permute(0, 1, 4, 2, 3)
    else:
        kernels = kernels_of(weight, gate)  # (B, C_out, C_in / groups, kh, kw)
    convolve, inputs = per_sample.WAYS[way], (x, kernels, biases, *sizes, groups)
    return convolve(*inputs, after) if way == per_sample.ONE_BY_ONE else after.apply(convolve(*inputs))


def _pair(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else tuple(size)


def branches_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, gate: Tensor, groups: int = 1, **conv) -> Tensor:
    """The same as :func:`sparse_conv2d`, as the gated sum of k full convolutions (Eq. 8).

    It costs k times as much. It serves to check Eq. 9, and for k = 1, where one convolution serves all samples.
    """
    k, d = gate.shape[1:]
    channels = weight.shape[0] // k
    if groups > 1:  # the groups of the first branch come first
        x, groups = x.repeat(1, k, 1, 1), k * groups
    branches = F.conv2d(x, weight, bias, groups=groups, **conv)  # (B, k * C_out, H', W')
    per_channel = gate[:, :, channel_groups(channels, d, gate.device)].to(branches.dtype)  # (B, k, C_out)
    if k == 1:
        return branches * per_channel[:, 0, :, None, None]
    branches = branches.unflatten(1, (k, channels))
    return (branches * per_channel[..., None, None]).sum(dim=1)


class SparseConv2d(nn.Conv2d):
    """A convolution whose kernel is a mixture of k kernel groups, weighted by a gate that sees the input.

    Replaces ``nn.Conv2d``: same input and output shapes, nearly the same cost, k times the weights.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype: as
            in ``nn.Conv2d``; ``groups`` are those of a grouped convolution.
        sparsity_groups: k, the number of kernel groups that are mixed.
        cardinality: d, 1 to out_channels: the number of cardinal groups of output channels, which are gated
            independently.
        gate: ``softmax``, ``sigmoid``, ``gumbel``, ``none`` (k = 1: a plain convolution) or ``se`` (k = 1,
            d = out_channels: squeeze-and-excitation as a special case, Sec. 3.3). Two controls mix kernels with the
            same weights for every input, at the cost of a plain convolution: ``uniform`` (d = 1, every weight 1/k)
            and ``static`` (softmax of k learned logits in each cardinal group). Or the dotted name of a user's
            function, as in ``my_module.sparsemax``: see :func:`~nsr_cli.layers.gates.activation_of`.
        tau: temperature of the gate, > 0. ``layer.gate.tau`` may change at any time.
        gate_hidden, learn_tau, form, gate_options: as in :class:`Sparsity`.
        own_gate: False for a layer that is always called with the gate of another layer.
        inference: ``soft`` evaluates the mixture; ``hard`` evaluates the group of the largest gate alone (Eq. 5 and
            6). It does not affect training. An attribute that may change at any time.
        way: to compute convolutions of the reduced form, one of per_sample.WAYS; by default the fastest, see
            :func:`~nsr_cli.layers.choice.fastest`. An attribute that may change at any time; compilers and
            transforms ignore it.

    Attributes:
        sparsity: all knobs, with the k and d of this layer.
        is_gated: whether the kernel depends on the input; it does not for ``none``, ``uniform`` and ``static``.

    Raises:
        ValueError: a knob is out of its range, or the gate does not have it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        sparsity_groups: int = 4,
        cardinality: int = 1,
        gate: str = "softmax",
        tau: float = 1.0,
        gate_hidden: int = 0,
        learn_tau: bool = False,
        form: str = "reduced",
        gate_options: dict | None = None,
        own_gate: bool = True,
        inference: str = "soft",
        way: str | None = None,
    ):
        sparsity = Sparsity(sparsity_groups, cardinality, gate, tau, gate_hidden, learn_tau, form, gate_options)
        sparsity = sparsity.fitted(out_channels)
        if groups < 1 or out_channels % groups:
            raise ValueError(f"groups={groups}: expected a divisor of the layer's {out_channels} output channels")
        if way not in (None, *per_sample.WAYS):
            raise ValueError(f"way={way}: expected one of {', '.join(per_sample.WAYS)}")
        if not (own_gate or sparsity.is_gated):
            raise ValueError(f"own_gate=False: gate={gate} does not look at its input; expected own_gate=True")
        k, d, place = sparsity.sparsity_groups, sparsity.cardinality, {"device": device, "dtype": dtype}
        shape = in_channels, k * out_channels, kernel_size
        super().__init__(*shape, stride, padding, dilation, groups, bias, padding_mode, **place)
        self.out_channels = out_channels  # the weight holds k times as many
        self.sparsity, self.sparsity_groups, self.cardinality = sparsity, k, d
        self.is_gated, self.inference, self.way = sparsity.is_gated, inference, way
        self.form = "exact" if gate == "se" else form  # k = 1: scaling the output is scaling kernel and bias
        self.gate = None
        if self.is_gated and own_gate:
            self.gate = Gate(in_channels, k, d, gate, tau, gate_hidden, learn_tau, gate_options, **place)
        elif gate == "static":
            self.gate = StaticGate(k, d, tau, **place)

    def forward(
        self, x: Tensor, gate: Tensor | None = None, average: Tensor | None = None, after: After = NOTHING
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """(B, C_in, H, W) to (B, C_out, H', W'); also without B, or with B = 0, as ``nn.Conv2d``.

        Args:
            x: the input.
            gate: mixing weights (B, k, d), in place of those of the layer's gate.
            average: global average (B, C_in) of x, if it is known.
            after: what follows the convolution; on a CPU it costs less here than afterwards. If it pools, the result
                is a pair: the output, and its global average (B, C_out), or None where it was not computed.

        Raises:
            ValueError: the input has another shape or other channels; or the layer has no gate of its own, and none is
                given; or the mixing weights are those of another k, or of another batch.
        """
        if not self.is_gated:
            return after.apply(self._conv_forward(x, *self.shared_kernel(self.chooses)))
        if x.dim() == 3:
            return after.apply(self.forward(x[None], gate)[0])
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"an input of shape {tuple(x.shape)}: expected (B, {self.in_channels}, H, W)")
        if x.shape[0] == 0:  # one blank sample gives the shape, and zero gradients
            blank = None if gate is None else F.pad(gate, (0, 0, 0, 0, 0, 1))
            return after.apply(self.forward(F.pad(x, (0, 0, 0, 0, 0, 0, 0, 1)), blank)[:0])
        if gate is None and self.gate is not None:
            gate = self.gate(x if average is None else average)
        expected = x.shape[0], self.sparsity_groups
        if gate is None or gate.shape[:-1] != expected:
            found = "own_gate=False" if gate is None else f"a gate of shape {tuple(gate.shape)}"
            raise ValueError(f"{found}: expected the gate of another layer, (B, k, d) with (B, k) = {expected}")
        conv = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x, conv["padding"] = F.pad(x, self._reversed_padding_repeated_twice, mode=mode), (0, 0)
        if self.form == "exact" and not self.chooses:
            return after.apply(branches_conv2d(x, self.weight, self.bias, gate, **conv))
        kernels_of = choose_kernels if self.chooses else mix_kernels
        return sparse_conv2d(x, self.weight, self.bias, gate, kernels_of, self.way, after, **conv)

    @property
    def inference(self) -> str:
        return self._inference

    @inference.setter
    def inference(self, inference: str) -> None:
        if inference not in ("soft", "hard"):
            raise ValueError(f"inference={inference}: expected soft or hard")
        if inference == "hard" and self.sparsity.gate == "uniform":
            raise ValueError("inference=hard: the groups of gate=uniform weigh the same; there is no largest to choose")
        self._inference = inference

    @property
    def chooses(self) -> bool:
        """Whether the next call evaluates the group of the largest gate, instead of the mixture."""
        return self.inference == "hard" and self.sparsity_groups > 1 and not self.training

    def shared_kernel(self, hard: bool) -> tuple[Tensor, Tensor | None]:
        """The kernel (C_out, C_in / groups, kh, kw) and bias (C_out) or None of a layer that is not gated.

        Args:
            hard: take the kernel of the largest weight in each cardinal group, instead of the mixture.
        """
        weight, bias = self.weight, self.bias  # read once: parametrised ones are computed at each access
        if self.sparsity.gate == "none":
            return weight, bias
        if self.sparsity.gate == "uniform":
            k = self.sparsity_groups
            shares = torch.full((k, 1), 1 / k, dtype=weight.dtype, device=weight.device)  # (k, d)
        else:
            shares = self.gate()  # (k, d)
        if hard:
            shares = one_hot(shares)
        return mix_once(weight, shares), None if bias is None else mix_once(bias, shares)

    def extra_repr(self) -> str:
        knobs = f"sparsity_groups={self.sparsity_groups}, cardinality={self.cardinality}, gate={self.sparsity.gate}"
        return f"{super().extra_repr()}, {knobs}"


def is_gated(module: nn.Module) -> bool:
    """Whether ``module`` is a sparse convolution whose kernel depends on its input."""
    return isinstance(module, SparseConv2d) and module.is_gated
