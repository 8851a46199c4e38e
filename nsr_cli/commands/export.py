"""nsr export: a trained network as a file for other programs."""

import shlex
from functools import partial
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from nsr_cli.commands.composing import Composer, resolved_values
from nsr_cli.commands.config import check_level, run_of
from nsr_cli.commands.from_file import keys_of, with_network_of_file
from nsr_cli.commands.knobs import EXPORTING, check_knobs
from nsr_cli.errors import UserError
from nsr_cli.words import print_line


def main(cfg: DictConfig) -> None:
    """Write a trained network to files, and print what each holds."""
    values = resolved_values(cfg)
    check_knobs(values, EXPORTING)
    if values["to"] is None:
        raise UserError(f"to=null: expected {EXPORTING['to'].expected}")
    words = HydraConfig.get().overrides.task
    values = with_network_of_file(values, words, Composer(partial(compose, "export")))
    check_level(values, keys_of(words))
    run = run_of(values, "export")
    if not run.trains and not run.request.ckpt:
        raise UserError(f"model={run.spec.model.name}: no network; expected one with weights to export")
    if run.lacks_weights:
        command = shlex.join(["nsr", "train", *(word for word in words if keys_of([word])[0] not in EXPORTING)])
        raise UserError(f"no weights of this run in {run.folder.resolve()}; `{command}` trains it")

    import torch

    from nsr_cli.runs.export import check_targets, expected_input, export, network_of

    if values["threads"]:
        torch.set_num_threads(values["threads"])

    paths = [Path(path) for path in dict.fromkeys([values["to"]] if isinstance(values["to"], str) else values["to"])]
    check_targets(paths, values["overwrite"])
    network, spec = network_of(run)
    for path, difference in export(network, spec, paths, values["overwrite"]):
        size = path.stat().st_size / 1e6
        print_line(f"{path.resolve()}: {size:.2f} MB; on images, at most {difference:.1g} from the network itself")
    print_line(expected_input(network, spec))
