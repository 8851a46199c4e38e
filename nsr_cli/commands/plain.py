"""The verbs without Hydra: how they read their arguments."""

import argparse
from typing import NoReturn

from nsr_cli.errors import UserError


class Arguments(argparse.ArgumentParser):
    """Those of a verb; what is wrong with them is one line, as it is for the other verbs."""

    def __init__(self):
        super().__init__(add_help=False)
        self.add_argument("-h", "--help", action="store_true")

    def error(self, message: str) -> NoReturn:
        raise UserError(message)
