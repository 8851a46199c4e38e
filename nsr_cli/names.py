"""Dotted names of classes and functions in configs and records."""

import importlib
from typing import Any

from nsr_cli.errors import UserError


def imported(name: str) -> Any:
    """The class or function of a dotted name, such as ``nsr_cli.models.wdsr.WDSR``.

    Raises:
        UserError: nothing of that name can be imported.
    """
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if module != error.name and not module.startswith(f"{error.name}."):
            raise  # the module exists, but one of its own imports does not
        reason = str(error)
    except (AttributeError, ValueError, TypeError) as error:
        reason = str(error)
    raise UserError(f"_target_={name}: expected a class or function that can be imported; {reason}")
