"""Where the sky map lies when a notice names a picture of it, or what lies beside it.

The rules are data: a pattern of addresses and the address of the map, or nothing when
such files are never sky maps. They were read off real notices: Fermi GBM's final
positions name a PNG (``glg_locplot_all_bn….png``) with the HEALPix map beside it, its
ground positions an image that is no HEALPix map and a light curve in the folder of the
trigger, where the map appears minutes later.
"""

from __future__ import annotations

import re

_GBM = r"^https?://heasarc\.gsfc\.nasa\.gov/FTP/fermi/data/gbm/triggers/(\d{4}/bn\d{9}/\w+/)"

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), address)
    for pattern, address in (
        # Picture of the localisation, or light curve, of a trigger: the map beside it.
        (
            _GBM + r"glg_(?:locplot|skymap|locprob)_all_(bn\d{9}(?:_v\d\d)?)\.\w+$",
            r"https://heasarc.gsfc.nasa.gov/FTP/fermi/data/gbm/triggers/\1glg_healpix_all_\2.fit",
        ),
        (
            _GBM + r"glg_lc_\w+?_(bn\d{9}(?:_v\d\d)?)\.\w+$",
            r"https://heasarc.gsfc.nasa.gov/FTP/fermi/data/gbm/triggers/\1glg_healpix_all_\2.fit",
        ),
        # Contours on a flat image: FITS, but no HEALPix map.
        (r"^https?://gcn\.gsfc\.nasa\.gov/notices_f/gbm_gnd_loc_map_\d+\.fits$", ""),
        # Sub-threshold bursts: a picture named like the map.
        (
            r"^https?://gcn\.gsfc\.nasa\.gov/(notices_gbm_sub/gbm_subthresh_[\d.]+)_map\.png$",
            r"https://gcn.gsfc.nasa.gov/\1_healpix.fits",
        ),
        # A page for people: the front page of a site, a picture, a document.
        (r"^https?://[^/]+/?$", ""),
        (r"(?i)\.(?:png|gif|jpe?g|pdf|svg|html?|txt)$", ""),
        # These hosts send every request on to https; so nobody in between can answer it.
        (r"^http://((?:[\w-]+\.)*(?:nasa\.gov|ligo\.org|icecube\.wisc\.edu)/.*)$", r"https://\1"),
    )
)


def fits_address(url: str) -> str:
    """Address of the sky map that belongs to an address in a notice.

    Parameters
    ----------
    url : str
        As the notice has it; blanks around it do not count.

    Returns
    -------
    str
        The same address when no rule knows better; empty when there is no map.

    Examples
    --------
    >>> folder = "http://heasarc.gsfc.nasa.gov/FTP/fermi/data/gbm/triggers/2026/bn260419326/quicklook/"
    >>> fits_address(folder + "glg_locplot_all_bn260419326.png").rpartition("/")[2]
    'glg_healpix_all_bn260419326.fit'
    >>> fits_address("http://gcn.gsfc.nasa.gov/notices_f/gbm_gnd_loc_map_798737427.fits")
    ''
    >>> fits_address("https://gracedb.ligo.org/api/superevents/S1a/files/bayestar.fits.gz,1")
    'https://gracedb.ligo.org/api/superevents/S1a/files/bayestar.fits.gz,1'
    """
    url = url.strip()
    for pattern, address in _RULES:
        found = pattern.search(url)
        if found is not None:
            return found.expand(address)
    return url
