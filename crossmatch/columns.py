"""Column tables: the slim alert that matching reads and the candidate that it yields.

One list of fields each; the Arrow schema, the Avro schema, the VOEvent parameters
and the reference pages are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Kind = Literal["string", "double", "int", "long", "boolean", "bytes", "strings"]


@dataclass(frozen=True, slots=True)
class Field:
    """One column: name, type, unit (VOUnits; empty: none), UCD 1+ and meaning."""

    name: str
    kind: Kind
    unit: str = ""
    ucd: str = ""
    doc: str = ""
    required: bool = False


_ARROW = {
    "string": pa.string(),
    "double": pa.float64(),
    "int": pa.int32(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
    "bytes": pa.binary(),
    "strings": pa.list_(pa.string()),
}


def arrow_schema(fields: tuple[Field, ...]) -> pa.Schema:
    """Arrow schema of ``fields``, in order, required fields not nullable."""
    return pa.schema([pa.field(f.name, _ARROW[f.kind], nullable=not f.required) for f in fields])


# fmt: off
ALERT_FIELDS: tuple[Field, ...] = (
    Field("survey", "string", ucd="meta.id;instr.obsty", doc="ztf or lsst", required=True),
    Field("object_id", "string", ucd="meta.id;src", doc="survey's object", required=True),
    Field("alert_id", "long", ucd="meta.id", doc="candid or diaSourceId", required=True),
    Field("time_jd", "double", "d", "time.epoch", "exposure, JD UTC", required=True),
    Field("ra_deg", "double", "deg", "pos.eq.ra;meta.main", "ICRS", required=True),
    Field("dec_deg", "double", "deg", "pos.eq.dec;meta.main", "ICRS", required=True),
    Field("ra_dec_error_arcsec", "double", "arcsec", "stat.error;pos", "1 sigma"),
    Field("filter", "string", ucd="instr.bandpass", doc="u, g, r, i, z or y"),
    Field("mag", "double", "mag", "phot.mag;em.opt", "PSF difference magnitude, AB"),
    Field("mag_error", "double", "mag", "stat.error;phot.mag", "1 sigma"),
    Field("limiting_mag", "double", "mag", "phot.mag;stat.max", "5 sigma, AB"),
    Field("positive", "boolean", doc="brighter than the reference image"),
    Field("real_bogus", "double", ucd="stat.likelihood", doc="rb, or reliability"),
    Field("deep_real_bogus", "double", ucd="stat.likelihood", doc="drb"),
    Field("n_bad", "int", ucd="meta.number", doc="bad pixels in the stamp"),
    Field("mag_difference", "double", "mag", doc="aperture minus PSF magnitude"),
    Field("first_detection_jd", "double", "d", "time.start", "earliest known, JD UTC"),
    Field("n_detections", "int", ucd="meta.number", doc="so far, this one included"),
    Field("moving_distance_arcsec", "double", "arcsec", "pos.angDistance", "known minor body"),
    Field("moving_name", "string", ucd="meta.id;src", doc="known minor body"),
    Field("ps1_distance_arcsec", "double", "arcsec", "pos.angDistance", "nearest PS1 source"),
    Field("ps1_star_score", "double", ucd="stat.likelihood", doc="1: star, 0: galaxy"),
    Field("ps1_mag", "double", "mag", "phot.mag;em.opt.R", "nearest PS1 source, r"),
    Field("gaia_distance_arcsec", "double", "arcsec", "pos.angDistance", "nearest Gaia source"),
    Field("gaia_mag", "double", "mag", "phot.mag;em.opt", "nearest Gaia source, G"),
    Field("withdrawn", "boolean", doc="the survey takes the alert back"),
    Field("schema_version", "string", ucd="meta.version", doc="of the packet"),
    Field("topic", "string", doc="Kafka topic or file it came from", required=True),
    Field("partition", "int", doc="Kafka partition", required=True),
    Field("offset", "long", doc="Kafka offset, or row in the file", required=True),
)
# fmt: on

ALERT_SCHEMA = arrow_schema(ALERT_FIELDS)

# fmt: off
CANDIDATE_FIELDS: tuple[Field, ...] = (
    Field("candidate_id", "string", ucd="meta.id;meta.main", required=True,
          doc="of this statement: counterpart, event and record number, of tests also .test"),
    Field("counterpart_id", "string", ucd="meta.id", required=True,
          doc="one per object, shared by all events it is matched with"),
    Field("record_number", "int", ucd="meta.version", required=True,
          doc="counts from 1 for each counterpart and event"),
    Field("alert_type", "string", ucd="meta.code", required=True,
          doc="initial, update or retraction"),
    Field("state", "string", ucd="meta.code.status", required=True, doc="in_force or withdrawn"),
    Field("reason", "string", ucd="meta.note", required=True, doc="why this statement was made"),
    Field("cause", "string", ucd="meta.id.parent", required=True,
          doc="the notice, alert or verdict that brought this statement about"),
    Field("changed", "strings", ucd="meta.note", required=True,
          doc="what differs from the statement before: region, position, alerts, brightness, ..."),
    Field("supersedes", "string", ucd="meta.id.parent", doc="candidate_id it replaces"),
    Field("alert_datetime", "string", "", "time.processing", "when stated, ISO 8601 UTC",
          required=True),
    Field("alert_tense", "string", ucd="meta.note", required=True, doc="current or test"),
    Field("role", "string", ucd="meta.note", required=True, doc="VOEvent role"),
    Field("stream", "string", ucd="meta.id", required=True, doc="topic this copy is sent to"),
    Field("streams", "strings", ucd="meta.id", required=True,
          doc="private streams that may see it; empty: everybody may"),
    Field("event_id", "string", ucd="meta.id.cross", required=True, doc="event, gateway's id"),
    Field("event_name", "string", ucd="meta.id.cross", required=True, doc="as the mission says"),
    Field("joint_events", "strings", ucd="meta.id.cross", required=True,
          doc="names by missions where several saw the event; its region is the smallest"),
    Field("messenger", "string", ucd="meta.code.class", required=True),
    Field("ref_type", "string", required=True, doc="GCN core schema: the event's notice kind"),
    Field("ref_instrument", "string", required=True, doc="mission and instrument of the event"),
    Field("ref_ID", "string", ucd="meta.id.cross", required=True, doc="notice (IVOID where any)"),
    Field("event_version", "int", ucd="meta.version", required=True),
    Field("event_trigger_time", "string", "", "time.epoch", "ISO 8601 UTC", required=True),
    Field("event_far", "double", "Hz", "arith.rate;stat.falsealarm"),
    Field("event_class", "string", ucd="src.class"),
    Field("event_area_90", "double", "deg**2", "phys.angArea", "90 % credible area"),
    Field("significant", "boolean", doc="the event, by its mission's rule", required=True),
    Field("luminosity_distance", "double", "Mpc", "pos.distance", "of the event"),
    Field("luminosity_distance_error", "double", "Mpc", "stat.error;pos.distance"),
    Field("survey", "string", ucd="meta.id;instr.obsty", required=True),
    Field("id", "string", ucd="meta.id;src", required=True, doc="survey object"),
    Field("alert_id", "string", ucd="meta.id", required=True, doc="latest alert, 64 bit as text"),
    Field("n_alerts", "int", ucd="meta.number", required=True, doc="matched alerts of the object"),
    Field("ra", "double", "deg", "pos.eq.ra;meta.main", "ICRS", required=True),
    Field("dec", "double", "deg", "pos.eq.dec;meta.main", "ICRS", required=True),
    Field("ra_dec_error", "double", "deg", "stat.error;pos"),
    Field("containment_probability", "double", ucd="stat.probability", doc="of ra_dec_error"),
    Field("systematic_included", "boolean", doc="in the event's localisation", required=True),
    Field("observation_start", "string", "", "time.start", "latest exposure, ISO 8601 UTC",
          required=True),
    Field("first_detection", "string", "", "time.start", "ISO 8601 UTC"),
    Field("last_detection", "string", "", "time.end", "ISO 8601 UTC", required=True),
    Field("time_offset_first", "double", "s", "time.interval", "first detection - trigger"),
    Field("time_offset_last", "double", "s", "time.interval", "last detection - trigger",
          required=True),
    Field("filter", "string", ucd="instr.bandpass"),
    Field("mag", "double", "mag", "phot.mag;em.opt"),
    Field("mag_error", "double", "mag", "stat.error;phot.mag"),
    Field("mag_system", "string", doc="AB", required=True),
    Field("limiting_mag", "double", "mag", "phot.mag;stat.max"),
    Field("last_nondetection_time", "string", "", "time.end", "before the first detection"),
    Field("last_nondetection_mag", "double", "mag", "phot.mag;stat.max"),
    Field("n_detections", "int", ucd="meta.number"),
    Field("fade_rate", "double", "mag/d", "phot.mag;arith.rate", "positive: fading"),
    Field("fade_rate_error", "double", "mag/d", "stat.error"),
    Field("fade_filter", "string", ucd="instr.bandpass"),
    Field("rise_rate", "double", "mag/d", "phot.mag;arith.rate", "from the last limit"),
    Field("color", "double", "mag", "phot.color", "bluer minus redder, within half a day"),
    Field("color_filters", "string", ucd="instr.bandpass", doc="for example g-i"),
    Field("real_bogus", "double", ucd="stat.likelihood"),
    Field("star_galaxy_score", "double", ucd="stat.likelihood", doc="of the nearest PS1 source"),
    Field("nearest_star_distance", "double", "arcsec", "pos.angDistance"),
    Field("credible_level", "double", ucd="stat.probability", required=True,
          doc="smallest credible level of the event that holds the position"),
    Field("probability_density", "double", "sr**-1", "stat.probability", required=True),
    Field("separation", "double", "deg", "pos.angDistance", "from the event's best position",
          required=True),
    Field("host_name", "string", ucd="meta.id;src"),
    Field("host_distance", "double", "Mpc", "pos.distance"),
    Field("host_offset", "double", "arcsec", "pos.angDistance"),
    Field("redshift", "double", ucd="src.redshift", doc="of the host"),
    Field("p_cc", "double", ucd="stat.probability",
          doc="that a galaxy as bright as the host lies so near by chance"),
    Field("simbad_name", "string", ucd="meta.id;src", doc="nearest object of Simbad"),
    Field("simbad_type", "string", ucd="src.class", doc="its main type"),
    Field("simbad_distance", "double", "arcsec", "pos.angDistance"),
    Field("star_distance", "double", "arcsec", "pos.angDistance",
          "nearest star of a local catalogue by a parallax or proper motion of 3 sigma"),
    Field("star_significance", "double", ucd="stat.snr",
          doc="the larger of its parallax and proper motion, in sigma"),
    Field("agn_name", "string", ucd="meta.id;src",
          doc="nearest active galaxy, X-ray or gamma-ray source of a local catalogue"),
    Field("agn_distance", "double", "arcsec", "pos.angDistance"),
    Field("known_transient", "string", ucd="meta.id;src",
          doc="nearest transient of a local catalogue, as of TNS"),
    Field("known_transient_distance", "double", "arcsec", "pos.angDistance"),
    Field("variable_name", "string", ucd="meta.id;src",
          doc="nearest variable star of a local catalogue"),
    Field("variable_type", "string", ucd="src.class", doc="its type"),
    Field("variable_distance", "double", "arcsec", "pos.angDistance"),
    Field("minor_planet", "string", ucd="meta.id;src",
          doc="nearest known minor body, by the latest alert or a local catalogue"),
    Field("minor_planet_distance", "double", "arcsec", "pos.angDistance"),
    Field("nearby", "strings", ucd="meta.note",
          doc="what the catalogues have near it: catalogue, kind, separation, name, values"),
    Field("absolute_magnitude", "double", "mag", "phys.magAbs", "at the host or event"),
    Field("looked_up", "string", ucd="meta.note", required=True,
          doc="catalogues asked, name:not_looked_up for one that did not answer yet, or"
              " not_looked_up"),
    Field("tier", "string", ucd="meta.code.qual", required=True, doc="bronze, silver or gold"),
    Field("score", "double", ucd="stat.likelihood", required=True,
          doc="orders the candidates of one event: tier 0, 1 or 2 plus a part below 1"),
    Field("factors", "strings", doc="what raised or held the tier", required=True),
    Field("verdict", "string", ucd="meta.code.class", doc="what people found it to be"),
    Field("verdict_effect", "string", ucd="meta.code", doc="confirm, demote or neutral"),
    Field("verdict_note", "string", ucd="meta.note"),
    Field("verdict_reference", "string", ucd="meta.bib", doc="circular, TNS name or address"),
    Field("verdict_author", "string", ucd="meta.id;meta.curation"),
    Field("verdict_time", "string", "", "time.processing", "ISO 8601 UTC"),
    Field("galactic_latitude", "double", "deg", "pos.galactic.lat", required=True),
    Field("ecliptic_latitude", "double", "deg", "pos.ecliptic.lat", required=True),
    Field("expires", "string", "", "time.end", "the event's window closes", required=True),
    Field("feed", "string", ucd="meta.id", required=True, doc="feed that brought the notice"),
    Field("feed_version", "string", ucd="meta.version", required=True,
          doc="digest of the feed's file"),
    Field("notice_sha256", "string", ucd="meta.version", required=True),
    Field("skymap_sha256", "string", ucd="meta.version"),
    Field("alert_sha256", "string", ucd="meta.version", doc="of the packet, where it was read"),
    Field("catalog_versions", "strings", ucd="meta.version", required=True),
    Field("cuts_version", "string", ucd="meta.version", required=True),
    Field("code_version", "string", ucd="meta.version", required=True),
)
# fmt: on
