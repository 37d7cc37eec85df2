"""One rendering process of `layout`: reads a job from stdin, reports each person on stdout."""

import json
import os
import sys
from pathlib import Path

from input_pipeline.rendering.layout import render_person
from input_pipeline.rendering.plan import PersonFiles, PlannedImage


def main() -> None:
    """Renders the persons of the job; stops at the first that cannot be written."""
    job = json.load(sys.stdin)
    for entry in job["persons"]:
        images = [PlannedImage(**image) for image in entry.pop("images")]
        person = PersonFiles(**entry, images=images)
        try:
            report = {"images": render_person(person, Path(job["folder"]), **job["settings"])}
        except OSError as error:
            report = {"errno": error.errno, "message": error.strerror}
        try:
            print(json.dumps(report), flush=True)
        except BrokenPipeError:
            # The parent was killed. No tidy exit: it would try to write to stdout once more.
            os._exit(1)
        if "errno" in report:
            return


if __name__ == "__main__":
    main()
