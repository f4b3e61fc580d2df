"""`python -m service` is the `posewire` command."""

from service.cli.main import main

main(prog_name="posewire")
