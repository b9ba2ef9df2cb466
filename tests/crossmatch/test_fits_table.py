import contextlib
import gzip
import io

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from crossmatch.errors import RegionError
from crossmatch.fits_table import decompressed, read_table, write_table


def by_astropy(*columns: fits.Column, **cards: object) -> bytes:
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(cards)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def reason(data: bytes) -> str:
    with pytest.raises(RegionError) as error:
        read_table(data).column("X")
    return error.value.reason


class TestReading:
    def test_numbers_of_every_kind_that_astropy_writes(self) -> None:
        n = np.array([0, 1, 2**31 - 1])
        data = by_astropy(
            fits.Column("skip", "7A", array=["a", "bc", ""]),
            fits.Column("bits", "11X", array=np.zeros((3, 11), bool)),
            fits.Column("B", "B", array=n % 200),
            fits.Column("I", "I", array=n % 1000 - 500),
            fits.Column("J", "J", array=-n),
            fits.Column("K", "K", array=n * 2**31),
            fits.Column("E", "E", array=n / 3),
            fits.Column("D", "D", array=n / 3),
            fits.Column("unsigned", "K", bzero=2**63, array=n.astype(np.uint64) + 2**63),
            fits.Column("vector", "2E", array=np.arange(6.0).reshape(3, 2)),
        )
        table = read_table(data)
        with fits.open(io.BytesIO(data), memmap=False) as hdus:
            for name in ("B", "I", "J", "K", "E", "D", "unsigned", "vector"):
                assert (table.column(name.upper()) == hdus[1].data[name].ravel()).all(), name
        assert table.column("UNSIGNED").dtype == np.uint64

    def test_scaled_integers_become_floats(self) -> None:
        data = by_astropy(fits.Column("x", "I", array=[1, 2, -2]), TSCAL1=0.5, TZERO1=10)
        assert read_table(data).column("X").tolist() == [10.5, 11.0, 9.0]

    def test_cards_of_every_kind(self) -> None:
        data = by_astropy(
            fits.Column("x", "D", array=[1.0]),
            TEXT="O'Neill / x",
            YES=True,
            COUNT=-3,
            FLOAT=1.5e-300,
            EMPTY="",
        )
        header = read_table(data).header
        assert [header[k] for k in ("TEXT", "YES", "COUNT", "FLOAT", "EMPTY")] == [
            "O'Neill / x", True, -3, 1.5e-300, "",
        ]  # fmt: skip

    def test_images_before_the_table_are_skipped(self) -> None:
        buffer = io.BytesIO()
        table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=[4.0])])
        image = fits.ImageHDU(np.zeros((70, 13), np.int16))
        primary = fits.PrimaryHDU(np.zeros(5000, np.float32))
        fits.HDUList([primary, image, table]).writeto(buffer)
        assert read_table(buffer.getvalue()).column("X").tolist() == [4.0]

    def test_what_is_not_fits(self) -> None:
        assert reason(b"") == "not_fits"
        assert reason(b"<html>404</html>") == "not_fits"

    def test_files_cut_anywhere_are_rejected(self) -> None:
        data = by_astropy(fits.Column("x", "D", array=np.zeros(1000)))
        cuts = {reason(data[:n]) for n in (11, 2879, 2880, 4000, 5759, 5760, 5760 + 7999)}
        assert cuts == {"fits_truncated", "no_table"}
        assert len(read_table(data[: 5760 + 8000]).column("X")) == 1000  # lost padding only

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"NAXIS1  =                    8", b"NAXIS1  =                   -8"),
            (b"NAXIS1  =                    8", b"NAXIS1  =                    9"),
            (b"NAXIS2  =                    1", b"NAXIS2  =                  'x'"),
            (b"TFORM1  = 'D       '", b"TFORM1  = '?       '"),
            (b"TFORM1  = 'D       '", b"TFORM1  = '8A      '"),
            (b"BITPIX  =                    8 / array", b"BITPIX  =                    7 / array"),
            (b"TFIELDS =                    1", b"TFIELDS =                 1000"),
        ],
    )
    def test_headers_that_contradict_themselves(self, old: bytes, new: bytes) -> None:
        data = by_astropy(fits.Column("x", "D", array=[1.0]))
        before, found, after = data.rpartition(old)
        assert found
        assert reason(before + new + after) == "fits_invalid"

    def test_an_absurd_number_of_rows_allocates_nothing(self) -> None:
        data = by_astropy(fits.Column("x", "D", array=[1.0]))
        rows = b"NAXIS2  =                    1"
        assert reason(data.replace(rows, b"NAXIS2  = 99999999999999999999")) == "fits_truncated"

    def test_rows_without_width(self) -> None:
        data = by_astropy(fits.Column("x", "D", array=[1.0]))
        data = data.replace(b"NAXIS1  =                    8", b"NAXIS1  =                    0")
        data = data.replace(b"TFORM1  = 'D       '", b"TFORM1  = '0D      '")
        assert reason(data) == "fits_invalid"

    @given(st.integers(0, 5759), st.binary(min_size=1, max_size=30))
    @settings(max_examples=150, deadline=None)
    def test_a_damaged_header_is_read_or_rejected(self, where: int, junk: bytes) -> None:
        data = by_astropy(fits.Column("x", "D", array=[1.0, 2.0]))
        broken = data[:where] + junk + data[where + len(junk) :]
        with contextlib.suppress(RegionError):
            for name in read_table(broken).columns:
                read_table(broken).column(name)


