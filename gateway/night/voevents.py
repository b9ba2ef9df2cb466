"""VOEvents of the night in GCN's form: Fermi GBM, Swift BAT, IceCube."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from gateway.night.facts import julian_date
from gateway.night.sky import ecliptic_coordinates, galactic_coordinates, sun_position

_MJD_EPOCH_JD = 2400000.5
# GCN counts truncated Julian days from MJD 40000.
_TJD_EPOCH_MJD = 40000
_FERMI_AUTHOR = (
    "Fermi (via VO-GCN)",
    "Julie McEnery",
    "+1-301-286-1632",
    "Julie.E.McEnery@nasa.gov",
)
_SWIFT_AUTHOR = ("VO-GCN", "Scott Barthelmy", "+1-301-286-3106", "scott.barthelmy@nasa.gov")


@dataclass(frozen=True, slots=True)
class Param:
    """One ``Param`` of ``What``; ``group`` names the group it stands in."""

    name: str
    value: str
    unit: str = ""
    ucd: str = ""
    group: str = ""

    def xml(self) -> str:
        """The element."""
        more = "".join(
            f" {key}={quoteattr(text)}"
            for key, text in (("unit", self.unit), ("ucd", self.ucd))
            if text
        )
        return f"<Param name={quoteattr(self.name)} value={quoteattr(self.value)}{more} />"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """What differs between the notices; the rest is GCN's template."""

    ivorn: str
    author: tuple[str, str, str, str]
    sent: datetime
    event_time: datetime
    ra_deg: float
    dec_deg: float
    error_deg: float
    params: tuple[Param, ...]
    coords: str
    description: str
    how: str
    reference: str
    importance: str
    concept: str
    cites: str = ""
    comment: str = ""


def iso(when: datetime, digits: int) -> str:
    """ISO 8601 time without a zone, with so many digits of the second, cut off as GCN does."""
    text = when.strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text[: 20 + digits] if digits else text[:19]


def burst_day(when: datetime) -> tuple[str, str]:
    """Truncated Julian day and second of day, as GCN writes them."""
    mjd = int(julian_date(when) - _MJD_EPOCH_JD)
    seconds = when.hour * 3600 + when.minute * 60 + when.second + when.microsecond / 1e6
    return str(mjd - _TJD_EPOCH_MJD), f"{int(seconds * 100) / 100:.2f}"


def flags(group: str, *names: str, on: tuple[str, ...] = ()) -> tuple[Param, ...]:
    """Boolean parameters of one group, all false but those in ``on``."""
    return tuple(Param(n, "true" if n in on else "false", group=group) for n in names)


def support_info(sent: datetime, ra_deg: float, dec_deg: float) -> tuple[Param, ...]:
    """GCN's group with the Sun's place and the position in other coordinates."""
    sun_ra, sun_dec = (float(x) for x in sun_position(np.array(julian_date(sent))))
    ra, dec = np.array([ra_deg]), np.array([dec_deg])
    longitude, latitude = galactic_coordinates(ra, dec)
    ecliptic_longitude, ecliptic_latitude = ecliptic_coordinates(ra, dec)
    group = "Obs_Support_Info"
    rows = (
        ("Sun_RA", sun_ra, "pos.eq.ra"),
        ("Sun_Dec", sun_dec, "pos.eq.dec"),
        ("Galactic_Long", longitude[0], "pos.galactic.lon"),
        ("Galactic_Lat", latitude[0], "pos.galactic.lat"),
        ("Ecliptic_Long", ecliptic_longitude[0], "pos.ecliptic.lon"),
        ("Ecliptic_Lat", ecliptic_latitude[0], "pos.ecliptic.lat"),
    )
    return tuple(Param(n, f"{v:.2f}", "deg", ucd, group) for n, v, ucd in rows)


