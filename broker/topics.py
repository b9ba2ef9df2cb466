"""Names of our topics, each defined once."""

NOTICES = "mm.notices"
REGIONS = "mm.regions"
DEAD_LETTER = "mm.deadletter"
CANDIDATES_PREFIX = "mm.candidates."
VOEVENTS = "mm.voevents"
LEDGER = "mm.ledger"
STATE = "mm.state"
MARKER = "mm.marker"

MESSENGERS = ("gw", "grb", "neutrino", "xray", "frb", "optical")


def candidates(messenger: str, role: str = "observation") -> str:
    """Topic for candidates of one messenger; tests have topics of their own."""
    suffix = "" if role == "observation" else ".test"
    return f"{CANDIDATES_PREFIX}{messenger}{suffix}"
