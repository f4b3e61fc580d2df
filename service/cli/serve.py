"""`posewire serve`: run the server."""

from __future__ import annotations

import os
from typing import Any

import click

from engines.catalogue import load
from service.cli.model_option import MODEL_HELP, choose
from service.config import Settings


@click.command()
@click.option("--host", help="Address to listen on.  [default: 0.0.0.0]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8000]")
@click.option("--model", help=MODEL_HELP)
@click.option("--workers", type=int, help="Server processes, each on cores and with models of its own.  [default: 1]")
@click.option("--backend", help="auto, openvino, onnxruntime or tensorrt.  [default: auto]")
@click.option("--precision", help="auto, fp32 or bf16; on GPUs fp16 or int8, too.  [default: auto]")
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="TOML file with any of the settings.")
@click.option("--log-format", help="json or text.  [default: json]")
def serve(**options: Any) -> None:
    """Serve POST /pose and WS /stream until SIGTERM or Ctrl-C."""
    from service.inference.backend_choice import check_backend
    from service.server import run_server  # slow to import, so only this command pays for it

    for name, value in options.items():
        if value is not None:  # worker processes read their settings from the environment too
            os.environ[f"POSEWIRE_{name.upper()}"] = str(value)
    settings, catalogue = Settings(), load()
    check_backend(settings)
    run_server(settings, catalogue, choose(catalogue, settings.model))
