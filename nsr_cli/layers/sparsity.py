"""The knobs of a sparse convolution, and their ranges."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nsr_cli.layers.gates import INPUT_INDEPENDENT, activation_of

FORMS = ("reduced", "exact")


@dataclass(frozen=True)
class Sparsity:
    """The knobs of a sparse convolution.

    Attributes:
        sparsity_groups: k, at least 1: the number of kernel groups that are mixed. Always 1 for ``none`` and ``se``.
        cardinality: d, at least 1: the number of cardinal groups of output channels, which are gated independently.
            Always 1 for ``none`` and ``uniform``, and the number of output channels for ``se``.
        gate: one of GATES, or the dotted name of an activation function, as in ``my_module.sparsemax``; see
            :func:`~nsr_cli.layers.gates.activation_of`.
        tau: temperature of the gate, > 0.
        gate_hidden: units of a hidden layer in the gate, 0 for none, as in the authors' code.
        learn_tau: whether the temperature is trained, starting from ``tau``.
        form: ``reduced`` mixes kernels, then convolves once (Eq. 9); ``exact`` mixes the outputs of k convolutions
            (Eq. 8).
        gate_options: keyword arguments of a gate's activation function.

    Raises:
        ValueError: a knob is out of its range, or the gate does not have it.
    """

    sparsity_groups: int = 4
    cardinality: int = 1
    gate: str = "softmax"
    tau: float = 1.0
    gate_hidden: int = 0
    learn_tau: bool = False
    form: str = "reduced"
    gate_options: dict | None = field(default=None, hash=False)

    def __post_init__(self):
        activation = None if self.gate in INPUT_INDEPENDENT else activation_of(self.gate)
        if self.sparsity_groups < 1:
            raise ValueError(f"sparsity_groups={self.sparsity_groups}: the number of sparsity groups is at least 1")
        if self.cardinality < 1:
            raise ValueError(f"cardinality={self.cardinality}: the number of cardinal groups is at least 1")
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau={self.tau}: the gate's temperature is above 0")
        if self.gate_hidden < 0:
            raise ValueError(f"gate_hidden={self.gate_hidden}: expected at least 0, for a gate without a hidden layer")
        if self.form not in FORMS:
            raise ValueError(f"form={self.form}: expected one of {', '.join(FORMS)}")
        if activation is None:
            self._check_input_independent()
        elif self.gate_options:
            check_options(self.gate, activation, self.gate_options)

    def _check_input_independent(self) -> None:
        """Raise ValueError for a knob that only gates with an input have."""
        for knob, unset in (("gate_hidden", 0), ("learn_tau", False), ("form", "reduced"), ("gate_options", None)):
            value = getattr(self, knob)
            if value != unset and value != {}:
                expected = f"expected {knob}={unset}"
                raise ValueError(f"{knob}={value}: gate={self.gate} does not look at its input; {expected}")

    @property
    def is_gated(self) -> bool:
        """Whether kernels depend on the input; they do not for ``none``, ``uniform`` and ``static``."""
        return self.gate not in INPUT_INDEPENDENT

    def fitted(self, out_channels: int) -> "Sparsity":
        """The knobs for a layer of ``out_channels`` channels, with the numbers of groups that its gate has.

        Raises:
            ValueError: there are more cardinal groups than channels.
        """
        groups = 1 if self.gate in ("none", "se") else self.sparsity_groups
        cardinality = {"none": 1, "uniform": 1, "se": out_channels}.get(self.gate, self.cardinality)
        if cardinality > out_channels:
            raise ValueError(f"cardinality={cardinality}: expected 1 to {out_channels}, the layer's output channels")
        return replace(self, sparsity_groups=groups, cardinality=cardinality)


def check_options(gate: str, activation: Callable, options: dict) -> None:
    """Raise ValueError for options that a gate's activation function does not take."""
    try:
        inspect.signature(activation).bind(None, 1.0, True, **options)
    except TypeError as error:
        raise ValueError(f"gate_options={options}: gate={gate}: {error}") from None
