"""nsr export: a trained network as a file for other programs."""

import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nsr_cli.commands.composing import parse_override, resolved_values
from nsr_cli.commands.config import run_of
from nsr_cli.commands.knobs import EXPORTING, check_knobs
from nsr_cli.errors import UserError
from nsr_cli.runs.run import REQUEST_KEYS
from nsr_cli.words import print_line

NOT_OF_NETWORKS = {*EXPORTING, *REQUEST_KEYS}  # keys that do not say which network is meant


def main(cfg: DictConfig) -> None:
    """Write a trained network to files, and print what each holds."""
    values = resolved_values(cfg)
    check_knobs(values, EXPORTING)
    if values["to"] is None:
        raise UserError(f"to=null: expected {EXPORTING['to'].expected}")
    run = run_of(values, "export")
    if not run.trains and not run.request.ckpt:
        raise UserError(f"model={run.spec.model.name}: no network; expected one with weights to export")
    words = {word: parse_override(word).key_or_group for word in HydraConfig.get().overrides.task}
    if run.lacks_weights:
        command = shlex.join(["nsr", "train", *(word for word, key in words.items() if key not in EXPORTING)])
        raise UserError(f"no weights of this run in {run.folder.resolve()}; `{command}` trains it")

    import torch

    from nsr_cli.runs.export import check_targets, expected_input, export, network_of

    if values["threads"]:
        torch.set_num_threads(values["threads"])

    paths = [Path(path) for path in dict.fromkeys([values["to"]] if isinstance(values["to"], str) else values["to"])]
    check_targets(paths, values["overwrite"])
    network, spec = network_of(run, is_named=not NOT_OF_NETWORKS.issuperset(words.values()))
    for path, difference in export(network, spec, paths, values["overwrite"]):
        size = path.stat().st_size / 1e6
        print_line(f"{path.resolve()}: {size:.2f} MB; on images, at most {difference:.1g} from the network itself")
    print_line(expected_input(network, spec))
