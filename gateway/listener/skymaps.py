"""Files of sky maps, each kept once under its hash."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from crossmatch.errors import RegionError, ServiceError
from gateway.runfiles import make_state


class SkymapStore:
    """Sky maps by the SHA-256 of their bytes: ``<state>/skymaps/<sha256>.fits``.

    For the owner alone, since some are private; who matches is the same user.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "skymaps"

    def put(self, fits: bytes) -> str:
        """Keep ``fits``; the path relative to the state folder.

        Raises
        ------
        ServiceError
            If it cannot be written.
        """
        name = f"{hashlib.sha256(fits).hexdigest()}.fits"
        path = self._folder / name
        try:
            if not path.exists():
                make_state(self._folder.parent)
                self._folder.mkdir(exist_ok=True)
                # A reader may look at any moment, and the power may fail: all or nothing.
                descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
                try:
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(fits)
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(temporary, path)
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ServiceError(f"{path}: sky map cannot be written: {error.strerror}") from error
        return f"{self._folder.name}/{name}"

    def get(self, sha256: str) -> bytes:
        """The file with this digest.

        Raises
        ------
        RegionError
            ``map_missing`` if it is not there.
        """
        path = self._folder / f"{sha256}.fits"
        try:
            return path.read_bytes()
        except OSError as error:
            detail = f"{path}: sky map cannot be read: {error.strerror}"
            raise RegionError("map_missing", detail) from error
