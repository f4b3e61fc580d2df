"""`python -m service` is the `posewire` command."""

from service.cli import main

main(prog_name="posewire")
