"""Jars of Kafka and of Spark's connectors: pinned in ``jars.lock``, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs
from rich.console import Console

from crossmatch.errors import ServiceError

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
KAFKA, SPARK = "kafka", "spark"
_PARALLEL = 8


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file: path below the repository, SHA-256, size in bytes, who needs it."""

    path: str
    sha256: str
    size: int
    set: str

    @property
    def name(self) -> str:
        """File name."""
        return self.path.rpartition("/")[2]


def locked() -> tuple[Jar, ...]:
    """All jars of ``jars.lock``, in its order."""
    text = resources.files("broker.embedded").joinpath("jars.lock").read_text("utf-8")
    return tuple(Jar(**entry) for entry in tomllib.loads(text)["jars"])


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where jars are kept: ``MMGATEWAY_CACHE``, or the user's cache folder."""
    chosen = environ.get("MMGATEWAY_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("mmgateway"))


def fetch_jars(
    which: str | None = None,
    environ: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> list[Path]:
    """Local paths of the jars, downloaded first where the cache lacks them.

    Parameters
    ----------
    which : {'kafka', 'spark'}, optional
        One set; both by default.
    environ : mapping, optional
        ``MMGATEWAY_CACHE`` names the cache, ``MMGATEWAY_MAVEN`` a mirror of Maven Central.
        The process's environment by default.
    console : Console, optional
        Where progress is shown: a bar on a terminal, else plain lines.

    Raises
    ------
    ServiceError
        If a jar cannot be downloaded or stored, or is not the one that was pinned.
    """
    environ = os.environ if environ is None else environ
    base = environ.get("MMGATEWAY_MAVEN", MAVEN_CENTRAL).rstrip("/")
    folder = cache_folder(environ) / "jars"
    jars = [jar for jar in locked() if which in (None, jar.set)]
    missing = [jar for jar in jars if not _is_verified(jar, folder)]
    if missing:
        _download_all(missing, folder, base, console or Console(stderr=True))
    return [folder / jar.set / jar.name for jar in jars]


def _marker(jar: Jar, folder: Path) -> Path:
    # Named after the hash: a changed lock file asks for verification again.
    return folder / ".verified" / jar.sha256


def _is_verified(jar: Jar, folder: Path) -> bool:
    """Whether the file was hashed once; later only its size is compared."""
    file = folder / jar.set / jar.name
    try:
        if file.stat().st_size != jar.size:
            return False
        if _marker(jar, folder).exists():
            return True
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != jar.sha256:
                return False
        _mark(jar, folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ServiceError(f"{file}: cannot be read: {error.strerror}") from error
    return True


def _mark(jar: Jar, folder: Path) -> None:
    marker = _marker(jar, folder)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _download_all(jars: Sequence[Jar], folder: Path, base: str, console: Console) -> None:
    with (
        _progress(jars, console, urlsplit(base).hostname or base) as advance,
        ThreadPoolExecutor(_PARALLEL) as pool,
    ):
        tasks = {pool.submit(_download, jar, folder, base, advance): jar for jar in jars}
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _download(jar: Jar, folder: Path, base: str, advance: Callable[[int], None]) -> None:
    import pooch
    import requests

    url = f"{base}/{jar.path}"
    where = "Maven Central" if base == MAVEN_CENTRAL else base
    try:
        pooch.get_logger().setLevel("ERROR")
        fetcher = pooch.create(
            folder / jar.set,
            base_url="",
            registry={jar.name: f"sha256:{jar.sha256}"},
            urls={jar.name: url},
            retry_if_failed=2,
        )
        fetcher.fetch(
            jar.name, downloader=pooch.HTTPDownloader(progressbar=_Meter(advance), timeout=60)
        )
        _mark(jar, folder)
    except requests.RequestException as error:
        raise ServiceError(
            f"{jar.name} could not be downloaded from {where} ({url}): {_why(error)}"
        ) from error
    except ValueError as error:
        raise ServiceError(
            f"{jar.name} from {where} is not the pinned file: its SHA-256 is not {jar.sha256}"
        ) from error
    except OSError as error:
        raise ServiceError(f"{jar.name} cannot be stored in {folder}: {error.strerror}") from error


def _why(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted here"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy refused"
    return "no connection; set MMGATEWAY_MAVEN to a mirror that can be reached"


class _Meter:
    """What pooch takes for a progress bar; it reports bytes to ``advance``."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance
        self.total = 0

    def update(self, count: int) -> None:
        self.advance(count)

    def reset(self) -> None:
        """Pooch resets the bar, to fill it once more, when the download is complete."""
        self.advance = lambda count: None

    def close(self) -> None:
        pass


@contextmanager
def _progress(jars: Sequence[Jar], console: Console, host: str) -> Iterator[Callable[[int], None]]:
    total = sum(jar.size for jar in jars)
    title = f"{len(jars)} jars from {host}"
    if not console.is_terminal:
        console.print(f"Downloading {title} ({total / 1e6:.0f} MB) ...", highlight=False)
        yield lambda count: None
        console.print(f"Downloaded {title}", highlight=False)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(f"Downloading {title}", total=total)
        yield lambda count: progress.advance(task, count)


def main() -> int:
    """Fetch all jars, for ``make install``; 1 and a sentence if that fails."""
    console = Console(stderr=True)
    try:
        fetch_jars(console=console)
    except ServiceError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
