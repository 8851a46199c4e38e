"""What the gates of a network do: a collapsed one, that always chooses the same group, is seen early."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsr_cli.layers.gates import Gate


@torch.no_grad()
def gate_statistics(network: nn.Module, x: Tensor) -> dict[str, dict]:
    """Entropy and use of the groups in every gated layer, on a batch.

    Args:
        network: evaluated as it is after training: Gumbel gates take their largest group.
        x: its input (B, C, H, W).

    Returns:
        By the layer's name: ``entropy``, mean over samples and cardinal groups, from 0 (one group alone) to 1 (all
        alike), and ``chosen``, the share of samples and cardinal groups in which each group has the largest weight.
        Both are a number and a list of k numbers. Layers of one group are left out.
    """
    found = {}

    def note(name: str):
        def hook(module: Gate, inputs: tuple, weights: Tensor) -> None:  # (B, k, d)
            k = weights.shape[1]
            shares = weights / weights.sum(dim=1, keepdim=True)
            entropy = torch.special.entr(shares).sum(dim=1).mean() / math.log(k)
            chosen = F.one_hot(weights.argmax(dim=1), k).float().mean(dim=(0, 1))
            found[name] = {"entropy": round(entropy.item(), 4), "chosen": [round(c, 4) for c in chosen.tolist()]}

        return hook

    gates = {n: m for n, m in network.named_modules() if isinstance(m, Gate) and m.sparsity_groups > 1}
    if not gates:
        return {}
    hooks = [gate.register_forward_hook(note(name.removesuffix(".gate"))) for name, gate in gates.items()]
    training = network.training
    try:
        network.eval()(x)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found