class TestWriting:
    def test_astropy_reads_and_verifies_it(self) -> None:
        columns = [("A", "", np.array([1, 2**62])), ("B", "Mpc-2", np.array([0.1, np.inf]))]
        header = {"OBJECT": "it's", "DISTMEAN": 1e22, "SMALL": 40.0, "FLAG": False, "N": -5}
        data = write_table(columns, header)
        assert len(data) % 2880 == 0
        with fits.open(io.BytesIO(data), memmap=False) as hdus:
            hdus.verify("exception")
            assert hdus[1].data["A"].tolist() == [1, 2**62]
            assert hdus[1].data["B"].tolist() == [0.1, np.inf]
            assert hdus[1].columns["B"].unit == "Mpc-2"
            assert {k: hdus[1].header[k] for k in header} == header

    @given(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(-(10**19), 10**19),
    )
    def test_cards_come_back(self, text: str, number: float, count: int) -> None:
        header = {"TEXT": text, "NUMBER": number, "COUNT": count}
        found = read_table(write_table([("X", "", np.zeros(1))], header)).header
        assert found["TEXT"] == text.rstrip()
        assert (found["NUMBER"], found["COUNT"]) == (number, count)

    @pytest.mark.parametrize(
        "card",
        [{"lower": 1}, {"MUCHTOOLONG": 1}, {"X": float("nan")}, {"X": "a" * 70}, {"X": "ä\n"}],
    )
    def test_what_fits_no_card_is_refused(self, card: dict[str, str | float]) -> None:
        with pytest.raises(ValueError, match="FITS"):
            write_table([("X", "", np.zeros(1))], card)


class TestGzip:
    def test_members_are_joined(self) -> None:
        data = gzip.compress(b"one") + gzip.compress(b"two")
        assert decompressed(data, 100) == b"onetwo"
        assert decompressed(b"plain", 100) == b"plain"

    def test_a_bomb_stops_at_the_bound(self) -> None:
        bomb = gzip.compress(bytes(50_000_000))
        with pytest.raises(RegionError) as error:
            decompressed(bomb, 1_000_000)
        assert error.value.reason == "skymap_too_large"

    def test_the_bound_counts_all_members_and_plain_files(self) -> None:
        for data in (gzip.compress(bytes(60)) * 2, bytes(101)):
            with pytest.raises(RegionError) as error:
                decompressed(data, 100)
            assert error.value.reason == "skymap_too_large"
        assert len(decompressed(gzip.compress(bytes(50)) * 2, 100)) == 100

    def test_a_file_of_countless_members_is_rejected_at_once(self) -> None:
        with pytest.raises(RegionError) as error:
            decompressed(gzip.compress(b"") * 100_000, 10_000_000)
        assert error.value.reason == "gzip_invalid"

    @pytest.mark.parametrize("cut", [2, 10, 40, -1])
    def test_damaged_files_are_rejected(self, cut: int) -> None:
        data = gzip.compress(bytes(range(256)) * 10)
        with pytest.raises(RegionError) as error:
            decompressed(data[:cut], 10_000)
        assert error.value.reason == "gzip_invalid"
        flipped = data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]
        with pytest.raises(RegionError) as error:
            decompressed(flipped, 10_000)
        assert error.value.reason == "gzip_invalid"
