"""Every knob once: its default, type, range and help. Help texts, errors and the schema come from here."""

import re
from dataclasses import replace
from typing import Any

from nsr_cli.commands.ranges import Knob, choice, flag, integer, is_fraction, is_text_or_texts, number, text
from nsr_cli.errors import UserError

LAST_SEED = 2**31 - 1
UNSET = object()  # the default of a knob whose value the chosen model sets

SEED = integer(0, "random seed of initial weights, patches and sampling gates", least=0, most=LAST_SEED)
DEGRADATION = {
    "scale": choice(2, "task=sr: factor of up-scaling", 2, 3, 4),
    "sigma": number(25, "task=denoise: standard deviation of the noise, in 0..255", most=255),
    "quality": integer(10, "task=dejpeg: JPEG quality", most=100),
}
SPARSITY = {
    "groups": integer(4, "k, sparsity groups; sparsity=none reads none of these"),
    "cardinality": integer(1, "d, cardinal groups of output channels, each with gates of its own"),
    "tau": number(1.0, "temperature of the gates"),
    "gate_hidden": integer(0, "units of a hidden layer in the gate; the authors' code has none", least=0),
    "learn_tau": flag(False, "train the temperature, from tau on"),
    "shared_gate": flag(False, "one gate for both convolutions of a block (the rebuttal's row)"),
    "form": choice(
        "reduced", "exact: k weighted branches (Eq. 8) at k times the cost, to check Eq. 9", "reduced", "exact"
    ),
}
NETWORK = {  # a model has the knobs that its file in conf/model names
    "blocks": integer(UNSET, "residual blocks"),
    "units": integer(UNSET, "channels between blocks", most=2**14),
    "width": number(UNSET, "factor by which a block widens its channels; may be fractional", most=2**10),
    "residual_scale": number(UNSET, "factor of each block's residual"),
}
BUDGET = {
    "train": text("${oc.select:task.usual.train,${oc.select:protocol.data.${task.name}.train}}",
                  "training images", "a data set, a folder, or {hr: ..., lr: ...}").or_pair(),
    "epochs": integer("${protocol.epochs}", "length of the training; null where steps is given").or_null(),
    "patches_per_image": integer("${protocol.patches_per_image}", "patches of each image in an epoch"),
    "steps": integer("${protocol.steps}", "in all; null: epochs * images * patches_per_image / batch").or_null(),
    "batch": integer("${protocol.batch}", "patches in a step"),
    "patch": integer("${protocol.patch}", "side of a training patch in degraded pixels, and of gates' tiles", least=20),
    "learning_rate": number(1e-3, "Adam's learning rate at the first step"),
    "lr_drops": Knob(["20/30", "25/30"], "fractions of the training at which the learning rate drops", object, "",
                     is_fraction, {"type": ["number", "string"]})
                .list_of("a list of fractions of the training, above 0, up to 1"),
    "lr_factor": number(0.2, "factor of the learning rate at each drop", most=1),
    "precision": choice("${protocol.precision}", "of training; scores are computed in fp32", "fp32", "bf16", "fp16"),
    "seed": SEED,
    "init": text(None, "a checkpoint to start from, of another scale too: the layers that fit", "a file").or_null(),
}  # fmt: skip
SCORING = {
    "inference": choice("soft", "hard: the group of the largest gate alone (Eq. 5, 6)", "soft", "hard"),
    "ckpt": text(None, "weights instead of a training; `published`: known ones", "a file, published").or_null(),
    "tile": integer(None, "side of the tiles in which gates decide; null: the training's patch", least=20).or_null(),
    "tiling": choice("usual", "authors: images cut as in their released code, for their files", "usual", "authors"),
    "benchmarks": text("${oc.select:task.usual.benchmarks,${oc.select:protocol.data.${task.name}.benchmarks}}",
                       "data sets to score on", "").or_pair()
                  .list_of("a list of data sets, as in benchmarks=[set5,set14]"),
    "metrics": text(None, "more metrics; your own functions by dotted names", "")
               .list_of("a list of metrics, as in metrics=[ssim8]").or_null(),
}  # fmt: skip
FOLDERS = {
    "data": text("${oc.env:NSR_DATA,data}", "the folder of data sets", "a folder"),
    "results": text("${oc.env:NSR_RESULTS,results}", "the folder of all files that nsr writes", "a folder"),
}
MACHINE = {
    "device": text("auto", "auto, cpu, cuda, cuda:1, mps", "auto, cpu, cuda, cuda:1, ..."),
    "threads": integer(None, "threads on the CPU; null: torch's choice", most=1024).or_null(),
}
ASKING = {
    "checkpoint_minutes": number(5, "minutes between checkpoints", zero=True),
    "validate_every": integer(500, "steps between measurements of PSNR on a few images, for the curves"),
    "tensorboard": flag(False, "log the numbers of stats.jsonl to TensorBoard too (extra: tensorboard)"),
    "wandb": flag(False, "the same to Weights & Biases, with validation images (extra: wandb)"),
    "mlflow": flag(False, "the same to MLflow (extra: mlflow)"),
    "compile": flag(False, "the network through torch.compile: minutes first, then faster steps"),
    "deterministic": flag(False, "on a GPU, only kernels with reproducible bits; on a CPU all are, for equal threads"),
    "wait": flag(True, "wait for another process that holds this run; false exits at once with code 75"),
    "weights": flag(False, "train although all records exist, because figures need the network itself"),
    "rescore": flag(False, "score again, although records exist"),
    "save_images": flag(False, "restored images as PNG below the run's folder"),
    "explain": flag(False, "nsr eval: the scores under every convention, to explain a gap to a published number"),
    "dry_run": flag(False, "print what would be done, and what it would cost"),
}
SECTIONS = {  # of the keys of runs, in the order of a help text
    "Degradation": DEGRADATION,
    "Network": NETWORK,
    "Gates": SPARSITY,
    "Training": BUDGET,
    "Evaluation": SCORING,
    "Machine": MACHINE,
    "Folders": FOLDERS,
    "The run": ASKING,
}
NETWORK_OF_RUN = {  # which trained network is meant; all of it is signed, but for the file of weights
    **DEGRADATION,
    **SPARSITY,
    **BUDGET,
    **{name: SCORING[name] for name in ("inference", "ckpt", "tile")},
}
EXPORTING = {
    "to": Knob(None, "files that end in .safetensors, .pt2 or .onnx", object,
               "a file, or a list of files, as in to=net.onnx or to=[net.onnx,net.pt2]", is_text_or_texts,
               {"type": ["string", "array"], "items": {"type": "string"}, "minLength": 1, "minItems": 1}, True),
    "overwrite": flag(False, "replace files that are there"),
}  # fmt: skip
EXPORT = {**NETWORK_OF_RUN, "tiling": SCORING["tiling"], "threads": MACHINE["threads"], **FOLDERS, **EXPORTING}
SEEDS = SEED.list_of(f"a list of whole numbers from 0 to {LAST_SEED}, as in seeds=[0,1,2]").or_null()
SEEDS = replace(SEEDS, default=None, help="seeds whose mean is shown; null: all that every row has, else 0")
RUN = {**DEGRADATION, **SPARSITY, **BUDGET, **SCORING, **MACHINE, **FOLDERS, **ASKING}
TABLE = {
    "seeds": SEEDS,
    "run": flag(False, "train and score what is missing first"),
    "format": choice("markdown", "csv has every digit", "markdown", "latex", "csv"),
    "save": flag(True, "also write the table below results/tables"),
    **FOLDERS,
}
FIGURE = {
    "seeds": SEEDS,
    "run": TABLE["run"],
    "runs": text(None, "5, compare, curves: `nsr ablate` of these; null: the figure's own", "")
    .list_of("a list of overrides, as in \"runs=['groups=2','groups=4']\"")
    .or_null(),
    "image": text(None, "5, compare: a file name in the benchmark; null: the figure's own", "a file name").or_null(),
    "crop": integer(64, "compare: side of the zoomed part, in pixels of the ground truth", least=8),
    **FOLDERS,
}
REPORT = {
    "protocols": text(None, "null: every protocol that has records", "")
    .list_of("a list of protocols, as in protocols=[short]")
    .or_null(),
    "out": text(None, "null: report.html below the results", "a file").or_null(),
    **FOLDERS,
}
BENCH = {
    "batch": integer(100, "samples; this and the two below are the rebuttal's"),
    "channels": integer(64, "input channels; at fixed FLOPs, output channels too"),
    "size": integer(64, "side of a sample, in pixels"),
    "groups": replace(
        SPARSITY["groups"].list_of("a list in brackets, of a whole number above 0 each"), default=[2, 4, 8, 16]
    ),
    "cardinality": SPARSITY["cardinality"],
    "precision": choice("fp32", "bf16: under autocast, as in training", "fp32", "bf16"),
    "rounds": integer(5, "rounds of timing; each candidate runs once per round, and medians are shown"),
    "networks": flag(True, "also time whole networks"),
    "compile": flag(False, "time them through torch.compile too, which takes minutes more"),
    **MACHINE,
    "save": flag(True, "also write the tables and all times below results/bench"),
    "results": FOLDERS["results"],
}
RESTORE = {
    "out": text("restored", "the folder of restored pictures, with subfolders as in the input", "a folder"),
    "overwrite": flag(False, "restore again; false skips pictures whose output exists"),
    "compare": flag(False, "also the picture, enlarged bicubically, side by side with the restored one"),
    "colour": choice("channels", "for networks that read grey: restore R, G and B, or luma alone and keep chroma. "
                     "null: luma for JPEG, else channels", "channels", "luma").or_null(),
    "format": choice("png", "of the outputs; null: as each input, JPEG at quality 95, WebP lossless; 16 bit stays "
                     "in PNG and TIFF", "png", "jpeg", "webp", "tiff", "bmp").or_null(),
    **NETWORK_OF_RUN,
    **MACHINE,
    **FOLDERS,
}  # fmt: skip
RESTORE |= {name: replace(RESTORE[name], default=None) for name in ("colour", "format")}
VERB_KNOBS = {"train": RUN, "eval": RUN, "ablate": RUN, "export": EXPORT, "table": TABLE,
              "figure": FIGURE, "report": REPORT, "bench": BENCH, "restore": RESTORE}  # fmt: skip


