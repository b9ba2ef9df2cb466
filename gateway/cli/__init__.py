"""The command line; the only place that wires everything and decides exit statuses.

Modules that need more than a moment to import are imported inside the commands,
so that ``mmgateway --help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.config import Config

FAILED = 1
BAD_USAGE = 2
DEFAULT_FILE = Path("mmgateway.toml")

_EPILOG = """\
Examples:

mmgateway demo  (the night of GW170817, on an embedded Kafka and Spark)

mmgateway config init  then  mmgateway up  and  mmgateway status

Exit status: 0 done, 1 failed, 2 bad usage or configuration."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options that stand before the command."""

    config_path: Path | None

    def load(self) -> Config:
        """The configuration; ConfigError when it cannot be used."""
        from gateway.config import load

        return load(self.config_path)


def options(context: typer.Context) -> Options:
    """The global options of a command's context."""
    found = context.find_root().obj
    return found if isinstance(found, Options) else Options(None)


app = typer.Typer(
    name="mmgateway",
    help="Multi-messenger crossmatch and event gateway: notices become regions, regions meet"
    " optical alerts, candidates go out on Kafka and as VOEvents.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            number = metadata.version("mmgateway")
        except metadata.PackageNotFoundError:
            number = "(not installed)"
        typer.echo(f"mmgateway {number}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="MMGATEWAY_CONFIG",
            metavar="FILE",
            help="TOML configuration; ./mmgateway.toml is read if it is there.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the stack trace of a failure.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    context.obj = Options(config)


def _register() -> None:
    from gateway.cli import (
        archive,
        bench,
        bench_all,
        bench_burst,
        bench_catalogue,
        bench_cluster,
        bench_decode,
        bench_packets,
        candidates,
        catalogs,
        config,
        crossmatch,
        cuts,
        deadletter,
        feeds,
        ledger,
        replay,
        reprocess,
        services,
        verdict,
    )

    # In the order of `mmgateway --help`.
    app.command("demo", epilog=services.DEMO_EPILOG)(services.demo)
    app.command("up", epilog=services.UP_EPILOG)(services.up)
    app.command("down", epilog=services.DOWN_EPILOG)(services.down)
    app.command("status", epilog=services.STATUS_EPILOG)(services.status)
    app.command("listen", epilog=services.LISTEN_EPILOG)(services.listen)
    app.command("match", epilog=services.MATCH_EPILOG)(services.match)
    app.command("publish", epilog=services.PUBLISH_EPILOG)(services.publish)
    app.command("replay", epilog=replay.EPILOG)(replay.replay)
    app.command("crossmatch", cls=crossmatch.ManyPaths, epilog=crossmatch.EPILOG)(
        crossmatch.crossmatch
    )
    app.add_typer(candidates.app, name="candidates")
    app.command("verdict", epilog=verdict.EPILOG)(verdict.verdict)
    app.command("ledger", epilog=ledger.EPILOG)(ledger.ledger)
    app.command("reprocess", epilog=reprocess.EPILOG)(reprocess.reprocess)
    app.add_typer(cuts.app, name="cuts")
    app.add_typer(deadletter.app, name="deadletter")
    app.add_typer(archive.app, name="archive")
    app.add_typer(catalogs.app, name="catalogs")
    app.add_typer(feeds.app, name="feeds")
    app.add_typer(config.app, name="config")
    bench.app.command("catalogue", epilog=bench_catalogue.EPILOG)(bench_catalogue.catalogue)
    bench.app.command("burst", epilog=bench_burst.EPILOG)(bench_burst.burst)
    bench.app.command("cluster", epilog=bench_cluster.EPILOG)(bench_cluster.cluster)
    bench.app.command("decode", epilog=bench_decode.EPILOG)(bench_decode.decode)
    bench.app.command("packets", epilog=bench_packets.EPILOG)(bench_packets.packets)
    bench.app.command("all", epilog=bench_all.EPILOG)(bench_all.every)
    app.add_typer(bench.app, name="bench")
    # What the supervisor runs; people use `up`.
    app.command("kafka", hidden=True)(services.kafka)
    app.command("supervisor", hidden=True)(services.supervisor)


_register()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 failed, 2 bad usage.

    Errors that the gateway can name become one sentence on standard error. Others are
    faults of ours: they too end with status 1 and a sentence, and ``--debug`` shows more.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    from crossmatch.errors import ConfigError, GatewayError

    try:
        app(args=list(arguments), prog_name="mmgateway", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BrokenPipeError:
        # The reader of our output (head, a pager) has gone: nothing is wrong with us.
        sys.stderr.close()
        return FAILED
    except GatewayError as error:
        _complain(str(error), arguments)
        return BAD_USAGE if isinstance(error, ConfigError) else FAILED
    except KeyboardInterrupt:
        _complain("interrupted", [])
        return FAILED
    except OSError as error:
        _complain(_sentence(error), arguments)
        return FAILED
    except Exception as error:
        _complain(f"internal error, please report it: {error!r} (--debug shows where)", arguments)
        return FAILED
    return 0


def _sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _complain(sentence: str, arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    print(f"mmgateway: {' '.join(sentence.split())}", file=sys.stderr)
