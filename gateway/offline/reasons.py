"""What the stable codes mean, for people: one sentence a code, the only place that has them."""

from __future__ import annotations

from collections.abc import Mapping

SENTENCES: Mapping[str, str] = {
    # Ignored: messages that are no notice of an event.
    "broker_test": "It only tries whether messages arrive.",
    "circular": "It is a GCN Circular, text for people.",
    "core_fragment": "It is a part of a message, as schemas show it, not a message.",
    "heartbeat": "It only says that the sender is alive.",
    "json_schema": "It is the schema of a message, not a message.",
    "optical_alert": "It is an optical alert; the matcher reads those, not the listener.",
    "pointing": "It tells where the spacecraft looks.",
    "product": "It announces a data product of an event, not the event.",
    "slew": "It tells that the spacecraft turns.",
    "table": "A table or an image, no notice; 'mmgateway crossmatch' reads tables of events.",
    "unwanted": "Its feed file says that such messages are no notices of events (ignore_when).",
    "utility": "It serves the sender's own business and tells of no event.",
    # Notices without a region.
    "alert_without_position": "Notices of this kind come before the mission knows the position.",
    "annulus": "It gives a ring on the sky, of which no region is made.",
    "inappropriate": "The sender says that coordinates are inappropriate here.",
    "nack": "The mission looked and found no position.",
    "no_coincidence": "It tells that nothing was found in coincidence.",
    "no_error_radius": "It gives a position but no usable error radius.",
    "no_position": "It gives no position.",
    "no_skymap": "It comes without a sky map.",
    "null_position": "Its position is (0, 0) without an error: a placeholder.",
    "pointing_direction": "Its coordinates are where the instrument pointed, not the source.",
    "sentinel": "Its coordinates are a placeholder, no position.",
    "skymap_elsewhere": "It names a sky map by its address, which is not at hand;"
    " give the file with --skymap.",
    "spiacs_without_position": "SPI-ACS sees all the sky and cannot tell where from.",
    "startrack_lost_lock": "The star tracker had lost its lock: the spacecraft did not know"
    " where it pointed, and the position is not to be believed.",
    "unavailable": "The sender says that the position is unavailable.",
    "unknown_packet_type": "Its feed does not know its packet type, and takes no position from it.",
    "whole_sky": "Its error radius covers the whole sky.",
    # Others.
    "paused": "Its feed is paused; the message would be kept until the feed is enabled.",
    "retraction": "It takes back what was said before.",
}


def sentence(code: str) -> str:
    """What a code of an ignored message, or of one without a position, means.

    Codes that a feed file makes up are words already.

    Examples
    --------
    >>> sentence("slew"), sentence("sun_in_view")
    ('It tells that the spacecraft turns.', 'The feed file gives as reason: sun in view.')
    """
    if not code:
        return ""
    return SENTENCES.get(code, f"The feed file gives as reason: {code.replace('_', ' ')}.")
