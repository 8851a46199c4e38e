"""The argument parser of the verbs without Hydra."""

import argparse
from typing import NoReturn

from nsr_cli.errors import UserError


class Arguments(argparse.ArgumentParser):
    """Parses the arguments of a verb; raises UserError with one line, as the other verbs do."""

    def __init__(self):
        super().__init__(add_help=False)
        self.add_argument("-h", "--help", action="store_true")

    def error(self, message: str) -> NoReturn:
        raise UserError(message)
