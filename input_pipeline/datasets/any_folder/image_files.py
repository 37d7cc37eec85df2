"""The image files that a CSV file names: each exists, once, inside the data folder. No TensorFlow.

Every folder is listed once, so that a hundred thousand images take a second or two.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from input_pipeline.datasets.any_folder.text_file import key
from input_pipeline.errors import DataError, short

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")

_NAMED = 3
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_DRIVE = re.compile(r"[A-Za-z]:/")


def image_name(cell: str, where: str) -> str:
    """The path of a cell as a plain name below the data folder, with slashes.

    where: begins the sentence of an error. DataError: it is empty, absolute or leaves the folder.
    """
    if not cell:
        raise DataError(f"{where}, column 'path': it is empty: expected an image file")
    shown = short(cell)
    # As Windows writes it; names with a backslash are not made elsewhere.
    path = cell.replace("\\", "/")
    if _ADDRESS.match(path):
        raise DataError(
            f"{where}: {shown} is a web address: download the image into the data folder and give "
            "its path there"
        )
    if path.startswith("/") or _DRIVE.match(path):
        raise DataError(
            f"{where}: the path {shown} is absolute: expected one relative to the data folder, "
            "like images/0001.jpg"
        )
    name = posixpath.normpath(path)
    if name == ".." or name.startswith("../"):
        raise DataError(f"{where}: the path {shown} leaves the data folder: copy the image into it")
    if name == ".":
        raise DataError(f"{where}: the path {shown} is the data folder: expected an image file")
    return name


def find_images(
    data_dir: Path, label_file: Path, names: Sequence[tuple[int, str]]
) -> list[os.DirEntry[str]]:
    """The file of each (line, name).

    DataError: files are missing (all are counted, the first few named), one is no file, lies
    outside of the data folder, or is named twice.
    """
    root = os.path.realpath(data_dir)
    folders: dict[str, tuple[str, dict[str, os.DirEntry[str]]]] = {}
    line_of: dict[str, tuple[int, str]] = {}
    found: list[os.DirEntry[str]] = []
    missing: list[tuple[int, str]] = []
    for line, name in names:
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _list_folder(data_dir, folder, root, f"{label_file}: line {line}")
        real_folder, entries = folders[folder]
        entry = entries.get(base) or entries.get(_other_form(base))
        where = f"{label_file}: line {line}: {short(name)}"
        real = f"{real_folder}/{entry.name if entry else base}"
        if entry is not None and entry.is_symlink():
            real = os.path.realpath(entry.path)
            _require_inside(real, root, where)
        kind = _kind(entry)
        if kind == "folder":
            raise DataError(f"{where} is a folder: expected an image file")
        earlier = line_of.setdefault(real, (line, name))
        if earlier != (line, name):
            also = f" (as {earlier[1]})" if earlier[1] != name else ""
            raise DataError(
                f"{where} stands in line {earlier[0]} too{also}: keep one row per image"
            )
        if entry is None or kind == "missing":
            missing.append((line, name))
            continue
        if kind == "other":
            raise DataError(f"{where} is not a regular file: expected an image file")
        found.append(entry)
    if missing:
        raise DataError(_missing(data_dir, label_file, missing))
    return found


def _other_form(name: str) -> str:
    """A name in the other form that Unicode has for letters with accents, or the same name.

    Macs store names in one, spreadsheets write the other.
    """
    composed = unicodedata.normalize("NFC", name)
    return composed if composed != name else unicodedata.normalize("NFD", name)


def _kind(entry: os.DirEntry[str] | None) -> str:
    """file, folder, missing (also a link to nothing, or to itself) or other."""
    try:
        if entry is None or (entry.is_symlink() and not os.path.exists(entry.path)):
            return "missing"
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:
        return "missing"


def _list_folder(
    data_dir: Path, folder: str, root: str, where: str
) -> tuple[str, dict[str, os.DirEntry[str]]]:
    """(resolved path, entries by name) of a folder; no entries where it does not exist."""
    path = f"{data_dir}/{folder}" if folder else str(data_dir)
    real = os.path.realpath(path)
    _require_inside(real, root, f"{where}: {short(folder or path)}")
    parts = folder.split("/")
    for end in range(1, len(parts) + 1):
        part = "/".join([str(data_dir), *parts[:end]])
        if part.lower().endswith(ARCHIVE_SUFFIXES) and os.path.isfile(part):
            raise DataError(f"{where}: {part} is an archive: unpack it, and name the files in it")
    try:
        with os.scandir(path) as entries:
            return real, {entry.name: entry for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return real, {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{where}: the folder {short(folder or path)} cannot be read "
            f"({getattr(error, 'strerror', error)}): correct the path"
        ) from error


def _require_inside(real: str, root: str, where: str) -> None:
    if real != root and not real.startswith(root.rstrip("/") + "/"):
        raise DataError(
            f"{where} is a link to {real}, outside of the data folder: copy the images into it"
        )


def _missing(data_dir: Path, label_file: Path, missing: Sequence[tuple[int, str]]) -> str:
    line, name = missing[0]
    similar = _similar(data_dir, name)
    hint = f" (there is {similar}, write it exactly so)" if similar else ""
    named = ", ".join(short(other) for _, other in missing[:_NAMED])
    count = (
        f"; {len(missing):,} images are missing, the first are {named}" if len(missing) > 1 else ""
    )
    return (
        f"{label_file}: line {line}: the image {short(name)} does not exist in "
        f"{data_dir}{hint}{count}: restore the files or remove the rows (paths are relative to the "
        "data folder)"
    )


def _similar(data_dir: Path, name: str) -> str:
    """A file that was probably meant: other capitals, no suffix, or without its folder."""
    found = Path()
    for part in name.split("/"):
        names = _names(data_dir / found)
        same = [other for other in names if other == part] or [
            other for other in names if _spelling(other) == _spelling(part)
        ]
        same = same or [other for other in names if other.startswith(f"{part}.")]
        if not same:
            break
        found /= same[0]
    else:
        return found.as_posix()
    below = [
        f"{folder}/{name}"
        for folder in _names(data_dir)
        if os.path.exists(data_dir / folder / name)
    ]
    return below[0] if below else ""


def _spelling(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{key(stem)}{dot}{suffix.lower()}"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