def with_network(knobs: dict[str, Knob]) -> dict[str, Knob]:
    """The knobs of a verb; for verbs of runs, the network's knobs too."""
    return {**knobs, **(NETWORK if is_of_runs(knobs) else {})}


def is_of_runs(knobs: dict[str, Knob]) -> bool:
    """Whether a verb with these knobs is about runs: it makes them, or takes the network of one."""
    return "inference" in knobs


def defaults(knobs: dict[str, Knob]) -> dict:
    """{name: default}, the part of a primary config that holds these knobs."""
    return {name: knob.default for name, knob in knobs.items()}


def check_knobs(values: dict, knobs: dict[str, Knob]) -> None:
    """Raise UserError for the first value out of range, at the top level or in the groups task and sparsity."""
    for name, knob in with_network(knobs).items():
        for group in (None, "task", "sparsity"):  # a run uses the values in the groups
            held = values if group is None else values.get(group) or {}
            if name not in held or (group and held[name] is None):
                continue
            if not knob.accepts_value(held[name]):
                raise UserError(
                    f"{f'{group}.' if group else ''}{name}={as_typed(held[name])}: expected {knob.expected}"
                )


def as_typed(value: Any) -> str:
    """A value as it is typed on a command line; a text that reads as a number, true, false or null has quotes."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_typed, value))}]"
    number_or_word = r"[-+]?(\d+\.?|\d*\.\d+)(e[-+]?\d+)?|true|false|null"
    if isinstance(value, str) and re.fullmatch(number_or_word, value, re.IGNORECASE):
        return repr(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def keys_help(values: dict, knobs: dict[str, Knob]) -> str:
    """The keys of a verb with their present values and their help, a line each; those of runs by section.

    Keys of a training are left out where they only select a network: `nsr train --help` has them.
    """
    by_section = is_of_runs(knobs)
    hidden = {**NETWORK, **SPARSITY, **BUDGET} if by_section and "benchmarks" not in knobs else {}
    parts: dict[str, list[str]] = {title: [] for title in ("", *SECTIONS)}
    for name, knob in with_network(knobs).items():
        if name in values and name not in hidden:
            title = next((title for title, section in SECTIONS.items() if by_section and name in section), "")
            expected = "" if knob.kind is bool else f" ({knob.expected})"
            parts[title].append(f"{f'{name}: {as_typed(values[name])}':30}  # {knob.help}{expected}")
    return "\n\n".join("\n".join([*[title] * bool(title), *lines]) for title, lines in parts.items() if lines)


def schema_of(verb: str, groups: dict[str, list[str]]) -> dict:
    """JSON schema of a verb's overrides, for editors; ``groups`` are the options of its config groups."""
    found: dict[str, dict] = {
        group: {"enum": options, "description": "config group"} for group, options in groups.items()
    }
    knobs = VERB_KNOBS[verb]
    for name, knob in with_network(knobs).items():
        own = {"type": "array", "items": knob.schema} if knob.several else knob.schema
        own = {"anyOf": [own, {"type": "null"}]} if knob.nullable else own
        plain = knob.default is not UNSET and not str(knob.default).startswith("${")
        found[name] = {**own, "description": f"{knob.help} ({knob.expected})"} | (
            {"default": knob.default} if plain else {}
        )
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"nsr {verb}"}
    return {**head, "type": "object", "properties": found, "additionalProperties": False}
