"""``mmgateway replay``: files to Kafka topics."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import options

if TYPE_CHECKING:
    from rich.progress import Progress

EPILOG = (
    "Examples:\n\nmmgateway replay night/ --topic alerts.ztf --rate 500/s\n\n"
    "mmgateway replay notices.tar.gz --topic gcn.classic.voevent.FERMI_GBM_FIN_POS\n\n"
    "mmgateway replay notices/ --topic igwn.gwalert --times keep --speed 3600"
)


class Times(StrEnum):
    """What becomes of the times between packets."""

    keep = "keep"
    shift = "shift"


def replay(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, folders or tarballs.")
    ],
    topic: Annotated[str, typer.Option("--topic", "-t", help="Kafka topic; made if missing.")],
    rate: Annotated[
        str | None,
        typer.Option(metavar="N/s", help="Messages per s, min or h; with --times shift only."),
    ] = None,
    times: Annotated[
        Times,
        typer.Option(
            help="shift: send now, one after another, whatever times stand inside."
            " keep: sort by the times inside and keep the intervals."
        ),
    ] = Times.shift,
    speed: Annotated[
        float, typer.Option(min=1e-6, help="Divides the intervals; with --times keep only.")
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Send files, folders or tarballs to a Kafka topic, one message a file.

    The contents go out untouched, also the times in them: an old notice stays old.
    """
    from broker import kafka_io
    from crossmatch.errors import ConfigError
    from gateway import services
    from gateway.offline import replay as core

    if times is Times.keep and rate is not None:
        raise ConfigError("--rate goes with --times shift; with --times keep give --speed")
    if times is Times.shift and speed != 1.0:
        raise ConfigError("--speed goes with --times keep; with --times shift give --rate")
    rate_per_s = None if rate is None else core.parse_rate(rate)
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
    config = options(context).load()
    bootstrap = services.find_bootstrap(config)
    properties = config.kafka.properties
    partitions = services.ALERT_PARTITIONS if topic in services.own_alert_topics(config) else 1
    large = {"max.message.bytes": str(kafka_io.MAX_MESSAGE_BYTES)}
    kafka_io.ensure_topics(bootstrap, properties, [kafka_io.TopicSpec(topic, partitions, large)])
    sender = core.KafkaSender(bootstrap, properties, topic)
    with _progress(topic) as shown:
        task = shown.add_task(topic, total=None)
        summary = core.replay(
            core.packets(paths),
            topic,
            sender,
            keep=times is Times.keep,
            rate_per_s=rate_per_s,
            speed=speed,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )
        sender.close()
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(summary)))
        return
    pace = summary.messages / max(summary.seconds, time.get_clock_info("monotonic").resolution)
    typer.echo(
        f"{summary.messages} messages, {summary.bytes / 1e6:.1f} MB to {topic}"
        f" in {summary.seconds:.1f} s ({pace:.0f}/s)"
    )
    if summary.without_time:
        print(f"{summary.without_time} without a time went with their neighbours", file=sys.stderr)


def _progress(topic: str) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from gateway.cli.screen import screen

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen(stderr=True),
        disable=not sys.stderr.isatty(),
    )
