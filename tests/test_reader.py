"""Tables as the world writes them: read right, or refused with the line, the column, the text, and the option that settles it."""
import bz2
import gzip
import lzma
import re
import shlex
import time
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genmod_nb.cli import load, main
from genmod_nb.tables import read_losses

rng = np.random.default_rng(18)
N = 24


# Numbers are whole numbers of the last decimal, so that how they are written is this file's own affair

def say(k, decimals=2, mark=".", group=""):
    """A number as text: k in units of the last decimal."""
    whole, part = divmod(int(k), 10 ** decimals)
    text = re.sub(r"(?<=\d)(?=(\d{3})+$)", lambda _: group, str(whole))
    return text + (mark + str(part).zfill(decimals) if decimals else "")


def column(*first, low=100, high=99_999, n=N):
    """The numbers of the case, then others of its size."""
    return [*first, *map(int, rng.integers(low, high, n - len(first)))]


def floats(ks, decimals=2):
    return [float(say(k, decimals)) for k in ks]


def lines(*columns, sep=",", head=None, end="\n"):
    return "".join(sep.join(map(str, row)) + end for row in ([head] if head else []) + list(zip(*columns, strict=True)))


def texts(ks, decimals=2, mark=".", group="", quote=""):
    return [quote + say(k, decimals, mark, group) + quote for k in ks]


def labels(X):
    """The row labels as the file writes them."""
    return [tuple(map(str, l)) if isinstance(l, tuple) else (str(l),) for l in X.index]


def same(X, columns, rows=None):
    """Is this the table with these columns, bit for bit, and these row labels (none: 0, 1, ...)?"""
    n = len(next(iter(columns.values())))
    rows = [(str(i),) for i in range(n)] if rows is None else [r if isinstance(r, tuple) else (str(r),) for r in rows]
    return list(X) == list(columns) and len(X) == n and all(X[c].tolist() == list(v) for c, v in columns.items()) and labels(X) == rows


def put(folder, content, suffix=".csv", encoding="utf-8"):
    (folder / f"t{suffix}").write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return folder / f"t{suffix}"


def refused(path, *words, **options):
    """The error, which holds the words; 'line 5' may be one of several lines, 'index=' also --index."""
    with pytest.raises(ValueError) as error:
        read_losses(path, **options)
    message = str(error.value).replace(str(path), path.name)
    for word in words:
        pattern = re.escape(word)
        if re.fullmatch(r"line \d+", word): pattern = rf"\blines? (\d+(, | and ))*{word[5:]}\b"
        if re.fullmatch(r"\w+=", word): pattern += "|--" + word[:-1].replace("_", "-")
        assert re.search(pattern, message), (word, message)
    return message


A, B, C = column(48787, 6196), column(low=1000, high=90_000), column(low=200, high=50_000)
CLAIMS = [0, 1, 0, 2, 1, 0] * 4
DAYS = [d.strftime("%Y-%m-%d") for d in pd.date_range("2024-01-22", periods=N)]
IDS = [100_000 + int(i) for i in np.sort(rng.choice(899_999, N, replace=False))]
LARGE = column(105_427, low=100_000, high=99_999_999)           # 1,000.00 to 999,999.99
LOSSES = {"fire": floats(A), "hail": floats(B)}


# Numbers (what follows from the first two lines follows from all)

WHOLE = column(487, 1054, low=100, high=9999)
CENTS = column(48787, 105_427, low=100, high=999_999)
HAIL = column(6196, 7010)
RATES = column(low=1_000, high=9_999)                           # three decimals, one before the mark
MILLIONS = column(1_234_567, 12_345, low=1_000, high=9_999_999)


READ = {
    "whole numbers with points beside decimal commas": (lines(texts(WHOLE, 0, group="."), texts(HAIL, 2, ","), sep=";", head=["fire", "hail"]),
                                                        {"fire": floats(WHOLE, 0), "hail": floats(HAIL)}),
    "points and commas in one column": (lines(texts(CENTS, 2, ",", "."), texts(HAIL, 2, ","), sep=";", head=["fire", "hail"]), {"fire": floats(CENTS), "hail": floats(HAIL)}),
    "decimal commas in quotes, comma-separated": (lines(texts(A, 2, ",", quote='"'), texts(B, 2, ",", quote='"'), head=['"fire"', '"hail"']), LOSSES),
    "one quoted column beside counts": (lines(texts(A, 2, ",", quote='"'), CLAIMS, head=["fire", "claims"]), {"fire": floats(A), "claims": CLAIMS}),
    "thousands commas in quotes": (lines(texts(CENTS, 2, group=",", quote='"'), texts(B), head=["fire", "hail"]), {"fire": floats(CENTS), "hail": floats(B)}),
    "two marks in one number": (lines(texts(MILLIONS, 0, group="."), texts(WHOLE, 0, group="."), sep=";", head=["sum", "paid"]), {"sum": MILLIONS, "paid": WHOLE}),
    "decimal comma, four decimals": (lines(texts(RATES, 4, ","), texts(C, 4, ","), sep="\t", head=["rate", "spread"]), {"rate": floats(RATES, 4), "spread": floats(C, 4)}),
    "three decimals below one": (lines(texts([k % 1000 for k in RATES], 3), texts([k % 999 for k in C], 3), sep=";", head=["rate", "spread"]),
                                 {"rate": floats([k % 1000 for k in RATES], 3), "spread": floats([k % 999 for k in C], 3)}),
    "exponents": (lines([f"{k}e-2" for k in A], [f"{k / 100:.2E}" for k in [100_000, *B[1:]]], head=["fire", "hail"]),
                  {"fire": floats(A), "hail": [float(f"{k / 100:.2E}") for k in [100_000, *B[1:]]]}),
} | {
    f"{name} between thousands": (lines(texts(LARGE, 2, mark, group), texts(HAIL, 2, mark), sep=sep, head=["fire", "hail"]), {"fire": floats(LARGE), "hail": floats(HAIL)})
    for name, mark, group, sep in [("apostrophes", ".", "'", ";"), ("curly apostrophes", ".", "’", ";"), ("apostrophes, comma-separated,", ".", "'", ","), ("blanks", ",", " ", ";"),
                                   ("blanks in a tab-separated file", ",", " ", "\t"), ("no-break blanks", ",", "\xa0", ";"), ("narrow blanks", ",", "\u202f", "\t"),
                                   ("commas", ".", ",", ";"), ("commas in a tab-separated file", ".", ",", "\t"), ("points", ",", ".", "|")]
} | {
    # rows and their labels
    "R, blanks, no row names": (lines(texts([982, *A[1:]]), texts([380_285, *B[1:]]), sep=" ", head=['"Loss"', '"ALAE"']),
                                {"Loss": floats([982, *A[1:]]), "ALAE": floats([380_285, *B[1:]])}),
    "R, blanks, row names": (lines([f'"{i + 1}"' for i in range(N)], texts(A), texts(B), sep=" ", head=['"Loss" "ALAE"']), {"Loss": floats(A), "ALAE": floats(B)}, range(1, N + 1)),
    "R, blanks, row names of text": (lines([f'"Mazda RX{i}"' for i in range(N)], texts(A), CLAIMS, sep=" ", head=['"Loss" "carb"']), {"Loss": floats(A), "carb": CLAIMS},
                                     [f"Mazda RX{i}" for i in range(N)]),
    "R, no quotes": (lines(range(1, N + 1), texts(A), texts(B), sep=" ", head=["Loss ALAE"]), {"Loss": floats(A), "ALAE": floats(B)}, range(1, N + 1)),
    "R, commas, one name fewer": (lines([f'"{i + 1}"' for i in range(N)], texts(A), texts(B), head=['"Loss","ALAE"']), {"Loss": floats(A), "ALAE": floats(B)}, range(1, N + 1)),
    "R, after a split": (lines([f'"{3 * i + 1 + i % 2}"' for i in range(N)], texts(A), texts(B), head=['""', '"Loss"', '"ALAE"']), {"Loss": floats(A), "ALAE": floats(B)},
                         [3 * i + 1 + i % 2 for i in range(N)]),
    "R, a shuffled half": (lines(rng.permutation(N * 2)[:N] + 1, texts(A), texts(B), sep=";", head=['""', "Loss", "ALAE"]), {"Loss": floats(A), "ALAE": floats(B)}, None),
    "R, row names and dates": (lines([f'"{i + 1}"' for i in range(N)], DAYS, texts(A), texts(B), head=['""', '"Date"', '"Building"', '"Contents"']),
                               {"Building": floats(A), "Contents": floats(B)}, [(str(i + 1), d) for i, d in enumerate(DAYS)]),
    "stations and dates": (lines(["USW00094728"] * 12 + ["USW00014739"] * 12, DAYS, texts(A), CLAIMS, head=["STATION", "DATE", "PRCP", "SNOW"]), {"PRCP": floats(A), "SNOW": CLAIMS},
                           list(zip(["USW00094728"] * 12 + ["USW00014739"] * 12, DAYS))),
    "stations and dates as numbers": (lines(["DE BILT"] * N, [d.replace("-", "") for d in DAYS], texts(A, 1), texts(B, 1), sep=";", head=["station", "date", "RR", "FX"]),
                                      {"RR": floats(A, 1), "FX": floats(B, 1)}, [("DE BILT", d.replace("-", "")) for d in DAYS]),
    "padded names": (lines(texts(A), texts(B), head=["A       ", "B       "]), {"A": floats(A), "B": floats(B)}),
    "names padded in quotes": (lines(texts(A), texts(B), sep=";", head=['"A       "', '"  net loss "']), {"A": floats(A), "net loss": floats(B)}),
    "years as padded names": (lines(["AT", "BE", "BG", "CH"] * 6, texts(A, 1), texts(B, 1), sep="\t", head=["geo\\TIME_PERIOD", "2019 ", "2020 "]),
                              {"2019": floats(A, 1), "2020": floats(B, 1)}, ["AT", "BE", "BG", "CH"] * 6),
    "keys with commas in a tab-separated file": (lines([f"A,NR,C{i}" for i in range(N)], [t + " " for t in texts(A)], [t + " " for t in texts(B)], sep="\t",
                                                       head=["freq,unit,geo\\TIME_PERIOD", "2019 ", "2020 "]),
                                                 {"2019": floats(A), "2020": floats(B)}, [f"A,NR,C{i}" for i in range(N)]),
    "apostrophes between thousands, and quotes in a name": (lines(IDS, texts(B), texts([100_000_000, *B[1:]], 2, group="'"), sep=";", head=["policy_id", '"so-called ""loss"""', "Größe"]),
                                                            {'so-called "loss"': floats(B), "Größe": floats([100_000_000, *B[1:]])}, IDS),
    "dates without names": (lines(["1/31/01", *(f"{d[6:7]}/{d[8:]}/02" for d in DAYS[1:])], texts([6, *A[1:]], 1), texts([7, *B[1:]], 1)),
                            {"f2": floats([6, *A[1:]], 1), "f3": floats([7, *B[1:]], 1)}, ["1/31/01", *(f"{d[6:7]}/{d[8:]}/02" for d in DAYS[1:])]),
    "German dates without names": (lines([f"{d[8:]}.{d[5:7]}.{d[:4]}" for d in DAYS], texts(A, 2, ","), texts(B, 2, ","), sep=";"), {"f2": floats(A), "f3": floats(B)},
                                   [f"{d[8:]}.{d[5:7]}.{d[:4]}" for d in DAYS]),
    "row names without names": (lines([f"storm {i}" for i in range(N)], texts(A), CLAIMS, sep="\t"), {"f2": floats(A), "f3": CLAIMS}, [f"storm {i}" for i in range(N)]),
    "Excel's first line": ("sep=;\r\n" + lines(texts(A, 2, ","), texts(B, 2, ","), sep=";", head=["fire", "hail"], end="\r\n"), LOSSES),
    "separators at the end": (lines(texts(A), texts(B), [""] * N, head=["fire", "hail", ""]), LOSSES),
    "separators at the end of the rows only": (lines(texts(A, 2, ","), texts(B, 2, ","), [""] * N, sep=";", head=["fire;hail"]), LOSSES),
    "aligned": (lines([f"{t:>12}" for t in texts(A)], [f"{t:>9}" for t in texts(B)], sep=" ", head=["        fire", "     hail"]), LOSSES),
} | {
    f"labels called {name}": (lines(ids, texts(A), CLAIMS, head=[name, "ClaimAmount", "ClaimNb"]), {"ClaimAmount": floats(A), "ClaimNb": CLAIMS}, ids)
    for name, ids in {"policy_id": IDS, "Policy ID": IDS, "IDpol": IDS, "PolicyID": IDS, "ClaimNumber": IDS[::-1], '"Policy No."': IDS, "unix": range(1_704_067_200, 1_704_067_200 + 86_400 * N, 86_400),
                      "timestamp": range(1_704_067_200_000, 1_704_067_200_000 + 3_600_000 * N, 3_600_000), "open_time": [1_704_067_200 + 60 * i for i in range(N)][::-1],
                      "Year": range(1997, 1997 + N), "year": range(1990 + N, 1990, -1), "date": [d.replace("-", "") for d in DAYS], "Month": [y * 100 + m for y in (2022, 2023) for m in range(1, 13)],
                      "time": range(1, N + 1), "obs": range(1, N + 1)}.items()
}


