"""HTTP with bounds: an answer is there within a time and a size, or not at all."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import requests
from urllib3.exceptions import HTTPError

MAX_BYTES = 64 << 20
_PIECE = 64 << 10


class _Body(io.BytesIO):
    """A body that was read, for those who want to read it themselves."""

    def read(self, size: int | None = -1, /, *, decode_content: bool = True) -> bytes:
        """As of a connection; it is decoded already."""
        return super().read(size)


class BoundedSession(requests.Session):
    """A session whose requests end: each by a deadline, none with more than so many bytes.

    `requests` alone bounds only the silence between two bytes: a server that sends one now and
    then would hold it for ever.

    Parameters
    ----------
    seconds : float
        From the request to the last byte; a connection that is silent at the end of it may
        take as long again.
    max_bytes : int
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self,
        seconds: float,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._clock = clock

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """The response with its whole body.

        Raises
        ------
        requests.RequestException
            If there is none within the bounds.
        """
        until = self._clock() + self._seconds
        response = super().send(request, **{**kwargs, "stream": True, "timeout": self._seconds})
        try:
            body = self._body(response, until)
        except HTTPError as error:
            raise requests.ConnectionError(error, request=request) from error
        finally:
            response.close()
        response._content = body
        response._content_consumed = True
        response.raw = _Body(body)
        return response

    def _body(self, response: requests.Response, until: float) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := response.raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise requests.ConnectionError(f"more than {self._max_bytes} bytes")
            if self._clock() > until:
                raise requests.Timeout(f"no end of the answer after {self._seconds:g} s")
        return b"".join(pieces)
