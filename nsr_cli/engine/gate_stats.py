"""What the gates of a network do: whether they choose, and whether they look at their input."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.layers.gates import Gate
from nsr_cli.models.evaluating import evaluating


class GateUse:
    """A context manager that collects statistics of every gated layer of a method, while samples pass through it.

    Layers of one group are left out: they have nothing to choose from.
    """

    def __init__(self, method: Callable):
        modules = method.named_modules() if isinstance(method, nn.Module) else ()
        gates = {n: m for n, m in modules if isinstance(m, Gate) and m.sparsity_groups > 1}
        self.gates = {name.removesuffix(".gate"): gate for name, gate in gates.items()}
        self.sums: dict[str, list[Tensor]] = {}
        self.samples = dict.fromkeys(self.gates, 0)

    def __enter__(self) -> "GateUse":
        self.hooks = [gate.register_forward_hook(self._note(name)) for name, gate in self.gates.items()]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _note(self, name: str) -> Callable:
        def hook(module: Gate, inputs: tuple, weights: Tensor) -> None:  # (B, k, d)
            with torch.no_grad():
                sizes = weights.abs()  # a user's gate may have negative weights
                sums = sizes.sum(dim=1, keepdim=True)  # 0 where all sigmoids underflow: each share is then 0
                shares = (sizes / sums.clamp_min(torch.finfo(sums.dtype).tiny)).double()
                entropy = torch.special.entr(shares).sum(dim=1)  # (B, d), in nats
                chosen = F.one_hot(weights.argmax(dim=1), shares.shape[1]).transpose(1, 2).double()  # (B, k, d)
                parts = [shares.sum(0), entropy.sum(0), shares.amax(dim=1).sum(0), chosen.sum(0)]
                before = self.sums.get(name)
                self.sums[name] = parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]
                self.samples[name] += len(weights)

        return hook

    def statistics(self) -> dict[str, dict]:
        """Statistics by the layer's name, means over samples and cardinal groups; empty where nothing is gated.

        Weights are shares of the sum of their sizes. ``largest``: the largest share, from 1/k to 1. ``groups``: the
        effective number of groups, the exponential of the mean entropy, from 1 to k. ``adaptivity``: the mutual
        information of sample and group in bits, the entropy of the mean weights less the mean entropy; 0 for gates
        that ignore their input. ``chosen``: for each group the share of samples in which its weight is the largest.
        """
        found = {}
        for name, (shares, entropy, largest, chosen) in self.sums.items():
            n = self.samples[name]
            of_mean = torch.special.entr(shares / n).sum(dim=0)  # (d,): the entropy of the mean weights
            numbers = {
                "largest": (largest / n).mean().item(),
                "groups": math.exp((entropy / n).mean().item()),
                "adaptivity": (of_mean - entropy / n).mean().item() / math.log(2),
            }
            found[name] = {key: round(value, 6) for key, value in numbers.items()}
            found[name]["chosen"] = [round(share, 4) for share in (chosen / n).mean(dim=1).tolist()]
        return found


@torch.no_grad()
def gate_statistics(network: nn.Module, x: Tensor) -> dict[str, dict]:
    """What the gates do on a batch (B, C, H, W), evaluated as after training: Gumbel gates take their largest group.

    Returns:
        As :meth:`GateUse.statistics`; empty where nothing is gated.
    """
    with GateUse(network) as use:
        if use.gates:
            with evaluating(network):
                network(x)
    return use.statistics()
