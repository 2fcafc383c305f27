"""The `llmnas` command: its groups, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import typer

from llmnas.cli import bench, catalogue, compare, doctor, latency, listing, look, prompting, work
from llmnas.errors import EXIT_CODES, LlmnasError

STARTED_AT = time.monotonic()

_EPILOG = "Exit codes: " + " · ".join(f"{code} {says}" for code, says in EXIT_CODES.items())

app = typer.Typer(name="llmnas",
                  help="Architecture search led by a language model, inside a time budget that it keeps.",
                  epilog=_EPILOG, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True,
                  rich_markup_mode=None)
work.register(app)
look.register(app)
doctor.register(app)
catalogue.register(app)
prompting.register(app)
listing.register(app)
latency.register(app)
bench.register(app)
compare.register(app)


def main() -> None:
    """Runs the command line; a `LlmnasError` ends in one line on stderr and its exit code."""
    try:
        app()
    except LlmnasError as error:
        typer.echo(f"error: {error.message}", err=True)
        if error.hint:
            typer.echo(f"  fix: {error.hint}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted; everything paid for is saved", err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except Exception as error:  # noqa: BLE001  # the border: a fault of ours becomes a line and a file
        log = Path(tempfile.gettempdir()) / f"llmnas-error-{os.getpid()}.log"
        log.write_text(traceback.format_exc(), encoding="utf-8")
        typer.echo(f"error: a fault in llmnas: {type(error).__name__}: {error}", err=True)
        typer.echo(f"  the traceback is in {log.resolve()}", err=True)
        raise SystemExit(1) from None
