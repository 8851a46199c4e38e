"""nsr data: the named data sets, listed, fetched, checked. No Hydra: there is nothing to compose or sweep."""

import os
from pathlib import Path

from nsr_cli.commands.plain import Arguments
from nsr_cli.data.catalog import all_datasets, find_dataset, listing, locate, own_images
from nsr_cli.errors import Failed, UserError

HELP = """nsr data: the named data sets

  nsr data list           all data sets: number of images, where on this machine or how to get them, licence
  nsr data get NAME ...   download, verify, unpack; repeating it finishes what was interrupted
  nsr data get weights    the published weights that have a stable address; says where to ask for the others
  nsr data check [NAME]   compare images with the manifest: which are missing, which differ

Data sets lie below NSR_DATA (default ./data); data=FOLDER overrides it. Your own are entries of datasets.yaml
there, and are used by name like the others:

  photographs: {folders: photographs, role: test}       optional: title, count, conventions, low_resolution, ...
"""


WEIGHTS = "weights"  # the name of the published weights, which are no data set


def run(arguments: list[str]) -> int:
    """Run `nsr data`. Returns the exit code."""
    parser = Arguments()
    parser.add_argument("action", nargs="?", choices=["list", "get", "check"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--data", default=os.environ.get("NSR_DATA", "data"))
    words = [f"--{word}" if word.startswith("data=") else word for word in arguments]  # as other verbs write it
    options = parser.parse_intermixed_args(words)
    if options.help or options.action is None:
        print(HELP, end="")
        return 0
    if not options.data:
        raise UserError("data=: expected a folder")
    root = Path(options.data)
    if options.action == "list":
        if options.names:
            raise UserError(f"list takes no name, and shows all; found {' '.join(options.names)}")
        print_listing(root)
    elif options.action == "get":
        get(options.names, root)
    else:
        check(options.names, root)
    return 0


def print_listing(root: Path) -> None:
    """Print a table of all data sets, and the folder of data."""
    from tabulate import tabulate

    print(tabulate(listing(root), ["name", "what", "images", "where", "licence"]))
    print(f"\nfolder: {root.resolve()}   (NSR_DATA)")


def get(names: list[str], root: Path) -> None:
    from nsr_cli.data.download import get_dataset
    from nsr_cli.data.published import get_weights

    if not names:
        raise UserError(f"get needs a name; there are: {WEIGHTS}, {', '.join(all_datasets(root))}")
    for name in names:
        if name != WEIGHTS:
            find_dataset(name, root)  # complains about any unknown name before the first download
    for name in names:
        for path in get_weights(root) if name == WEIGHTS else get_dataset(name, root):
            print(path.resolve())


def check(names: list[str], root: Path) -> None:
    from nsr_cli.data.manifest import check_dataset

    datasets = {name: dataset for name, dataset in all_datasets(root).items() if not dataset.parts}
    here = [name for name, d in datasets.items() if own_images(d, locate(d, root))]
    wrong, absent = [], []
    for name in names:
        find_dataset(name, root)
    for name in names or here:
        try:
            result = check_dataset(name, root)
        except UserError as error:  # it is not here; the others are checked all the same
            absent.append(error)
            continue
        verdict = "as published" if not result.problems else f"{len(result.problems)} problems"
        print(f"{name}: {result.found} images, {result.compared} compared: {verdict}")
        for problem in result.problems:
            print(f"  {problem}")
        if result.problems:
            wrong.append(name)
    if absent:
        raise UserError("; ".join(str(error) for error in absent))
    if wrong:
        raise Failed(f"not as published: {', '.join(wrong)}")
