"""`posewire models`: list the models of the catalogue, fetch them, and check graphs."""

from __future__ import annotations

import json

import click

from engines.catalogue import load
from service.cli.model_option import choose, fetch_progress
from service.cli.models_check import check
from service.cli.output import write_out


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List models, fetch one, or check a graph of your own."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_models(as_json: bool = False) -> None:
    """List the models, whether they are here or where they come from, and their licences."""
    rows = [
        {
            "name": m.name,
            "role": m.role,
            "here": m.cached,
            "source": m.source.kind,
            "licence": m.licence + ("" if m.commercial else " (no commercial use)"),
            "accuracy": m.accuracy,
            "title": m.title,
        }
        for m in load().models()
    ]
    if as_json:
        write_out(json.dumps(rows, indent=2) + "\n")
        return
    wide, licences = (max(len(str(row[key])) for row in rows) for key in ("name", "licence"))
    lines = []
    for row in rows:
        here = "here" if row["here"] else row["source"]
        lines.append(
            f"{row['name']:<{wide}}  {row['role']:<9}  {here:<10}  {row['licence']:<{licences}}  {row['title']}"
        )
        if row["accuracy"]:
            lines.append(f"{'':<{wide}}  {row['accuracy']}")
    write_out("".join(f"{line}\n" for line in lines))


@models.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Fetch the files of model NAME and of its detector; auto is the best default that can be fetched."""
    catalogue = load()
    if name == "auto":
        [name], _ = choose(catalogue, (name,))
    for part in catalogue.parts(name):
        path = part.fetch(progress=fetch_progress())
        write_out(f"{part.name}: {path}\n")


models.add_command(check)