def render(packet: Packet) -> bytes:
    """The VOEvent 2.0 document."""
    short, contact, phone, email = packet.author
    lines = [
        "<?xml version = '1.0' encoding = 'UTF-8'?>",
        "<voe:VOEvent",
        f"      ivorn={quoteattr(packet.ivorn)}",
        '      role="observation" version="2.0"',
        '      xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0"',
        '      xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"',
        '      xsi:schemaLocation="http://www.ivoa.net/xml/VOEvent/v2.0 '
        ' http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd" >',
        "  <Who>",
        "    <AuthorIVORN>ivo://nasa.gsfc.tan/gcn</AuthorIVORN>",
        "    <Author>",
        f"      <shortName>{escape(short)}</shortName>",
        f"      <contactName>{escape(contact)}</contactName>",
        *([f"      <contactPhone>{escape(phone)}</contactPhone>"] if phone else []),
        f"      <contactEmail>{escape(email)}</contactEmail>",
        "    </Author>",
        f"    <Date>{iso(packet.sent, 0)}</Date>",
        "    <Description>Rebuilt for the replay of 17 August 2017"
        f"{escape(packet.comment)}</Description>",
        "  </Who>",
        "  <What>",
        *_what(packet.params),
        f"    <Description>{escape(packet.description)}</Description>",
        "  </What>",
        *_where_when(packet),
        "  <How>",
        f"    <Description>{escape(packet.how)}</Description>",
        f'    <Reference uri={quoteattr(packet.reference)} type="url" />',
        "  </How>",
        f"  <Why importance={quoteattr(packet.importance)}>",
        f"    <Inference probability={quoteattr(packet.importance)}>",
        f"      <Concept>{escape(packet.concept)}</Concept>",
        "    </Inference>",
        "  </Why>",
        *_citations(packet.cites),
        f"  <Description>{escape(packet.comment.strip(' :'))}</Description>",
        "</voe:VOEvent>",
        "",
    ]
    return "\n".join(lines).encode("utf-8")


def _what(params: tuple[Param, ...]) -> list[str]:
    lines: list[str] = []
    group = ""
    for param in params:
        if param.group != group:
            if group:
                lines.append("    </Group>")
            if param.group:
                lines.append(f"    <Group name={quoteattr(param.group)} >")
            group = param.group
        lines.append(("      " if group else "    ") + param.xml())
    return [*lines, "    </Group>"] if group else lines


def _where_when(packet: Packet) -> list[str]:
    return [
        "  <WhereWhen>",
        "    <ObsDataLocation>",
        '      <ObservatoryLocation id="GEOLUN" />',
        "      <ObservationLocation>",
        '        <AstroCoordSystem id="UTC-FK5-GEO" />',
        '        <AstroCoords coord_system_id="UTC-FK5-GEO">',
        '          <Time unit="s">',
        "            <TimeInstant>",
        f"              <ISOTime>{iso(packet.event_time, 2)}</ISOTime>",
        "            </TimeInstant>",
        "          </Time>",
        '          <Position2D unit="deg">',
        "            <Name1>RA</Name1>",
        "            <Name2>Dec</Name2>",
        "            <Value2>",
        f"              <C1>{packet.ra_deg:.4f}</C1>",
        f"              <C2>{packet.dec_deg:.4f}</C2>",
        "            </Value2>",
        f"            <Error2Radius>{packet.error_deg:.4f}</Error2Radius>",
        "          </Position2D>",
        "        </AstroCoords>",
        "      </ObservationLocation>",
        "    </ObsDataLocation>",
        f"  <Description>The RA,Dec coordinates are of the type: {packet.coords}.</Description>",
        "  </WhereWhen>",
    ]


def _citations(cites: str) -> list[str]:
    if not cites:
        return []
    return [
        "  <Citations>",
        f'    <EventIVORN cite="followup">{escape(cites)}</EventIVORN>',
        "    <Description>This is an updated position to the original trigger.</Description>",
        "  </Citations>",
    ]


def _burst_params(
    kind: int, serial: int, trigger: str, sequence: int, when: datetime
) -> list[Param]:
    day, second = burst_day(when)
    return [
        Param("Packet_Type", str(kind)),
        Param("Pkt_Ser_Num", str(serial)),
        Param("TrigID", trigger, ucd="meta.id"),
        Param("Sequence_Num", str(sequence), ucd="meta.id.part"),
        Param("Burst_TJD", day, "days", "time"),
        Param("Burst_SOD", second, "sec", "time"),
    ]


def _fermi(name: str, number: str, trigger: str, when: datetime) -> str:
    return f"ivo://nasa.gsfc.gcn/Fermi#{name}{iso(when, 2)}_{trigger}_{number}"


def gbm_alert_ivorn(trigger: str, when: datetime) -> str:
    """IVORN of the GBM alert, which the later notices cite."""
    return _fermi("GBM_Alert_", "1-429", trigger, when)


