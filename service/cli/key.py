"""`posewire key`: make an API key."""

from __future__ import annotations

import secrets

import click

from service.cli.output import write_out


@click.command(short_help="Make an API key.")
@click.option("--admin", is_flag=True, help="For an admin, who may change the server's cameras.")
def key(admin: bool) -> None:
    """Make an API key: give the first line to the client, the second to the server."""
    from service.api.security import ADMIN, digest

    made = secrets.token_urlsafe(32)
    write_out(f"key:    {made}\ndigest: {ADMIN if admin else ''}{digest(made)}\n")
