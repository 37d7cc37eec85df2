"""Writes rendered pedestrians in the folder layout of a data set, with a manifest.json.

Each image depends on (seed, person, image) alone, so the bytes are the same for any number of
workers.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TextIO

import cv2
import numpy as np

import input_pipeline
from input_pipeline.datasets.listing import MANIFEST_NAME, Listing, ReaderOptions
from input_pipeline.datasets.market1501.folder import read_market_labels
from input_pipeline.datasets.market1501.schema import MARKET_SCHEMA, market_fields_to_attributes
from input_pipeline.datasets.person_labels import PersonLabels
from input_pipeline.datasets.readers import READERS
from input_pipeline.errors import DataError
from input_pipeline.rendering import contact_sheet, render
from input_pipeline.rendering.layouts import LAYOUTS
from input_pipeline.rendering.plan import NUM_CAMERAS, PersonFiles
from input_pipeline.rendering.population import draw_population
from input_pipeline.whole_folder import only_writer, written_whole

# Raised when the same arguments give other pictures, so that old ones are not taken for new.
RENDERER_VERSION = 1
SHEET_SUFFIXES = (".jpg", ".jpeg", ".png")

_PROGRESS_SECONDS = 5.0
_LARGEST_SEED = 2**31 - 1


def write_layout(
    out: Path,
    *,
    layout: str = "market1501",
    train_persons: int = 480,
    test_persons: int = 240,
    images_per_person: int = 8,
    image_height: int = 256,
    seed: int = 0,
    workers: int = 2,
    attributes: Path | None = None,
    progress: TextIO | None = None,
) -> bool:
    """Renders the whole data set into out; False if it is already there with these parameters.

    layout: the data set whose folder it is to look like, one of LAYOUTS.
    attributes: a Market-1501 label file to take the persons from, instead of train_persons and
    test_persons drawn ones. progress: where lines with rate and remaining time go.
    DataError: bad parameters, out holds something else, the disk is full. Whatever the error or
    signal, out is complete or absent; a `<out>.partial` that SIGKILL leaves is replaced next time.
    """
    out = Path(out)
    form = LAYOUTS[layout]
    _check_numbers(images_per_person, image_height, seed, workers)
    labels = form.adapt(
        population(
            train_persons=train_persons, test_persons=test_persons, seed=seed, attributes=attributes
        )
    )
    parameters = {
        "renderer": RENDERER_VERSION,
        "layout": layout,
        "seed": seed,
        "image_height": image_height,
        "images_per_person": images_per_person,
        "attributes": "drawn" if attributes is None else f"sha256 {_sha256(attributes)}",
        "train_persons": len(labels.train),
        "test_persons": len(labels.test),
    }
    with only_writer(out) as lock:
        if out.exists():
            _require_same(out, parameters)
            _say(progress, f"{out} is already rendered, nothing to do")
            return False
        plan = form.plan(labels, images_per_person, seed)
        paths = [image.path for person in plan for image in person.images]
        with written_whole(out) as partial:
            for folder in {Path(path).parent for path in paths}:
                (partial / folder).mkdir(parents=True, exist_ok=True)
            settings = {"seed": seed, "image_height": image_height}
            _render_all(plan, partial, settings, workers=workers, lock=lock, progress=progress)
            missing = [path for path in paths if not (partial / path).is_file()]
            if missing or len(set(paths)) < len(paths):
                raise RuntimeError(f"planned {len(paths)} images, missing are {missing[:3]}")
            form.write_labels(partial, labels, plan, seed)
            _write_manifest(partial, parameters, READERS[form.reader](partial, ReaderOptions()))
    return True


def population(
    *, train_persons: int, test_persons: int, seed: int, attributes: Path | None
) -> PersonLabels:
    """The persons to render: those of a label file if one is given, else drawn ones."""
    if not 0 <= seed <= _LARGEST_SEED:
        raise DataError(f"seed is {seed}: expected 0 to {_LARGEST_SEED}")
    if attributes is not None:
        return read_market_labels(attributes)
    return draw_population(seed=seed, train_persons=train_persons, test_persons=test_persons)


def write_population_sheet(
    file: Path, labels: PersonLabels, *, count: int = 48, image_height: int = 256, seed: int = 0
) -> None:
    """A picture of crops of different persons, half of them of the test set, with descriptions."""
    if file.suffix.lower() not in SHEET_SUFFIXES:
        raise DataError(f"the contact sheet {file} must end in one of {', '.join(SHEET_SUFFIXES)}")
    if file.is_dir():
        raise DataError(f"the contact sheet {file} is a folder: choose a file name")
    rng = np.random.default_rng(seed)
    persons: list[tuple[int, dict[str, int]]] = []
    for half in (labels.train, labels.test):
        entries = list(half.items())
        persons += [entries[i] for i in rng.permutation(len(entries))[: count // 2]]
    crops, titles = [], []
    for index, (person_id, fields) in enumerate(persons):
        crops.append(
            render.render_crop(
                fields,
                seed=seed,
                person_id=person_id,
                image_index=index % 8,
                camera_id=1 + index % NUM_CAMERAS,
                image_height=image_height,
            )
        )
        attributes = market_fields_to_attributes(fields)
        titles.append(MARKET_SCHEMA.describe(attributes, mention_absent=False))
    try:
        contact_sheet.write_contact_sheet(file, crops, titles)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise DataError(
            f"the contact sheet {file} cannot be written ({error}): choose another file"
        ) from error


def _render_all(
    plan: Sequence[PersonFiles],
    folder: Path,
    settings: Mapping[str, int],
    *,
    workers: int,
    lock: int,
    progress: TextIO | None,
) -> None:
    """Renders the plan into folder, in this process or in several."""
    total = sum(len(person.images) for person in plan)
    started = reported = time.monotonic()
    done = 0
    if workers == 1:
        finished = (render_person(person, folder, **settings) for person in plan)
    else:
        finished = _render_in_processes(plan, folder, settings, workers=workers, lock=lock)
    # Closed here, so that no worker still writes when the caller removes the folder.
    with contextlib.closing(finished):
        for count in finished:
            done += count
            now = time.monotonic()
            if now - reported >= _PROGRESS_SECONDS or done == total:
                reported = now
                rate = done / max(now - started, 1e-9)
                _say(
                    progress,
                    f"rendered {done}/{total} images, {rate:.0f} images/s, "
                    f"{(total - done) / rate:.0f} s to go",
                )


def render_person(person: PersonFiles, folder: Path, *, seed: int, image_height: int) -> int:
    """Writes all images of one person below folder and returns how many."""
    for image in person.images:
        as_jpeg = not person.is_fragment and image.path.endswith(".jpg")
        draw = render.render_jpeg if as_jpeg else render.render_crop
        result = draw(
            person.fields,
            seed=seed,
            person_id=person.person_id,
            image_index=image.image_index,
            camera_id=image.camera_id,
            image_height=image_height,
        )
        if not isinstance(result, bytes):
            crop = _fragment(result) if person.is_fragment else result
            result = _encoded(crop, Path(image.path).suffix)
        (folder / image.path).write_bytes(result)
    return len(person.images)


def _fragment(crop: np.ndarray) -> np.ndarray:
    """The lower left quarter of a crop (H, W, 3), enlarged: a box that missed the person."""
    height, width = crop.shape[:2]
    return cv2.resize(crop[height // 2 :, : width // 2], (width, height))


def _encoded(crop: np.ndarray, suffix: str) -> bytes:
    """A crop (H, W, 3) RGB as the bytes of a .jpg or .png file."""
    ok, encoded = cv2.imencode(suffix, crop[:, :, ::-1])
    if not ok:
        raise RuntimeError(f"OpenCV did not encode a {suffix} file")
    return encoded.tobytes()


def _render_in_processes(
    plan: Sequence[PersonFiles],
    folder: Path,
    settings: Mapping[str, int],
    *,
    workers: int,
    lock: int,
) -> Generator[int]:
    """Yields the number of images of each person as one of the workers finishes it.

    Plain child processes rather than multiprocessing, which would import the caller's main module
    (train.py with JAX and TensorFlow) in every one. A worker whose parent is gone ends at the next
    line it writes; until then it has the lock, so that no other run writes to the same folder.
    """
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(workers):
            process = subprocess.Popen(
                [sys.executable, "-m", "input_pipeline.rendering.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(input_pipeline.__file__).parent.parent,
                start_new_session=True,
                pass_fds=(lock,),
            )
            processes.append(process)
        for index, process in enumerate(processes):
            share = [asdict(person) for person in plan[index::workers]]
            job = {"folder": str(folder.resolve()), "settings": dict(settings), "persons": share}
            # A worker that died already is reported where its lines are read.
            with contextlib.suppress(BrokenPipeError):
                _stream(process.stdin).write(json.dumps(job))
                _stream(process.stdin).close()
        # Whole persons are dealt round-robin and cost the same, so reading one line of each worker
        # in turn keeps up with all of them.
        for index in range(len(plan)):
            yield _read_count(processes[index % workers])
    finally:
        for process in processes:
            process.kill()
            process.wait()
            _stream(process.stdout).close()


def _read_count(process: subprocess.Popen[str]) -> int:
    """One line of a worker. OSError: the worker could not write."""
    line = _stream(process.stdout).readline()
    if not line:
        raise RuntimeError(f"a rendering worker ended early, exit code {process.wait()}")
    report: dict[str, Any] = json.loads(line)
    if "errno" in report:
        raise OSError(report["errno"], report["message"])
    return report["images"]


def _stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None, "opened as a pipe"
    return pipe


def _check_numbers(images_per_person: int, image_height: int, seed: int, workers: int) -> None:
    for name, value, low, high in (
        ("images_per_person", images_per_person, 2, 1000),
        ("image_height", image_height, 32, 1024),
        ("seed", seed, 0, _LARGEST_SEED),
        ("workers", workers, 1, 256),
    ):
        if not low <= value <= high:
            raise DataError(f"{name} is {value}: expected {low} to {high}")
    if image_height % 2:
        raise DataError(f"image_height is {image_height}: expected an even number")


def _write_manifest(partial: Path, parameters: Mapping[str, Any], listing: Listing) -> None:
    """What was asked for, and what the reader of the layout counts in it."""
    manifest = {
        "name": f"rendered_{parameters['layout']}",
        "parameters": parameters,
        "facts": dict(listing.facts),
    }
    (partial / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n")


def _require_same(out: Path, parameters: Mapping[str, Any]) -> None:
    """DataError unless out was rendered with these parameters."""
    advice = "choose another folder"
    file = out / MANIFEST_NAME
    if not file.is_file():
        raise DataError(f"{out} exists and is not a rendered folder (no {MANIFEST_NAME}): {advice}")
    try:
        # Folders from before there were layouts are in Market-1501's.
        found = {"layout": "market1501"} | json.loads(file.read_text())["parameters"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error!r}): {advice}") from error
    for name, value in parameters.items():
        if found.get(name) != value:
            raise DataError(
                f"{out} was rendered with {name}={found.get(name)}, not {value}: {advice}"
            )


def _sha256(file: Path) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _say(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        print(line, file=stream, flush=True)