def gbm_alert(trigger: str, when: datetime, sent: datetime) -> bytes:
    """Fermi GBM ALERT (110): a trigger without a position; C1, C2 and the error are 0."""
    params = [
        *_burst_params(110, 1, trigger, 1, when),
        Param("Trig_Signif", "4.8", "sigma", "stat.snr"),
        Param("Trig_Dur", "0.256", "sec", "time.interval"),
        Param("Lo_Chan_Energy", "47", "keV", "em.gamma"),
        Param("Hi_Chan_Energy", "291", "keV", "em.gamma"),
        Param("Algorithm", "8"),
        *flags("Misc_Flags", "Values_Out_of_Range", "Flt_Generated", "Gnd_Generated", "CRC_Error",
               on=("Flt_Generated",)),
        Param("Coords_Type", "0", "dn"),
        Param("Coords_String", "unavailable/inappropriate"),
    ]  # fmt: skip
    return render(
        Packet(
            ivorn=gbm_alert_ivorn(trigger, when),
            author=_FERMI_AUTHOR,
            sent=sent,
            event_time=when,
            ra_deg=0.0,
            dec_deg=0.0,
            error_deg=0.0,
            params=tuple(params),
            coords="unavailable/inappropriate",
            description="A heads-up alert that the Fermi-GBM instrument found a transient.",
            how="Fermi Satellite, GBM Instrument",
            reference="http://gcn.gsfc.nasa.gov/fermi.html",
            importance="0.5",
            concept="process.variation.burst;em.gamma",
        )
    )


_GBM_KINDS = {
    "flight": (111, 2, 46, "GBM_Flt_Pos_", "46-430", "Flt_Generated"),
    "ground": (112, 3, 59, "GBM_Gnd_Pos_", "59-431", "Gnd_Generated"),
    "final": (115, 4, 0, "GBM_Fin_Pos", "0-432", "Gnd_Generated"),
}


def gbm_position(
    kind: str, trigger: str, when: datetime, sent: datetime, ra: float, dec: float, error: float
) -> bytes:
    """Fermi GBM flight (111), ground (112) or final (115) position, degrees; ``error`` is 68 %."""
    packet_type, serial, sequence, name, number, generated = _GBM_KINDS[kind]
    identification = ["Def_NOT_a_GRB", "Target_in_Blk_Catalog", "Spatial_Prox_Match"]
    params = _burst_params(packet_type, serial, trigger, sequence, when)
    if kind == "flight":
        params += [
            Param("Data_Signif", "4.80", "sigma", "stat.snr"),
            Param("Most_Likely_Index", "4", "dn"),
            Param("Most_Likely_Prob", "86"),
            Param("Sec_Most_Likely_Index", "5", "dn"),
            Param("Sec_Most_Likely_Prob", "10"),
        ]
    else:
        params += [
            Param("Burst_Inten", "0", "cts", "phot.count"),
            Param("Data_Integ", "0.256" if kind == "ground" else "0.000", "sec", "time.interval"),
            Param("Burst_Signif", "6.00" if kind == "ground" else "0.00", "sigma", "stat.snr"),
        ]
        identification.append("Robo_generated")
    params += flags("Trigger_ID", *identification, "Temporal_Prox_Match", "Test_Submission",
                    on=("Robo_generated",))  # fmt: skip
    if kind == "ground":
        params.append(Param("Long_short", "unknown", group="Trigger_ID"))
    params += flags("Misc_Flags", "Values_Out_of_Range", "Flt_Generated", "Gnd_Generated",
                    "CRC_Error", on=(generated,))  # fmt: skip
    params += [Param("Coords_Type", "1", "dn"), Param("Coords_String", "source_object")]
    params += support_info(sent, ra, dec)
    return render(
        Packet(
            ivorn=_fermi(name, number, trigger, when),
            author=_FERMI_AUTHOR,
            sent=sent,
            event_time=when,
            ra_deg=ra,
            dec_deg=dec,
            error_deg=error,
            params=tuple(params),
            coords="source_object",
            description="The Fermi-GBM location of a transient.",
            how="Fermi Satellite, GBM Instrument",
            reference="http://gcn.gsfc.nasa.gov/fermi.html",
            importance="0.95",
            concept="process.variation.burst;em.gamma",
            cites=gbm_alert_ivorn(trigger, when),
        )
    )


_INVENTED = ": invented for the replay, no mission sent this"


