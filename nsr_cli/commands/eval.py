"""nsr eval: score any method, trained here, published or classical."""

from omegaconf import DictConfig

from nsr_cli.commands.jobs import job


@job
def main(cfg: DictConfig) -> None:
    from nsr_cli.commands.work import perform  # imports torch: not for --help

    perform(cfg, may_train=False)
