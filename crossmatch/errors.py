"""One tree of errors; adaptors map their libraries' errors to it with ``raise ... from``."""


class GatewayError(Exception):
    """Anything the gateway can name; its text is a sentence a person can act on."""


class ConfigError(GatewayError):
    """The configuration or the command line cannot be used (exit status 2)."""


class ServiceError(GatewayError):
    """A service we need is missing, full or broken (exit status 1)."""


class Rejected(GatewayError):
    """Input that cannot be used; it is kept as a dead letter with this reason.

    Parameters
    ----------
    reason : str
        Stable code in ``snake_case``; programs may rely on it.
    detail : str
        What was found and what was expected, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["Rejected"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class NoticeError(Rejected):
    """A notice that cannot be understood."""


class RegionError(Rejected):
    """A localisation or sky map that is not a probability on the sky."""


class AlertError(Rejected):
    """An alert packet that does not decode or lacks what matching needs."""


class CatalogError(Rejected):
    """A catalogue or table that cannot be read as one."""