def swift_bat(
    trigger: str, when: datetime, sent: datetime, ra: float, dec: float, error: float
) -> bytes:
    """Swift BAT position (61), degrees; ``error`` holds 90 %. Says that it is invented."""
    day, second = burst_day(when)
    params = [
        Param("Packet_Type", "61"),
        Param("Pkt_Ser_Num", "1"),
        Param("TrigID", trigger, ucd="meta.id"),
        Param("Segment_Num", "0", ucd="meta.id.part"),
        Param("Burst_TJD", day, "days", "time"),
        Param("Burst_SOD", second, "sec", "time"),
        Param("Burst_Inten", "6120", "cts", "phot.count;em.gamma.soft"),
        Param("Integ_Time", "4.096", "sec", "time.interval"),
        Param("Rate_Signif", "11.20", "sigma", "stat.snr"),
        Param("Image_Signif", "9.10", "sigma", "stat.snr"),
        *flags("Solution_Status", "Point_Source", "GRB_Identified", "Def_NOT_a_GRB",
               "Target_in_Flt_Catalog", "Target_in_Gnd_Catalog", "Target_in_Blk_Catalog",
               "StarTrack_Lost_Lock", "Near_Bright_Star", "Test_Submission",
               on=("Point_Source", "GRB_Identified")),
        *flags("Misc_Flags", "Values_Out_of_Range", "Flt_Generated", "Gnd_Generated", "CRC_Error",
               on=("Flt_Generated",)),
        Param("Coords_Type", "1", "dn"),
        Param("Coords_String", "source_object"),
        *support_info(sent, ra, dec),
    ]  # fmt: skip
    return render(
        Packet(
            ivorn=f"ivo://nasa.gsfc.gcn/SWIFT#BAT_GRB_Pos_{trigger}-999",
            author=_SWIFT_AUTHOR,
            sent=sent,
            event_time=when,
            ra_deg=ra,
            dec_deg=dec,
            error_deg=error,
            params=tuple(params),
            coords="source_object",
            description="Type=61: The Swift-BAT instrument position notice (invented).",
            how="Swift Satellite, BAT Instrument",
            reference="http://gcn.gsfc.nasa.gov/swift.html",
            importance="0.95",
            concept="process.variation.burst;em.gamma",
            comment=_INVENTED,
        )
    )


def icecube_gold(
    event: str, when: datetime, sent: datetime, ra: float, dec: float, errors: tuple[float, float]
) -> bytes:
    """IceCube gold track (173); ``event`` is run_event, ``errors`` the 90 and 50 % radii, deg."""
    run, number = event.split("_")
    day, second = burst_day(when)
    error90, error50 = errors
    params = [
        Param("Packet_Type", "173"),
        Param("Pkt_Ser_Num", "1"),
        Param("AMON_ID", run + number, ucd="meta.id"),
        Param("run_id", run, ucd="meta.id"),
        Param("event_id", number, ucd="meta.id"),
        Param("Event_TJD", day, "days", "time"),
        Param("Event_SOD", second, "sec", "time"),
        Param("Stream", "24", "dn", "meta.id"),
        Param("Rev", "0", "dn", "meta.id"),
        Param("signalness", "0.5517", "dn", "stat.probability"),
        Param("FAR", "1.0210", "yr^-1", "stat.probability"),
        Param("energy", "180.4000", "TeV", "phys.energy"),
        Param("src_error_90", f"{error90:.4f}", "deg", "stat.error.sys"),
        Param("src_error_50", f"{error50:.4f}", "deg", "stat.error.sys"),
        Param("SubType", "indi", group="Trigger_ID"),
        # Real notices say so even of good positions.
        *flags("Trigger_ID", "Test", "RADec_valid", "Retraction", "InternalTest"),
    ]
    return render(
        Packet(
            ivorn="ivo://nasa.gsfc.gcn/AMON#ICECUBE_GOLD_Event"
            f"{iso(when, 2)}_24_{run}_{int(number):09d}_0",
            author=("IceCube", "Icecube Realtime Committee", "", "roc@icecube.wisc.edu"),
            sent=sent,
            event_time=when,
            ra_deg=ra,
            dec_deg=dec,
            error_deg=error90,
            params=tuple(params),
            coords="source_object",
            description="A neutrino track (invented).",
            how="GCN",
            reference="http://gcn.gsfc.nasa.gov/gcn/amon_icecube_gold_bronze_events.html",
            importance="1.0",
            concept="process.variation.burst;em",
            comment=_INVENTED,
        )
    )
