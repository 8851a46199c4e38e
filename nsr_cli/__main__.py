"""python -m nsr_cli, from a bare checkout."""

from nsr_cli.cli import main

main()
