"""The CSV file of a folder as lines of cells: delimiter, quotes, columns. No TensorFlow."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from input_pipeline.datasets.any_folder.schema_file import OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from input_pipeline.datasets.any_folder.text_file import did_you_mean, name_key, read_text
from input_pipeline.errors import DataError, short

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_EXPECTED = "a CSV file with the columns path, split and one per attribute group"
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods")


@dataclass(frozen=True)
class LabelTable:
    """The rows of a CSV file that are not blank.

    columns: place of each known column among the cells. rows: (line in the file from 1, cells).
    warnings: sentences on columns that nobody knows.
    """

    file: Path
    columns: dict[str, int]
    rows: Sequence[tuple[int, list[str]]]
    warnings: Sequence[str]


def read_label_table(file: Path, group_names: Sequence[str], *, schema_file: Path) -> LabelTable:
    """Reads the file; cells are stripped, and each row has as many as the header.

    DataError: the file is missing or malformed, or lacks a column.
    """
    if not file.exists():
        raise DataError(_missing_file(file))
    text = read_text(file, expected=_EXPECTED)
    lines = _read_rows(file, text)
    _, header = lines[0]
    columns, warnings = _match_columns(file, header, group_names, schema_file)
    rows = lines[1:]
    if not rows:
        raise DataError(f"{file} has a header and no row: expected one row per image")
    for line, cells in rows:
        if len(cells) != len(header):
            what = "many" if len(cells) > len(header) else "few"
            raise DataError(
                f"{file}: line {line} has {len(cells)} cells, too {what} for the {len(header)} "
                "columns of the header: leave unknown cells empty but keep their delimiters, and "
                "put a cell that holds a delimiter in double quotes"
            )
    return LabelTable(file, columns, rows, warnings)


def _missing_file(file: Path) -> str:
    folder = file.parent
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    tables = [name for name in names if name.lower().endswith(_TABLE_SUFFIXES)]
    hint = (
        f"the folder has {', '.join(tables[:3])}: export it as CSV if it is a spreadsheet, and "
        "name it with --config.data.labels"
        if tables
        else f"expected {_EXPECTED}, docs/your_own_images.md has an example"
    )
    return f"the label file {file} does not exist; {hint}"


def _read_rows(file: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line, stripped cells) of the header and every row; at least the header."""
    # Lines as csv counts them: ended by \n, \r\n or \r.
    first = next(line for line in io.StringIO(text, newline=None) if line.strip())
    # What Excel writes into a first line of its own.
    told = re.fullmatch(r"\s*\"?sep=(.)\"?\s*", first, re.IGNORECASE)
    delimiter = told[1] if told else max(_DELIMITERS, key=first.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                rows.append((line, stripped))
            if reader.line_num > line and any("\n" in cell or "\r" in cell for cell in stripped):
                raise DataError(
                    f"{file}: a cell runs on from line {line} to line {reader.line_num}: close the "
                    'quote (") that opens it, or remove the line break'
                )
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}: {_csv_problem(str(error), line)}") from error
    if told:
        rows = rows[1:]
    if not rows:
        raise DataError(f"{file} is empty: expected {_EXPECTED}")
    return rows


def _csv_problem(message: str, line: int) -> str:
    if "field limit" in message:
        return (
            f"a cell of line {line} is longer than {csv.field_size_limit():,} characters: probably "
            'a quote (") that opens there never closes'
        )
    if "unexpected end" in message:
        return f'the quote (") that opens in line {line} never closes: close it or remove it'
    return (
        f'the row that begins in line {line} has text behind a closing quote ("): put the whole '
        "cell in quotes, and write a quote inside it twice"
    )


def _match_columns(
    file: Path, header: Sequence[str], group_names: Sequence[str], schema_file: Path
) -> tuple[dict[str, int], list[str]]:
    """Where each known column stands, and warnings for the others."""
    known = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *group_names)
    columns: dict[str, int] = {}
    extra = []
    for place, title in enumerate(header):
        name = name_key(title)
        if name not in known:
            extra.append(title or f"(column {place + 1}, without a name)")
        elif name in columns:
            raise DataError(f"{file}: the column {name!r} occurs twice in the header: remove one")
        else:
            columns[name] = place
    missing = [name for name in (*REQUIRED_COLUMNS, *group_names) if name not in columns]
    if missing:
        more = f" (nor {', '.join(missing[1:4])})" if len(missing) > 1 else ""
        found = short(", ".join(title or "(no name)" for title in header))
        advice = (
            f"every group of {schema_file.name} needs one, with empty cells where nobody knows"
            if missing[0] in group_names
            else "expected are path, split and one per group, with "
            f"{' or '.join(_DELIMITERS.values())} between them"
        )
        raise DataError(
            f"{file} has no column {missing[0]!r}{more}; found {found}; {advice}"
            f"{did_you_mean(missing[0], extra)}"
        )
    for name in OPTIONAL_COLUMNS:
        if name not in columns:
            for title in extra:
                if did_you_mean(title, [name]):
                    raise DataError(
                        f"{file}: the column {short(title)!r} is none of the known ones; did you "
                        f"mean {name!r}? Rename it so, or remove it"
                    )
    if not extra:
        return columns, []
    return columns, [
        f"{file}: left out the column(s) {short(', '.join(extra))}, which no group of "
        f"{schema_file.name} is named after"
    ]