@pytest.mark.parametrize("case", READ)
def test_read_right(tmp_path, case):
    content, columns, *rows = READ[case]
    X = read_losses(put(tmp_path, content))
    if rows == [None]: rows = [[line.split(";")[0] for line in content.splitlines()[1:]]]
    assert same(X, columns, *rows), X.reset_index().head(3)


def spoilt(at, cell, sep=",", **how):
    """fire and hail with another cell in fire on line `at`."""
    fire = texts(A, **how)
    fire[at - 2] = cell
    return lines(fire, texts(B, **how), sep=sep, head=["fire", "hail"])


LAKHS = column(1_234_567, low=100_000, high=9_999_999)
AMBIGUOUS = texts(RATES, 3, ","), texts(RATES[::-1], 3, ",")

REFUSED = {
    "a German number among others": (spoilt(7, "1.054,27", ";"), "line 7", "fire", "1.054,27"),
    "an English number among others": (spoilt(9, "1,054.27", ";", mark=","), "line 9", "fire", "1,054.27"),
    "a decimal comma in quotes among points": (spoilt(11, '"487,87"'), "line 11", "fire", "487,87"),
    "two decimal points": (spoilt(5, "1.05.27"), "line 5", "fire", "1.05.27"),
    "unquoted decimal commas": (lines(texts(A, 2, ","), texts(HAIL, 2, ","), head=["a", "b"]), "line 2"),
    "unquoted decimal commas without names": (lines(texts(A, 2, ","), HAIL)[:-1] + ",5\n", f"line {N}"),
    "unquoted decimal commas in three columns": (lines(texts(A, 2, ","), texts(HAIL, 2, ","), texts(B, 2, ","), head=["a", "b", "c"]), "line 2"),
    "two surplus cells on one line": (lines(texts(A), texts(B), head=["a", "b"]) + "1.5,2.5,3.5,4.5\n", f"line {N + 2}"),
    "one surplus cell on one line": (lines(texts(A[:9]), texts(B[:9]), head=["a", "b"]) + "1.5,2.5,3.5\n" + lines(texts(A), texts(B)), "line 11"),
    "a cell too few": (lines(texts(A[:9]), texts(B[:9]), C[:9], head=["a", "b", "c"]) + "1.5,2.5\n" + lines(texts(A), texts(B), C), "line 11"),
    "a name too few, and a separator at the end": (lines(range(1, N + 1), texts(A), texts(B), [""] * N, head=["fire", "hail", ""]),),
    "percent": (spoilt(6, "12.5%"), "line 6", "fire", "12.5%"),
    "currency": (spoilt(8, "$120.50"), "line 8", "fire", "$120.50"),
    "euros": (spoilt(8, "120,50 €", ";", mark=","), "line 8", "fire", "120,50 €"),
    "a currency's code": (spoilt(8, "EUR 12.50"), "line 8", "fire", "EUR 12.50"),
    "parentheses": (spoilt(10, "(12.50)"), "line 10", "fire", "(12.50)"),
    "every cell in per cent": (lines([t + "%" for t in texts(A)], texts(B), head=["share", "hail"]), "line 2", "share", "487.87%"),
    "every cell in dollars": (lines([f'"${t}"' for t in texts(CENTS, 2, group=",")], texts(B), head=["fire", "hail"]), "line 2", "fire", "$487.87"),
    "every cell German in the first column alone": (lines(texts([123_456, *LARGE[1:]], 2, ",", ".", '"'), texts(B), head=["fire", "hail"]), "line "),
    "every cell German in the last column alone": (lines(texts(B), texts(LARGE, 2, ",", "."), sep="\t", head=["fire", "hail"]), "line "),
    "a provisional mark": (spoilt(8, "12.3 p", "\t"), "line 8", "fire", "12.3 p"),
    "Indian marks": (lines([f'"{k // 100_000},{k // 1000 % 100:02},{k % 1000:03}.50"' for k in LAKHS], texts(B), head=["fire", "hail"]), "line 2", "fire", "12,34,567.50"),
    "three decimals or thousands": (lines(*AMBIGUOUS, sep=";", head=["rate", "spread"]), "line 2", "rate", AMBIGUOUS[0][0], "decimal=", "thousands="),
    "three decimals or thousands, in quotes": (lines(texts(RATES, 3, ",", quote='"'), CLAIMS, head=["rate", "claims"]), "line 2", "rate", AMBIGUOUS[0][0], "decimal=", "thousands="),
    "three decimals or thousands, tabs": (lines(texts(RATES, 3), CLAIMS, sep="\t", head=["rate", "claims"]), "line 2", "rate", say(RATES[0], 3), "decimal=", "thousands="),
    "three decimals or thousands, no names": (lines(texts(RATES, 3), texts(RATES[::-1], 3), sep=";"), "line 1", say(RATES[0], 3), "decimal=", "thousands="),
    # identifiers, dates and running numbers that are no labels
    "repeated policy_id": (lines([i // 2 * 7 + 9000 for i in range(N)], texts(A), texts(B), head=["policy_id", "fire", "hail"]), "policy_id", "index=", "columns="),
    "repeated IDpol": (lines([IDS[i // 2] for i in range(N)], texts(A), texts(B), head=["IDpol", "ClaimAmount", "Expenses"]), "IDpol", "index=", "columns="),
    "a year and its quarters": (lines([2001 + i // 4 for i in range(N)], texts(A), texts(B), head=["Year", "fire", "hail"]), "Year", "index=", "columns="),
    "words in the middle": (lines(texts(A), ["north", "south"] * 12, texts(B), head=["fire", "region", "hail"]), "region", "index=", "columns="),
    "dates at the end": (lines(texts(A), texts(B), DAYS, head=["fire", "hail", "reported"]), "reported", "index=", "columns="),
} | {
    f"{name} at the end": (lines(texts(A), texts(B), ids, head=["fire", "hail", name]), name, "index=", "columns=")
    for name, ids in {"policy_id": IDS, "Policy ID": IDS, "PolicyID": IDS, "ClaimNumber": IDS[::-1], "unix": range(1_704_067_200, 1_704_067_200 + 86_400 * N, 86_400),
                      "occurred": [d.replace("-", "") for d in DAYS], "period": [y * 100 + m for y in (2022, 2023) for m in range(1, 13)], "year": range(1997, 1997 + N), "n": range(1, N + 1),
                      "ref": range(5000, 5000 + 10 * N, 10)}.items()
} | {
    f"a last row that is the {what}": (lines([*first, last], texts([*A, total(A)]), texts([*B, total(B)]), head=[name, "fire", "hail"]), f"line {N + 2}")
    for what, name, first, last, total in [("sum", "", range(N), N, sum), ("sum after dates", "date", DAYS, "Total", sum), ("sum after numbers", "nr", range(1, N + 1), "Summe", sum),
                                           ("mean", "month", DAYS, "Average", lambda ks: sum(ks) // N)]
} | {
    "a bare last row that is the sum": (lines(texts([*A, sum(A)]), [*CLAIMS, sum(CLAIMS)], head=["fire", "claims"]), f"line {N + 2}"),
    # several things below each other
    "a footer": (lines(DAYS, texts(A), texts(B), head=["date", "fire", "hail"]) + "Source: own survey\n", f"line {N + 2}", "Source: own survey"),
    "a footer below a blank line": (lines(DAYS, texts(A, 2, ","), texts(B, 2, ","), sep=";", head=["Datum", "A", "B"]) + "\nKommentar;Quelle: Bundesbank\n", f"line {N + 3}", "Kommentar"),
    "a copyright": (lines(texts(A), texts(B), sep=" ", head=["fire", "hail"]) + "\nCopyright 2023 Kenneth R. French\n", f"line {N + 3}", "Copyright 2023"),
    "a second table": (lines(range(202201, 202201 + 12), texts(A[:12]), texts(B[:12]), head=["", "SMB", "HML"]) + lines(range(202301, 202301 + 12), texts(A[12:]), texts(B[12:]))
                       + "\n Annual Factors: January-December\n" + lines(range(1997, 2020), texts(A[1:]), texts(B[1:]), head=["", "SMB", "HML"]), f"line {N + 3}", "Annual Factors"),
    "a second table with other columns": (lines(texts(A), texts(B), head=["fire", "hail"]) + "\n" + lines(range(9), texts(A[:9]), texts(B[:9]), CLAIMS[:9], head=["no", "a", "b", "c"]),
                                          f"line {N + 3}"),
    # cells that are missing, and signs
    "a point for missing": (spoilt(7, "."), "line 7", "fire", "missing"),
    "an empty cell": (spoilt(8, ""), "line 8", "fire", "missing"),
    "NA": (spoilt(9, "NA", " "), "line 9", "fire", "missing"),
    "N/A before a comma at the end": (lines(DAYS, texts(A), ["N/A", *texts(B[1:])], [""] * N, head=["Date", "USD", "CYP", ""]), "line 2", "CYP", "missing"),
    "a question mark": (spoilt(9, "?", "\t"), "line 9", "fire", "missing"),
    "a dash": (spoilt(9, "-", ";", mark=","), "line 9", "fire", "missing"),
    "a colon": (spoilt(9, ":", "\t"), "line 9", "fire"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_cell(tmp_path, case):
    content, *words = REFUSED[case]
    refused(put(tmp_path, content), *words)


@pytest.mark.parametrize("grouped", ["1.054,27", "3.210,50"])
def test_a_column_is_grouped_or_not(tmp_path, grouped):
    """Either cell may be named: one has the mark, the other lacks it."""
    fire = texts(A, 2, ",")
    fire[4], fire[8] = grouped, "2054,27"
    message = refused(put(tmp_path, lines(fire, texts(B, 2, ","), sep=";", head=["fire", "hail"])), "fire")
    assert "line 6" in message and grouped in message or "line 10" in message and "2054,27" in message


def test_whole_numbers_beside_unquoted_commas_are_no_row_names(tmp_path):
    """487,61,96 under two names: 487 repeats itself, as a row name does not."""
    refused(put(tmp_path, lines([487, 487, *C[2:]], texts(HAIL, 2, ","), head=["a", "b"])), "line ")


@pytest.mark.parametrize("sign", [" ", "'"])
def test_thousands_that_disagree(tmp_path, sign):
    fire = texts(LARGE, 2, group=sign)
    fire[3] = "123456.78"
    refused(put(tmp_path, lines(fire, texts(B), sep=";", head=["fire", "hail"])), "line 5", "fire", "123456.78")


@pytest.mark.parametrize("content, columns, rows", [
    (lines(texts(RATES, 4, ","), texts(HAIL, 2, ","), sep=" "), {"f1": floats(RATES, 4), "f2": floats(HAIL)}, None),
    (lines(texts(HAIL, 2, ","), texts(C, 2, ","), WHOLE, sep=" "), {"f1": floats(HAIL), "f2": floats(C), "f3": WHOLE}, None),
    (lines(range(1, N + 1), texts(WHOLE, 0, ",", "\u202f"), texts(C, 4, ",", "\u202f"), sep="\t", head=['"alae, net"\t"storm"']), {"alae, net": WHOLE, "storm": floats(C, 4)}, range(1, N + 1)),
], ids=["two columns", "whole numbers last", "tabs below a comma"])
def test_cells_that_hold_another_separator_are_no_reason_to_leave_columns_out(tmp_path, content, columns, rows):
    path = put(tmp_path, content)
    try:
        X = read_losses(path)
    except ValueError as error:
        assert "sep=" in str(error) and "columns=" not in str(error), error
    else:
        assert same(X, columns, rows)


# What the user says

@pytest.mark.parametrize("options, decimals", [(dict(decimal=","), 3), (dict(thousands=","), 0), (dict(decimal=".", thousands=","), 0), (dict(decimal=",", thousands="."), 3)])
def test_the_marks_settle_what_is_ambiguous(tmp_path, options, decimals):
    path = put(tmp_path, lines(*AMBIGUOUS, sep=";", head=["a", "b"]))
    assert same(read_losses(path, **options), {"a": floats(RATES, decimals), "b": floats(RATES[::-1], decimals)})


def test_marks_that_do_not_fit_are_refused(tmp_path):
    refused(put(tmp_path, lines(texts(A), texts(B), sep=";", head=["fire", "hail"])), "line 2", "fire", "487.87", decimal=",")
    refused(put(tmp_path, lines(texts(A, 2, ","), texts(B, 2, ","), sep=";", head=["fire", "hail"])), "line 2", "fire", "487,87", decimal=".")
    for option in (dict(decimal=";"), dict(thousands="x"), dict(decimal=",", thousands=","), dict(encoding="latin-99"), dict(skip_rows=-1), dict(skip_rows=1000)):
        refused(put(tmp_path, lines(texts(A), texts(B), head=["fire", "hail"])), list(option)[-1], **option)


def test_the_separator_can_be_said(tmp_path):
    both = put(tmp_path, lines(texts(A), ["6,5 | 8", *texts(B[1:])], sep=";", head=["fire", "hail"]))
    refused(both, "line 2", "hail", "6,5 | 8", sep=";")
    colons = put(tmp_path, lines(texts(A, 2, ","), texts(B, 2, ","), sep=":", head=["fire", "hail"]))
    assert same(read_losses(colons, sep=":"), LOSSES)


FREMTPL = lines([IDS[i // 2] for i in range(N)], texts(A), ["R82", "R22"] * 12, texts(B), CLAIMS, head=["IDpol", "ClaimAmount", "Region", "Expenses", "ClaimNb"])
TWICE = [IDS[i // 2] for i in range(N)]


@pytest.mark.parametrize("options, columns, rows", [
    (dict(index=["IDpol", "Region"]), dict(ClaimAmount=floats(A), Expenses=floats(B), ClaimNb=CLAIMS), list(zip(map(str, TWICE), ["R82", "R22"] * 12))),
    (dict(index=["IDpol"], columns=["ClaimAmount", "Expenses"]), dict(ClaimAmount=floats(A), Expenses=floats(B)), TWICE),
    (dict(index=["Region"], columns=["ClaimAmount", "ClaimNb"]), dict(ClaimAmount=floats(A), ClaimNb=CLAIMS), ["R82", "R22"] * 12),
    (dict(index=[], columns=["IDpol", "Expenses"]), dict(IDpol=TWICE, Expenses=floats(B)), None),
    (dict(index=[], columns=["ClaimAmount", "ClaimNb"]), dict(ClaimAmount=floats(A), ClaimNb=CLAIMS), None),
])
def test_what_is_declared_is_done(tmp_path, options, columns, rows):
    assert same(read_losses(put(tmp_path, FREMTPL), **options), columns, rows)


@pytest.mark.parametrize("option", ["columns", "index"])
def test_names_that_are_not_there(tmp_path, option):
    message = refused(put(tmp_path, FREMTPL), "ClaimAmnt", **{option: ["ClaimAmnt"]})
    assert "ClaimAmount" in message                              # and those that are


def test_no_index_is_none(tmp_path):
    path = put(tmp_path, lines(DAYS, texts(A), texts(B), head=["date", "fire", "hail"]))
    refused(path, "date", "columns=", index=[])
    assert same(read_losses(path, columns=["fire", "hail"], index=[]), LOSSES)


# What was understood

@pytest.mark.parametrize("options, words", [(dict(index=["IDpol"], columns=["ClaimAmount", "Expenses"]), ["24", "ClaimAmount", "Expenses", "IDpol", "Region", "ClaimNb"]),
                                            (dict(index=["IDpol", "Region"]), ["24", "ClaimAmount", "Expenses", "ClaimNb", "IDpol", "Region"])])
def test_the_report_is_one_line(tmp_path, options, words):
    said = []
    X = read_losses(put(tmp_path, FREMTPL), report=said.append, **options)
    assert len(said) == 1 and "\n" not in said[0] and all(w in said[0] for w in words), said
    assert X.equals(read_losses(put(tmp_path, FREMTPL), **options))


def test_the_report_is_one_line_whatever_the_names(tmp_path):
    said = []
    X = read_losses(put(tmp_path, '"loss\nin EUR","hail"\n' + lines(texts(A), texts(B))), report=said.append)
    assert X["hail"].tolist() == floats(B) and len(said) == 1 and "\n" not in said[0] and "in EUR" in said[0]


@pytest.mark.parametrize("case, words", [("labels called IDpol", ["ClaimAmount", "ClaimNb", "IDpol"]), ("stations and dates", ["PRCP", "SNOW", "STATION", "DATE"]),
                                         ("separators at the end", ["fire", "hail"])])
def test_fit_says_what_was_understood(tmp_path, capsys, case, words):
    path = put(tmp_path, READ[case][0])
    assert fit(path, tmp_path / "m") == 0
    out = capsys.readouterr().out.splitlines()
    assert any(all(w in line for w in ["24 rows", *words]) for line in out), out
    assert fit(path, tmp_path / "m", "--quiet") == 0 and capsys.readouterr().out == ""


def test_parquet_is_no_exception(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"IDpol": TWICE, "fire": floats(A), "region": ["R82", "R22"] * 12, "hail": floats(B)}).to_parquet(path, index=False)
    refused(path, "IDpol", "region", "index=", "columns=")
    assert same(read_losses(path, columns=["fire", "hail"], index=["IDpol"]), LOSSES, TWICE)
    assert same(read_losses(path, index=["IDpol", "region"]), LOSSES, list(zip(map(str, TWICE), ["R82", "R22"] * 12)))


# Above the table

PRICES = [DAYS, *(texts(column()) for _ in range(5))]
PROSE = "This file was created using the 202312 CRSP database.\nThe 1-month TBill return is from Ibbotson and Associates, Inc.\n\n"
ABOVE = {
    "prose": (PROSE + lines(range(199707, 199707 + 6), texts(A[:6]), texts(B[:6]), head=["", "SMB", "HML"])
              + lines(range(199801, 199801 + 12), texts(A[6:18]), texts(B[6:18])) + lines(range(199901, 199901 + 6), texts(A[18:]), texts(B[18:])), ["SMB", "HML"], 4),
    "prose without commas": ("Emissions of the year\nas reported\n" + lines(texts(A), texts(B), CLAIMS, sep="\t", head=["a", "b", "c"]), ["a", "b", "c"], 3),
    "a title and a blank line": ("Schäden 2023;;\n;;\n" + lines(DAYS, texts(A, 2, ","), texts(B, 2, ","), sep=";", head=["Datum", "Feuer", "Hagel"]), ["Feuer", "Hagel"], 3),
    "a URL": ("https://www.CryptoDataDownload.com\n" + lines(range(1_704_067_200, 1_704_067_200 + 86_400 * N, 86_400), DAYS, ["BTC/USD"] * N, texts(A), texts(B),
                                                             head=["unix", "date", "symbol", "open", "close"]),
              ["open", "close"], 2),
    "comments": ("# station 42, in mm\n# missing: none\n" + lines(DAYS, texts(A), texts(B), head=["date", "rain", "snow"]), ["rain", "snow"], 3),
    "a comment before names": ("# date  rain\n" + lines(texts(A), texts(B), sep=" ", head=["rain", "snow"]), ["rain", "snow"], 2),
    "a commented URL": ("#https://data.example/rain?x=1,2\n" + lines(texts(A), texts(B), texts(C), head=["rain", "snow", "hail"]), ["rain", "snow", "hail"], 2),
    "three header rows": ("Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDate,,,,,\n" + lines(*PRICES), None, 4),
    "two header rows": (",loss,loss\n,fire,hail\n" + lines(range(N), texts(A), texts(B)), None, 3),
    "two header rows, no index": ("fire;fire;hail\ngross;net;gross\n" + lines(texts(A, 2, ","), texts(C, 2, ","), texts(B, 2, ","), sep=";"), None, 3),
    "units": ("date,wind,gust\n,m/s,m/s\n" + lines(DAYS, texts(A), texts(B)), None, 3),
    "units in brackets": ("fire;hail\n[EUR];[EUR]\n" + lines(texts(A, 2, ","), texts(B, 2, ","), sep=";"), None, 3),
    "units of a river": ("# U.S. Geological Survey\n# retrieved: 2024-02-01\nagency_cd\tdatetime\t1_00060\t2_00065\n5s\t20d\t14n\t14n\n"
                         + lines(["USGS"] * N, DAYS, texts(A), texts(B), sep="\t"), None, 5),
    "a statistical office": (';BBK01.A;BBK01.B\n"";Zinsen auf Einlagen;Zinsen auf Kredite\nEinheit;%;%\nDimension;Eins;Eins\nStand vom;29.01.2024 10:00:00 Uhr;29.01.2024 10:00:00 Uhr\n'
                             + lines(DAYS, texts(A, 2, ","), texts(B, 2, ","), sep=";"), None, 6),
}


@pytest.mark.parametrize("case", ABOVE)
def test_lines_above_the_table(tmp_path, case):
    """Refused with the lines to skip; with them skipped, one row of names is left, or none."""
    content, names, start = ABOVE[case]
    path, rows = put(tmp_path, content), content.splitlines()
    sep = next(s for s in "\t;, " if s in rows[-1])
    cells = [row.split(sep) for row in rows]
    message = refused(path, "skip_rows=")
    skip = int(re.search(r"skip[_-]rows[= ](\d+)", message)[1])
    said, likely = set(map(int, re.findall(r"\bline (\d+)", message))), {start, start + 1} if names else set(range(1, start + 1))
    assert skip < start and said & likely, message
    X = read_losses(path, skip_rows=skip)
    numbers = cells[start if names else start - 1:]
    width = len(numbers[0])
    names = names or (cells[skip] if skip < start - 1 else [f"f{j + 1}" for j in range(width)])[-X.shape[1]:]
    values = [[float(r[width - len(names) + j].replace(",", ".")) for r in numbers] for j in range(len(names))]
    lead = None if width == len(names) else [tuple(r[:width - len(names)]) for r in numbers]
    assert same(X, dict(zip(names, values)), lead), X.reset_index().head(3)


@pytest.mark.parametrize("case, rows", [("three header rows", "3"), ("two header rows", "2"), ("two header rows, no index", "2"), ("units", "2")])
def test_header_rows_are_counted(tmp_path, case, rows):
    message = refused(put(tmp_path, ABOVE[case][0]))
    assert re.search(rf"\b({rows}|{dict(zip('23', ['two', 'three']))[rows]})\b[\w -]{{0,20}}(header|name)", message), message


@pytest.mark.parametrize("skip, columns", [(1, ["fire", "hail"]), (2, ["f1", "f2"])])
def test_skipped_lines_are_lines_of_the_file(tmp_path, skip, columns):
    """A blank line is a line, and so is a quoted one; errors go on counting from the first."""
    content = "\n" * (skip - 1) + "a title, and more\n"
    head = ["fire", "hail"] if columns[0] == "fire" else None
    body = lines(texts(A), texts(B), head=head)
    assert same(read_losses(put(tmp_path, content + body), skip_rows=skip), dict(zip(columns, LOSSES.values())))
    refused(put(tmp_path, content + body + "1.5,?\n"), f"line {skip + len(body.splitlines()) + 1}", columns[1], skip_rows=skip)


# Advice

def test_a_repeated_mark_is_missing(tmp_path):
    for mark, at in (("-999", [4, 9]), ("-9999", [2, 5, 8]), ("-99.9", [3, 4, 5])):
        rain = texts(A)
        for i in at: rain[i] = mark
        message = refused(put(tmp_path, lines(DAYS, rain, texts(B), head=["date", "rain", "snow"])), f"line {at[0] + 2}", "rain", mark, "missing")
        assert "absolute" not in message


@pytest.mark.parametrize("names", [["AAPL", "MSFT"], ["Mkt-RF", "SMB"], ["f1", "f2"]])
def test_returns_are_told_of_raw_margins(tmp_path, names):
    returns = [[("-" if (i * 7 + j) % 3 == 0 else "") + t for i, t in enumerate(texts(k, 4))] for j, k in enumerate((A, B))]
    path = put(tmp_path, lines(DAYS, *returns, head=["Date", *names]))
    message = refused(path, names[0], names[1], "margins", "raw", "absolute")
    assert re.search("log-?returns", message)
    assert same(read_losses(path, allow_negative=True), {n: [float(t) for t in r] for n, r in zip(names, returns)}, DAYS)


def test_a_missing_cell_costs_no_column(tmp_path):
    for mark in (".", "", "NA", "?"):
        assert "drop the column" not in refused(put(tmp_path, spoilt(7, mark)), "line 7", "fire", "missing")


WIDE = [column() for _ in range(24)]


@pytest.mark.parametrize("cell", ["-1.5", ".", "12%", "abc"])
def test_all_bad_columns_are_named_at_once(tmp_path, cell):
    wide = [texts(ks) for ks in WIDE]
    for j, x in enumerate(wide): x[j % 5] = cell
    good = texts(A)
    message = refused(put(tmp_path, lines(good, *wide, head=["fire", *(f"c{j}" for j in range(24))])), "24", "c0", "c1")
    assert "fire" not in message
    two = texts(A), texts(B), texts(C)
    two[0][3], two[2][6] = "x", "."
    refused(put(tmp_path, lines(*two, head=["fire", "hail", "storm"])), "line 5", "fire", "line 8", "storm")


# Files

PLAIN = lines(texts(A), texts(B), sep="\t", head=["fire", "hail"])


@pytest.mark.parametrize("name, what", [("a.parquet.gz", "parquet.gz"), ("a.pq.xz", "pq.xz"), ("a.xlsx.gz", "xlsx.gz"), ("a.xlsx", "xlsx")])
def test_only_csv_files_may_be_packed(tmp_path, name, what):
    with pytest.raises(ValueError, match=f"cannot read '.{what}'"):
        read_losses(put(tmp_path, b"PAR1", name[1:]))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".tab", ".txt", ".dat", ".TXT"])
@pytest.mark.parametrize("packed, pack", [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".GZ", gzip.compress)])
def test_suffixes(tmp_path, suffix, packed, pack):
    assert same(read_losses(put(tmp_path, pack(PLAIN.encode()), suffix + packed)), LOSSES)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix, pack", [(".txt", bytes), (".csv.gz", gzip.compress)])
def test_unicode(tmp_path, encoding, suffix, pack):
    text = lines(texts(A, 2, ","), texts(B, 2, ","), sep="\t", head=["Höhe", "Größe"], end="\r\n")
    assert same(read_losses(put(tmp_path, pack(text.encode(encoding)), suffix)), {"Höhe": floats(A), "Größe": floats(B)})


@pytest.mark.parametrize("encoding, head, line", [("latin-1", "Höhe;Schäden", 1), ("cp1252", "Beitrag €;Größe", 1), ("latin-1", "a;b", 9)])
def test_other_encodings(tmp_path, encoding, head, line):
    content = lines([f"{'Köln' if i == 7 else 'Bonn'} {i}" for i in range(N)] if line > 1 else DAYS, texts(A, 2, ","), texts(B, 2, ","), sep=";", head=["Ort", head])
    path = put(tmp_path, content, encoding=encoding)
    message = refused(path, f"line {line}", "encoding=")
    assert "codec" not in message and re.search("cp1252|latin-1", message)
    X = read_losses(path, encoding=encoding)
    assert same(X, dict(zip(head.split(";"), LOSSES.values())), [l.split(";")[0] for l in content.splitlines()[1:]])


# Columns that are losses, whatever they look like

def honest():
    """name: values, each of 40 rows, that are no labels."""
    rng = np.random.default_rng(4)
    n = 40
    heavy = (rng.pareto(1.5, n) * 1000 + 100).round(2)
    euros = np.unique(rng.integers(100, 90_000, 200))
    return {
        "sorted losses": np.sort(heavy), "losses from the largest": np.sort(heavy)[::-1], "sorted whole euros": np.sort(rng.permutation(euros)[:n]), "unique whole euros": rng.permutation(euros)[:n],
        "claims": rng.poisson(3, n), "score": rng.integers(1, 11, n), "indicator": np.r_[0, 1, rng.integers(0, 2, n - 2)], "share": rng.random(n).round(3), "rounded": rng.integers(1, 400, n) * 500,
        "visits": rng.integers(1900, 2100, n), "days_to_settlement": rng.integers(5, 900, n), "number_of_claims": rng.poisson(8, n), "paid": rng.permutation(euros)[-n:], "valid_claims": rng.poisson(20, n),
        "time_to_report": np.sort(rng.integers(1, 400, n)), "incidents": rng.integers(0, 60, n), "datacenter_loss": rng.integers(10 ** 5, 10 ** 7, n), "yearly_max": (rng.gumbel(40, 9, n)).round(1),
        "sum insured": rng.integers(15 * 10 ** 6, 40 * 10 ** 6, n), "exposure": rng.integers(10 ** 8, 9 * 10 ** 9, n), "monthly_premium": rng.integers(20, 300, n), "identity_theft": rng.integers(1, 5000, n),
        "rain": (np.maximum(rng.normal(0, 5, n), 0)).round(1), "cumulated": np.cumsum(rng.integers(1, 90, n)), "update_cost": np.sort(rng.integers(50, 60, n)), "rowing_accidents": rng.poisson(2, n),
    }


@pytest.mark.parametrize("place", ["first", "last", "first, no names", "last, no names"])
@pytest.mark.parametrize("name", honest())
def test_honest_columns_are_losses(tmp_path, name, place):
    x, other = honest()[name], (np.random.default_rng(5).pareto(2, 40) * 50 + 1).round(2)
    names, columns = [name, "other loss"], [x, other]
    if place.startswith("last"): names, columns = names[::-1], columns[::-1]
    content = lines(*(map(repr, c.tolist()) for c in columns), head=None if "no names" in place else names)
    X = read_losses(put(tmp_path, content))
    assert same(X, dict(zip(["f1", "f2"] if "no names" in place else names, columns))), X.reset_index().head(3)


# What the message says is done to the letter

def fit(path, folder, *more):
    return main(["fit", str(path), "--out", str(folder), "--epochs", "1", "--model", "vae", *more, "--param", "compile=false", "encoder=[4]", "decoder=[4]"])


def advice(err):
    """(arguments to add, line to delete, whether what follows goes with it): the first that a message offers."""
    word = r"(?:'[^']*'|[^\s')]+)"
    option, cut = re.search(rf"\((--[a-z-]+(?: {word})+)\)", err), re.search(r"delete line (\d+)( and what follows)?", err)
    assert option or cut, f"no advice: {err}"
    if cut and not (option and option.start() < cut.start()): return [], int(cut[1]), bool(cut[2])
    return shlex.split(option[1]), None, False


def month(i):
    return 202201 + i % 12 + 100 * (i // 12)


SIGNED = [[("-" if (i + j) % 3 == 0 else "") + t for i, t in enumerate(texts(k, 4))] for j, k in enumerate((A, B))]
STORY = {       # content, encoding, the columns of the model
    "a URL": (ABOVE["a URL"][0], "utf-8", ["open", "close"]),
    "three header rows": (ABOVE["three header rows"][0], "utf-8", ["f2", "f3", "f4", "f5", "f6"]),
    "prose": (ABOVE["prose"][0], "utf-8", ["SMB", "HML"]),
    "comments": (ABOVE["comments"][0], "utf-8", ["rain", "snow"]),
    "units": (ABOVE["units of a river"][0], "utf-8", ["f3", "f4"]),
    "a footer": (REFUSED["a footer below a blank line"][0], "utf-8", ["A", "B"]),
    "a second table": (PROSE + lines(map(month, range(N)), texts(A), texts(B), head=["", "SMB", "HML"]) + "\n Annual Factors: January-December\n"
                       + lines(range(1997, 2020), texts(A[1:]), texts(B[1:]), head=["", "SMB", "HML"]) + "\nCopyright 2023 Kenneth R. French\n", "utf-8", ["SMB", "HML"]),
    "a total": (REFUSED["a last row that is the sum after dates"][0], "utf-8", ["fire", "hail"]),
    "a mean": (REFUSED["a last row that is the mean"][0], "utf-8", ["fire", "hail"]),
    "repeated policy_id": (REFUSED["repeated policy_id"][0], "utf-8", ["fire", "hail"]),
    "Policy ID": (REFUSED["Policy ID at the end"][0], "utf-8", ["fire", "hail"]),
    "ClaimNumber": (REFUSED["ClaimNumber at the end"][0], "utf-8", ["fire", "hail"]),
    "two kinds of labels": (lines(IDS, texts(A), ["north", "south"] * 12, texts(B), DAYS, head=["IDpol", "fire", "region", "hail", "reported"]), "utf-8", ["fire", "hail"]),
    "a year and its quarters": (REFUSED["a year and its quarters"][0], "utf-8", ["fire", "hail"]),
    "latin-1": (lines(texts(A, 2, ","), texts(B, 2, ","), sep=";", head=["Höhe", "Größe"]), "latin-1", ["Höhe", "Größe"]),
    "ambiguous marks": (lines(*AMBIGUOUS, sep=";", head=["a", "b"]), "utf-8", ["a", "b"]),
    "returns": (lines(DAYS, *SIGNED, head=["Date", "AAPL", "MSFT"]), "utf-8", ["AAPL", "MSFT"]),
    "a line too long": (lines(texts(A), texts(B), head=["a", "b"]) + "1.5,2.5,3.5\n", "utf-8", ["a", "b"]),
}


@pytest.mark.parametrize("case", STORY)
def test_the_message_followed_to_the_letter(tmp_path, capsys, case):
    """Refused; what the message says is done, once for each thing that is wrong; then fitted, on the right table."""
    content, encoding, columns = STORY[case]
    path, more = put(tmp_path, content, encoding=encoding), []
    for step in range(4):
        status = fit(path, tmp_path / "m", *more)
        out, err = capsys.readouterr()
        if status == 0: break
        assert status == 2 and not (tmp_path / "m").exists() and "Traceback" not in err
        arguments, line, below = advice(err)
        kept = path.read_bytes().splitlines(keepends=True)
        if line: path.write_bytes(b"".join(kept[:line - 1] + ([] if below else kept[line:])))
        more += arguments
    assert status == 0 and 1 <= step <= (3 if case == "a second table" else 2 if case == "two kinds of labels" else 1), (step, err, more)
    model = load(tmp_path / "m")
    assert list(model.columns_) == columns and list(model.sample(3, random_state=0)) == columns
    report = [line for line in out.splitlines() if all(c in line for c in columns)]
    assert report and re.search(rf"\b{N} rows\b", report[0]), out


@pytest.mark.parametrize("case, options", [("repeated policy_id", ["--index", "policy_id"]), ("latin-1", ["--encoding", "latin-1", "--sep", ";", "--decimal", ","]),
                                           ("comments", ["--skip-rows", "2"]), ("two kinds of labels", ["--columns", "fire", "hail"]),
                                           ("a year and its quarters", ["--columns", "Year", "hail"])])
def test_what_was_fitted_is_scored_with_the_same_options(tmp_path, capsys, case, options):
    """They speak of the real rows: what `sample` has written needs none."""
    content, encoding, columns = STORY[case]
    real, fake = put(tmp_path, content, encoding=encoding), tmp_path / "fake.csv"
    assert fit(real, tmp_path / "m", *options) == 0
    assert main(["sample", str(tmp_path / "m"), "-n", "30", "--out", str(fake), "--quiet"]) == 0
    for more in ([], ["--train", str(real)]):
        assert main(["score", str(real), str(fake), "--reps", "1", "--quiet", *more, *options]) == 0, capsys.readouterr().err


# Thirty conventions

def convention(**how):
    return SimpleNamespace(**dict(sep=",", mark=".", group="", quote="needed", encoding="utf-8", end="\n", header=True, rows="none", tail="", pad="", first="", suffix=".csv", style="plain") | how)


CONVENTIONS = {
    "plain": convention(), "everything quoted": convention(quote="all"), "Windows": convention(end="\r\n", encoding="utf-8-sig"),
    "thousands commas": convention(group=","),
    "thousands commas, tabs": convention(sep="\t", group=",", suffix=".tsv"), "pipes": convention(sep="|", end="\r\n"), "blank after comma": convention(pad=" "), "no names": convention(header=False),
    "commas at the end": convention(tail=","), "gzip": convention(suffix=".csv.gz"), "exponents": convention(style="exponents"), "aligned": convention(style="aligned", sep=" ", quote="never", suffix=".dat"),
    "R write.table": convention(sep=" ", quote="names", rows="R", suffix=".txt"), "R write.table, no row names": convention(sep=" ", quote="names", suffix=".txt"),
    "R write.csv": convention(quote="names", rows="names"), "R write.csv2": convention(sep=";", mark=",", quote="names", rows="split"), "pandas": convention(rows="running"),
    "pandas, dates": convention(rows="dates"), "stations and dates": convention(rows="stations"), "dates as numbers": convention(sep=";", rows="ymd"),
    "policies": convention(rows="policies", group="'", sep=";"),
    "German": convention(sep=";", mark=",", rows="German dates"), "German with points": convention(sep=";", mark=",", group=".", first="sep=;\r\n", end="\r\n"),
    "German in quotes": convention(mark=",", group=".", quote="all"), "French": convention(sep=";", mark=",", group="\u202f", header=False),
    "Excel's Unicode text": convention(sep="\t", mark=",", group="\xa0", encoding="utf-16", end="\r\n", suffix=".txt"),
    "Swiss": convention(sep="\t", group="’", suffix=".tab"),
    # these cannot be read without being told, or not at all
    "latin-1": convention(sep=";", mark=",", encoding="latin-1"), "unquoted decimal commas": convention(mark=",", quote="never"), "Indian": convention(group="lakh"),
}
UNREADABLE = {"unquoted decimal commas", "Indian"}
NAMES = ["fire", "Größe", "storm", "hail", "net loss", "Paid", "x.1", "alae, net", "claims", "Wasser", "loss (EUR)", 'so-called "loss"']


@st.composite
def drawn(draw):
    """(names, decimals and numbers of each column): sizes, decimals and ties of all sorts; some as hard as can be, where three digits follow each mark."""
    n, d = draw(st.integers(20, 32)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32 - 1)))
    columns, common = [], draw(st.sampled_from([None, None, 0, 3]))
    for _ in range(d):
        decimals, size = draw(st.sampled_from([2, 2, 2, 0, 0, 1, 3, 4])), draw(st.sampled_from([1, 2, 3, 3, 4, 5, 6, 7]))
        if common is not None: decimals, size = common, 6 - common
        ks = np.floor(10 ** (rng.uniform(0 if common else -1, size, n) + decimals)).astype(int)
        special = [] if common is not None else draw(st.lists(st.sampled_from([0, 1, 10 ** decimals, 1000 * 10 ** decimals, 999_999 * 10 ** decimals, 10 ** (decimals + 6), 2020 * 10 ** decimals]), max_size=3))
        ks[:len(special)] = special
        how = draw(st.sampled_from(["as drawn", "as drawn", "as drawn", "sorted", "shuffled"]))
        columns.append((decimals, (np.sort(ks) if how == "sorted" else rng.permutation(ks) if how == "shuffled" else ks).tolist()))
    return draw(st.permutations(NAMES))[:d], columns


def ordinary(seed):
    """Two columns of heavy-tailed amounts in cents, and counts."""
    rng = np.random.default_rng(seed)
    amounts = [np.floor(np.exp(rng.normal(11, 2, 60))).astype(int) + 1 for _ in range(2)]
    amounts[0][0] = 123_456_789
    return ["Größe", "net loss", "claims"], [(2, amounts[0].tolist()), (2, amounts[1].tolist()), (0, rng.poisson(2, 60).tolist())]


def number(k, decimals, how):
    if how.style == "exponents": return f"{Decimal(k).scaleb(-decimals):E}"
    if how.group != "lakh": return say(k, decimals, how.mark, how.group)
    whole, *part = say(k, decimals).split(".")
    return ".".join([re.sub(r"(?<=\d)(?=(\d\d)*\d{3}$)", ",", whole), *part])


def row_labels(kind, n):
    """The names of the label columns (None: no cell in the header), and the labels."""
    days = pd.date_range("2022-11-28", periods=n)
    numbers = np.random.default_rng(n).permutation(5 * n)[:n]
    return {"none": ([], [()] * n), "running": ([""], [(str(i),) for i in range(n)]), "R": (None, [(str(i + 1),) for i in range(n)]), "names": ([""], [(f"case {i}",) for i in range(n)]),
            "split": ([""], [(str(i),) for i in np.sort(numbers)]), "dates": (["date"], [(f"{d:%Y-%m-%d}",) for d in days]), "German dates": (["Datum"], [(f"{d:%d.%m.%Y}",) for d in days]),
            "stations": (["station", "date"], [("Linz" if i % 2 else "Graz", f"{d:%Y-%m-%d}") for i, d in enumerate(days)]), "ymd": (["DATE"], [(f"{d:%Y%m%d}",) for d in days]),
            "policies": (["policy_id"], [(str(700_000 + i),) for i in numbers])}[kind]


def written(how, names, columns):
    """(bytes, {name: floats}, row labels) of a table in a convention."""
    names, columns = list(names), list(columns)
    if how.quote == "never": names = [re.sub(r'[ ,"]+', "_", c) for c in names]
    if not how.header or how.mark == "," == how.sep:     # whole numbers alone may be names, or thousands
        columns = [(max(d, 2), ks) for d, ks in columns]
    lead, rows = row_labels(how.rows, len(columns[0][1]))

    def cell(text, is_name):
        blank = how.sep == " "
        needed = how.sep in text or '"' in text or (blank and re.search(r"\s", text))
        quote = how.quote == "all" or (how.quote == "names" and is_name) or (how.quote != "never" and needed)
        return '"' + text.replace('"', '""') + '"' if quote else text

    head = [[cell(c, True) for c in (lead or []) + names]] if how.header else []
    body = [[cell(c, True) for c in row] + [cell(number(ks[i], d, how), False) for d, ks in columns] for i, row in enumerate(rows)]
    cells = head + body
    if how.style == "aligned": cells = [[f"{c:>14}" for c in row] for row in cells]
    text = how.first + "".join((how.sep + how.pad).join(row) + how.tail + how.end for row in cells)
    content = text.encode(how.encoding)
    expected = names if how.header else [f"f{len(lead or []) + j + 1}" for j in range(len(names))]
    values = {c: floats(ks, d) for c, (d, ks) in zip(expected, columns)}
    return gzip.compress(content) if how.suffix.endswith(".gz") else content, values, None if how.rows == "none" else rows


def outcome(path, how, table, **options):
    """'' if the file gives the table back, else what the error says; never another table."""
    content, columns, rows = written(how, *table)
    path = path.with_suffix(how.suffix)
    path.write_bytes(content)
    try:
        X = read_losses(path, **options)
    except ValueError as e:
        assert re.search(r"\blines? \d|column '|\b(index|columns|sep|decimal|thousands|encoding|skip_rows)=", str(e)), e
        return str(e)
    assert same(X, columns, rows), (content[:300], X.reset_index().head(4))
    return ""


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_table_in_any_convention_is_read_or_refused(tmp_path, full, name):
    @settings(max_examples=300 if full else 8, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(drawn())
    def check(table):
        outcome(tmp_path / "t", CONVENTIONS[name], table)
    check()


def test_ordinary_tables_are_read_in_most_conventions(tmp_path):
    refusals = {}
    for name, how in CONVENTIONS.items():
        errors = [e for e in (outcome(tmp_path / "t", how, ordinary(seed)) for seed in range(3)) if e]
        if errors: refusals[name] = errors[0]
    print(*(f"{name}: {error}" for name, error in refusals.items()), sep="\n")
    assert len(CONVENTIONS) == 30 and len(CONVENTIONS) - len(refusals) >= 24, refusals


@pytest.mark.parametrize("name", sorted(set(CONVENTIONS) - UNREADABLE))
def test_a_convention_that_is_told_is_read(tmp_path, name):
    how = CONVENTIONS[name]
    told = dict(decimal=how.mark, encoding=how.encoding) | ({"sep": how.sep} if how.style != "aligned" else {}) | ({"thousands": how.group} if how.group else {})
    for seed in range(3):
        assert outcome(tmp_path / "t", how, ordinary(seed), **told) == ""


# Files like those of public sources, each of which a more trusting reader takes for something else

R = range(N)
XY = [f"{i * 37 % 101}.5,{i * 53 % 97}.25" for i in R]


def dated(extra="", at=None, cell=None, mark=None):
    """date,x,y, with one line more or one cell changed."""
    rows = [f"{d},{xy}" for d, xy in zip(DAYS, XY)]
    if at is not None: rows[at] = cell
    return "date,x,y\n" + "\n".join(rows) + "\n" + extra


def beside(name, values):
    """A column at the end of two losses."""
    return f"x,y,{name}\n" + "".join(f"{xy},{v}\n" for xy, v in zip(XY, values, strict=True))


STAMPS = pd.date_range("2024-01-22", periods=N, freq="37h")
BUSINESS = pd.bdate_range("2024-01-22", periods=N)
SERIALS = [(d - pd.Timestamp("1899-12-30")).days for d in BUSINESS]
TRIED = {
    "years above amounts": ("country,1990,2000,2010\n" + "".join(f"C{i},{1000 + 37 * i * i % 977},{2500 + 91 * i * i % 883},{700 + 53 * i * i % 991}\n" for i in R), "read"),
    "years above the amounts of countries": ("country,1990,2000,2010\n" + "".join(f"{a}{b},{1000 + 37 * ord(a) * ord(b) % 977},{2500 + ord(a) * ord(b) % 83},{700 + 53 * ord(b) % 91}\n"
                                                                                     for a in "ABCD" for b in "EFGHIJ"), "read"),
    "quantiles above fractions": ("region,0.5,0.9,0.99\n" + "".join(f"C{i},{xy},{i * 29 % 89}.5\n" for i, xy in enumerate(XY)), "read"),
    "return periods": ("10,50,100\n" + "".join(f"{1000 + 37 * i * i % 977},{2500 + 91 * i * i % 883},{700 + 53 * i * i % 991}\n" for i in R), "line 1"),
    "a word and years": ("premium,2019,2020\n" + "".join(f"{xy},{i * 29 % 89}.75\n" for i, xy in enumerate(XY)), "read"),
    "percentages as names": ("region,5%,50%,95%\n" + "".join(f"C{i},{xy},{i * 29 % 89}.5\n" for i, xy in enumerate(XY)), "read"),
    "a decimal comma after a date": ("Date,Loss\n" + "".join(f"{d},{100 + i * 37 % 101},{10 + i * 53 % 89}\n" for i, d in enumerate(DAYS)), "line 2"),
    "a rounded total by its label": ("region,loss,ratio\n" + "".join(f"C{i},{xy}\n" for i, xy in enumerate(XY)) + "Total,1200,0.381\n", f"line {N + 2}"),
    "two lines of summaries": ("region,loss,ratio\n" + "".join(f"C{i},{xy}\n" for i, xy in enumerate(XY)) + "Total,33000,0.381\nAverage,50,0.4\n", f"line {N + 2}"),
    "a subtotal": ("region,loss,ratio\n" + "".join(f"{'2010 Total' if i == 9 else f'C{i}'},{xy}\n" for i, xy in enumerate(XY)), "line 11"),
    "hours": (beside("MESS_DATUM", STAMPS.strftime("%Y%m%d%H")), "MESS_DATUM"),
    "minutes": (beside("stamp", STAMPS.strftime("%Y%m%d%H%M")), "stamp"),
    "serial days": (beside("Datum", SERIALS), "Datum"),
    "weeks": (beside("epi", [202430 + i for i in R][:N]), "epi"),
    "quarters": (beside("TIME", [10 * (2018 + i // 4) + 1 + i % 4 for i in R]), "TIME"),
    "decimal years": (beside("decimal date", [f"{2001 + (i + 0.5) / 12:.4f}" for i in R]), "decimal date"),
    "times of day": (beside("time", [100 * (i % 24) + (i * 7) % 60 for i in R]), "time"),
    "two-digit years": (beside("day", STAMPS.strftime("%y%m%d")), "day"),
    "days first": (beside("d", STAMPS.strftime("%d%m%Y")), "'d'"),
    "irregular stamps": (beside("t", np.cumsum(np.r_[1_704_067_200_123, rng.integers(1, 90_000, N - 1)])), "'t'"),
    "building years": (beside("YearBuilt", rng.permutation(range(1950, 1950 + 3 * N, 3))), "YearBuilt"),
    "claim years in German": (beside("Schadenjahr", rng.integers(2001, 2023, N)), "Schadenjahr"),
    "months in German": (beside("Monat", rng.integers(1, 13, N)), "Monat"),
    "days of the week": (beside("day_of_week", rng.integers(0, 7, N)), "day_of_week"),
    "contract numbers in German": (beside("Vertragsnummer", IDS), "Vertragsnummer"),
    "postcodes": (beside("PLZ", [f"{1067 + 411 * i:05d}" for i in R]), "PLZ"),
    "nines for missing": ("date,temp,slp\n" + "".join(f"{d},{i * 37 % 41}.5,{'9999.9' if i % 5 == 2 else f'10{i * 53 % 30:02}.2'}\n" for i, d in enumerate(DAYS)), "slp", "9999.9", "missing"),
    "a comment at the end": (dated("# gap, 1, 2\n"), f"line {N + 2}"),
    "a row commented out": (dated(at=5, cell="#2024-01-27,1.5,2.5"), "line 7"),
    "an open quote": ("d,x,y\n" + "".join(f"{chr(34) * (i in (5, 9))}n{i},{xy}\n" for i, xy in enumerate(XY)), "quote"),
    "rupees": ("date,paid,x,y\n" + "".join(f"{d},₹{100 + i}.5,{xy}\n" for i, (d, xy) in enumerate(zip(DAYS, XY))), "line 2", "paid", "₹100.5"),
    "kroner": ("date,paid,x,y\n" + "".join(f"{d},kr {100 + i}.5,{xy}\n" for i, (d, xy) in enumerate(zip(DAYS, XY))), "line 2", "paid", "kr 100.5"),
    "Excel's formulas": ("date,paid,x,y\n" + "".join(f"{d},=\"{100 + i}.5\",{xy}\n" for i, (d, xy) in enumerate(zip(DAYS, XY))), "line 2", "paid"),
    "mostly dashes": ("date,a,x,y\n" + "".join(f"{d},{'---' if i < 15 else f'{i * i % 37}.5'},{xy}\n" for i, (d, xy) in enumerate(zip(DAYS, XY))), "line 2", "'a'", "missing"),
    "a first row of missing cells": (dated(at=0, cell="2024-01-22,,"), "line 2", "missing"),
    "another label above the same": ("New York,12.5,9.25\n" + "".join(f"{'Boston Chicago Denver'.split()[i % 3]},{xy}\n" for i, xy in enumerate(XY[1:])), "rows"),
    "falling years": ("country,2010,2000,1990\n" + "".join(f"{'Boston Chicago Denver'.split()[i % 3]},{1000 + 37 * i * i % 977},{2500 + 91 * i * i % 883},{700 + 53 * i * i % 991}\n" for i in R), "read"),
    "falling years alone": ("2010,2000,1990\n" + "".join(f"{1000 + 37 * i * i % 977},{2500 + 91 * i * i % 883},{700 + 53 * i * i % 991}\n" for i in R), "line 1"),
    "numbers as R's %g writes them": ("3,4\n0,0\n" + "".join(f"{i * 37 % 101 / 2:g},{i * 53 % 97 / 4:g}\n" for i in R), "line 1"),
    "sorted and without names": ("".join(f"{a}\t{b}\n" for a, b in zip(sorted(float(xy.split(",")[0]) for xy in XY), sorted(float(xy.split(",")[1]) + 2 for xy in XY))), "rows"),
    "a loss right of labels": ("place,Rx1day,x,y\n" + "".join(f"Boston{i},{i * 7 % 31},{xy}\n" for i, xy in enumerate(XY)), "read"),
    "a group code of Schedule P": (beside("GRCODE", [i // 6 * 117 + 43 for i in R]), "GRCODE"),
    "NASA's months": (beside("MO", rng.integers(1, 13, N)), "'MO'"),
    "days of the year": (beside("DOY", rng.integers(1, 366, N)), "DOY"),
    "zip codes of any length": (beside("zipcode", rng.integers(501, 99_999, N)), "zipcode"),
    "days with hours": (beside("Datum", [f"{45_000 + k / 100:.2f}" for k in rng.integers(0, 90_000, N)]), "Datum"),
    "a total in words": ("region,loss,ratio\n" + "".join(f"C{i},{xy}\n" for i, xy in enumerate(XY)) + "Total (all regions),1200,0.381\n", f"line {N + 2}"),
    "a department called Somme": ("dep,x,y\n" + "".join(f"{'Somme' if i == 9 else f'Ain{i}'},{xy}\n" for i, xy in enumerate(XY)), "read"),
    "an empty column": ("date,x,y,notes\n" + "".join(f"{d},{xy},\n" for d, xy in zip(DAYS, XY)), "notes", "--columns x y"),
    "a constant column": ("date,x,y,site\n" + "".join(f"{d},{xy},7\n" for d, xy in zip(DAYS, XY)), "site", "--columns x y"),
    "the Met Office": ("Aberporth\nLocation 224100E 252100N\nSite closed\n   yyyy  mm   tmax    rain\n              degC      mm\n"
                       + "".join(f"   {1990 + i // 12}  {i % 12 + 1}   {i * 37 % 23}.5   {i * 53 % 97}.2\n" for i in R), "skip_rows=5"),
    "numpy's header": ("# fire hail\n" + "".join(xy.replace(",", " ") + "\n" for xy in XY), "skip_rows=1"),
    "the World Bank": ('"Data Source","World Development Indicators",\n\n"Last Updated Date","2024-06-28",\n\n' + '"Country Name","Country Code","2001","2002","2003",\n'
                       + "".join(f'"Land {i}","L{i}","{xy.split(",")[0]}","{xy.split(",")[1]}","{i * 29 % 89}.5",\n' for i, xy in enumerate(XY)), "skip_rows=4"),
    "many comments": ("# some words about it\n" * 80 + dated(), "skip_rows=80"),
    "aligned, with one tab": ("d\tx   y\n" + "".join(f"{i}.5\t{xy.replace(',', '   ')}\n" for i, xy in enumerate(XY)), "read or sep="),
}


@pytest.mark.parametrize("case", TRIED)
def test_files_like_those_of_public_sources(tmp_path, case):
    content, *words = TRIED[case]
    path = put(tmp_path, content)
    if words == ["read or sep="]:
        try: assert read_losses(path).shape == (N, 3)
        except ValueError as e: assert "sep=" in str(e)
    elif words == ["rows"]:
        assert len(read_losses(path)) == len(content.splitlines())
    elif words == ["read"]:
        head, *rows = [line.split(",") for line in content.splitlines()]
        X = read_losses(path)
        assert same(X, {name: [float(r[j]) for r in rows] for j, name in enumerate(head) if j or head[0] == "premium"}, None if head[0] == "premium" else [r[0] for r in rows])
    else:
        refused(path, *words)


LABELS = [("uuid", [f"17040672001234{567890 + i * 30977}" for i in R]), ("policy_id", [f"{11 + 7 * i:06d}" for i in R]), ("id", [f"{17040672001234560 + i}99" for i in R])]


def test_a_panel_is_labelled_by_both_of_its_keys(tmp_path):
    X = read_losses(put(tmp_path, "firm,t,x,y\n" + "".join(f"{'abcd'[i // 6]},{i % 6},{xy}\n" for i, xy in enumerate(XY))))
    assert list(X) == ["x", "y"] and labels(X) == [("abcd"[i // 6], str(i % 6)) for i in R]
    refused(put(tmp_path, beside("t", [i % 6 for i in R])), "'t'", "index=")


@pytest.mark.parametrize("name, ids", LABELS)
def test_labels_are_as_they_are_written(tmp_path, name, ids):
    X = read_losses(put(tmp_path, f"{name},x,y\n" + "".join(f"{i},{xy}\n" for i, xy in zip(ids, XY))))
    assert [str(i) for i in X.index] == ids and list(X) == ["x", "y"]


@pytest.mark.parametrize("name, x", [("Paid to date", rng.integers(1000, 90_000, N)), ("Claims/Day", rng.integers(1, 30, N)), ("claims per month", rng.integers(1, 12, N)),
                                     ("Number", rng.integers(0, 5000, N)), ("Damage Index", rng.integers(1, 400, N)), ("wait_time", rng.integers(100, 999, N)), ("yearly", rng.integers(1850, 2050, N)),
                                     ("candidates", rng.integers(20_000, 60_000, N)), ("max_1_day", rng.integers(3, 31, N)), ("repair_time", rng.integers(2, 20, N) * 50),
                                     ("flag", np.eye(1, N, 7, dtype=int)[0] + np.eye(1, N, 20, dtype=int)[0]), ("few", np.r_[np.zeros(7, int), 1, 2, np.zeros(N - 9, int)]), ("payout", np.r_[np.zeros(N - 6, int), [999] * 6]),
                                     ("exposure", np.cumsum(rng.integers(1, 9, N))), ("valid", np.sort(rng.integers(0, 9, N))), ("mmx", rng.integers(1, 12, N))])
def test_honest_columns_with_suspicious_names(tmp_path, name, x):
    for columns in ([name, "x", "y"], ["x", "y", name]):
        values = {name: x.tolist(), "x": [float(xy.split(",")[0]) for xy in XY], "y": [float(xy.split(",")[1]) for xy in XY]}
        content = ",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in zip(*(values[c] for c in columns)))
        assert same(read_losses(put(tmp_path, content)), {c: list(map(float, values[c])) for c in columns})


@pytest.mark.parametrize("options, word", [(dict(columns=["x", "y"], index=["x"]), "both"), (dict(thousands="."), "line 2"), (dict(encoding=5), "encoding"), (dict(encoding="utf-16-le"), "2 columns")])
def test_options_that_do_not_fit(tmp_path, options, word):
    with pytest.raises(ValueError, match=word) as error:
        read_losses(put(tmp_path, dated()), **options)
    assert not re.search("object has no|not in index|empty sequence|must be str", str(error.value))


def test_a_long_file_is_read_as_a_short_one(tmp_path):
    long = dated().splitlines()[:1] + [f"{d},{XY[i % N]}" for i, d in enumerate(pd.date_range("2000-01-01", periods=700).strftime("%Y-%m-%d"))]
    for change in (lambda l: l + "\t", lambda l: l.replace(",", ", "), lambda l: l + "\xa0"):
        X = read_losses(put(tmp_path, "\n".join([long[0], *map(change, long[1:])])))
        assert X.shape == (700, 2) and X.x.iloc[0] == 0.5
    refused(put(tmp_path, "\n".join(long) + "\n# gap, 1, 2\n"), "line 702")
    assert len(read_losses(put(tmp_path, "\n".join(long) + "\n,,\n"))) == 700
    refused(put(tmp_path, "\n".join([*long[:300], "2000-10-27,1.5", *long[300:]])), "line 301")


def test_a_large_table_is_asked_the_same(tmp_path, monkeypatch):
    """Of a parquet file that is only opened, the first rows tell which columns are losses."""
    from genmod_nb import tables as room
    from genmod_nb.baselines import Independent
    monkeypatch.setattr(room, "LARGE", 100)
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"fire": rng.random(300), "policy_id": pd.array(np.arange(300) // 2, dtype="Int64"), "hail": rng.random(300), "region": ["n", "s", None] * 100})
    X.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="policy_id.*region.*index=.*columns="):
        room.open_losses(tmp_path / "t.parquet")
    said = []
    data = room.open_losses(tmp_path / "t.parquet", columns=["hail", "fire"], report=said.append)
    assert data.schema.names == ["hail", "fire"] and list(Independent().fit(data).sample(3)) == ["hail", "fire"]
    assert said == ["300 rows of hail, fire; left out: policy_id, region"]
    data = room.open_losses(tmp_path / "t.parquet", index=["policy_id", "region"])
    assert data.schema.names == ["fire", "hail"] and len(list(room.pieces(data, 100))) == 3


def test_states_are_no_identifiers(tmp_path):
    content = "ID,IL,IN,NO\n" + "".join(f"{(i * 37) % 211},{xy},{i * i % 19}\n" for i, xy in enumerate(XY))
    assert list(read_losses(put(tmp_path, content))) == ["ID", "IL", "IN", "NO"]


def test_parquet_holds_what_it_says(tmp_path):
    """Texts stay texts, categories of them too; identifiers keep their digits; a total is seen by its label."""
    x, y = (np.array([float(xy.split(",")[j]) for xy in XY]) for j in (0, 1))
    write = lambda **columns: pd.DataFrame(columns).to_parquet(tmp_path / "t.parquet")
    write(x=x, plz=[f"{1067 + 411 * i:05d}" for i in R], y=y)
    refused(tmp_path / "t.parquet", "plz", "text", "columns=")
    write(x=x, kind=pd.Categorical(["7", "21", "3", "4"] * 6), y=y)
    refused(tmp_path / "t.parquet", "kind")
    write(x=x, t=[f"{i + 1}_000" for i in R], y=y)
    refused(tmp_path / "t.parquet", "'t'")
    write(region=[*(f"C{i}" for i in R[1:]), "Total"], x=x, y=y)
    refused(tmp_path / "t.parquet", f"row {N - 1}", "Total")
    pd.DataFrame(dict(x=x, y=y), index=[*(f"C{i}" for i in R[1:]), "Total"]).to_parquet(tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", "Total")
    ids = [17040672001234567 + i * i for i in R]
    write(id=ids, x=x, y=[Decimal(str(v)) for v in y])
    X = read_losses(tmp_path / "t.parquet")
    assert list(X.index) == ids and list(X.y) == list(y)


def test_options_may_be_repeated(tmp_path, capsys):
    path = put(tmp_path, "policy_id,x,y,z,kind\n" + "".join(f"{i // 2},{xy},{i * 7 % 19}.5,a\n" for i, xy in enumerate(XY)))
    assert fit(path, tmp_path / "m", "--index", "policy_id", "--index", "kind") == 0
    assert "24 rows of x, y, z; labelled by policy_id, kind" in capsys.readouterr().out
    assert fit(path, tmp_path / "m", "--columns", "x", "--columns", "y") == 0
    assert list(load(tmp_path / "m").columns_) == ["x", "y"]


LENGTHY = {"blanks": "1" + " " * 200_000 + "x", "blanks before a comment": " " * 200_000 + "#", "commas": "1," * 50_000 + "x", "quotes": "'" * 100_000 + "1", "signs": "$" * 100_000, "digits": "9" * 100_000}


@pytest.mark.parametrize("cell", LENGTHY)
@pytest.mark.parametrize("n", [N, 700])
def test_no_cell_keeps_the_reader_busy(tmp_path, cell, n):
    rows = [XY[i % N] for i in range(n)]
    for at in (0, n - 1):
        path, start = put(tmp_path, "x,y\n" + "\n".join([*rows[:at], f"{LENGTHY[cell]};1,2.5", *rows[at + 1:]])), time.time()
        with pytest.raises(ValueError):
            read_losses(path)
        assert time.time() - start < 10


@pytest.mark.parametrize("paid", [[f"{i * 37 % 211:06d}" for i in R], [f"{10 ** 16 + 1024 * (i * 37 % 211)}" for i in R]])
def test_digits_that_look_like_a_code_are_losses_where_they_are_said_to_be(tmp_path, paid):
    path = put(tmp_path, beside("paid", paid))
    refused(path, "paid", "columns=")
    assert read_losses(path, columns=["x", "paid"]).paid.tolist() == [float(p) for p in paid]

