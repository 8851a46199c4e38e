"""Spec: everything that decides a run's numbers, and nothing else. Its signature is the run's identity."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Model:
    """A method, network or classical.

    Attributes:
        name: as in file names.
        target: dotted name of its class or function.
        arguments: of the class or function.
        reads: kinds of input images: rgb, luma, grey.
        sparse: whether the class makes its own sparse convolutions; if not, ``sparsify`` attaches them.
    """

    name: str
    target: str
    arguments: dict[str, Any]
    reads: list[str]
    sparse: bool = False


@dataclass(frozen=True)
class Training:
    """The budget and the schedule of a training (Sec. 4.1).

    Attributes:
        protocol: name of the budget, and of the folder of its records.
        data: the training images: name of a data set; or of a folder, with a digest of its images.
        epochs, patches_per_image: the length in epochs; ``epochs`` is None if ``steps`` gives the length.
        steps: the length in steps; None if ``epochs`` gives it.
        batch: patches in a step.
        patch: side of a degraded patch in pixels; also the side of evaluation tiles of networks with gates.
        lr_drops: fractions of the training, as "2/3", after which the learning rate is multiplied by ``lr_factor``.
        precision: fp32, bf16 or fp16.
        init: SHA-256 of the checkpoint that the training starts from; None for random weights.
    """

    protocol: str
    data: str
    epochs: int | None
    patches_per_image: int
    steps: int | None
    batch: int
    patch: int
    learning_rate: float
    lr_drops: list[str]
    lr_factor: float
    precision: str
    seed: int
    init: str | None = None


@dataclass(frozen=True)
class Spec:
    """What is trained and scored.

    Attributes:
        task: its ``name``, its class (``target``) and the arguments of the class.
        model: the method.
        sparsity: knobs of the sparse convolutions; ``{"gate": "none"}`` for plain ones.
        training: the training of the weights; None for methods without weights, and for weights from a file.
        weights: SHA-256 of the file of weights; None for weights trained here.
        tile: side of evaluation tiles of a gated network in degraded pixels; None for that of its training patches.
        inference: ``soft``; or ``hard``, which evaluates the weights of the soft run with the largest gate alone.
        tiling: ``usual``; or ``authors``, which cuts images as their released code does.
    """

    task: dict[str, Any]
    model: Model
    sparsity: dict[str, Any]
    training: Training | None = None
    weights: str | None = None
    tile: int | None = None
    inference: str = "soft"
    tiling: str = "usual"

    @property
    def content(self) -> dict:
        """The Spec as numbers, texts, lists and dicts, without its defaults, for :func:`spec_of`."""
        content = {key: value for key, value in _entries(self).items() if value not in (None, "soft", "usual")}
        content["model"] = _entries(self.model)
        if self.training:
            content["training"] = _entries(self.training)
            if self.training.init is None:
                del content["training"]["init"]
        return content

    @property
    def signed(self) -> dict:
        """The content with whole floats as integers, for signatures; a user's class may tell 1.0 from 1."""
        return _plain(self.content)

    @cached_property
    def signature(self) -> str:
        """SHA-256 of the signed content, in hexadecimal."""
        return hashlib.sha256(json.dumps(self.signed, sort_keys=True).encode()).hexdigest()

    @cached_property
    def name(self) -> str:
        """<model>-<task>-<first 8 digits of the signature>."""
        return f"{self.model.name}-{self.task['name']}-{self.signature[:8]}"

    @cached_property
    def weights_spec(self) -> "Spec":
        """The Spec of the run that trained the weights."""
        if (self.inference, self.tile, self.tiling) == ("soft", None, "usual"):
            return self  # whose name is known already
        return replace(self, inference="soft", tile=None, tiling="usual")

    @property
    def budget(self) -> str:
        """The protocol of its training, or ``untrained``; records of different budgets lie in different folders."""
        return self.training.protocol if self.training else "untrained"

    def with_seed(self, seed: int) -> "Spec":
        """The same Spec with another seed of its training."""
        return replace(self, training=replace(self.training, seed=seed))


def spec_of(content: dict) -> Spec:
    """The Spec from its content. Raises TypeError or KeyError for content of another version of nsr."""
    training = content.get("training")
    return Spec(**{**content, "model": Model(**content["model"]), "training": training and Training(**training)})


def is_gated(sparsity: dict) -> bool:
    """Whether the gates depend on their input."""
    return sparsity["gate"] not in ("none", "uniform", "static")


def is_adaptive(sparsity: dict) -> bool:
    """Whether the gates depend on their input and weigh more than one group."""
    return is_gated(sparsity) and sparsity.get("groups") != 1


def _entries(part: Any) -> dict[str, Any]:
    """The fields of a dataclass by name; `asdict` would copy all that is in them, in many times the time."""
    return {item.name: getattr(part, item.name) for item in fields(part)}


def _plain(value: Any) -> Any:
    """The value, with floats that are whole numbers as integers, so that tau=1.0 is tau=1."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
