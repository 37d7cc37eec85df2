"""Running the scripts: what the user can mend is one sentence and exit code 2."""

import contextlib
import difflib
import errno
import functools
import io
import logging as standard_logging
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from configs import default
from input_pipeline.errors import DataError
from jsreid_jax import hosts
from jsreid_jax.checkpoints import says_disk_full
from jsreid_jax.errors import ModelError

USER_ERROR_EXIT_CODE = 2
HOST_GONE_EXIT_CODE = 3
INTERRUPTED_EXIT_CODE = 130

# What the user's paths can do to any file operation.
_USER_ERRNOS = (
    *(errno.EACCES, errno.EPERM, errno.EEXIST),
    *(errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
)

# What flags and configs raise that cannot be read.
_PARSE_ERRORS = (
    *(flags.Error, AttributeError, KeyError, TypeError, ValueError),
    *(OSError, SyntaxError, ImportError),
)


class Terminated(KeyboardInterrupt):
    """SIGTERM, at a moment when there is nothing to save."""


def define_host_flags() -> None:
    """The flags of a script that several hosts run together, see `join_hosts`."""
    flags.DEFINE_bool(
        "distributed", False, "One of several hosts that run this same command (README)."
    )
    flags.DEFINE_string(
        "coordinator_address", None, "host:port of process 0, if the cluster does not tell."
    )
    flags.DEFINE_integer("num_processes", None, "Number of hosts, likewise.", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "Which host this is, likewise.", lower_bound=0)
    flags.DEFINE_integer(
        "coordinator_timeout", 300, "Seconds to wait for the other hosts.", lower_bound=1
    )


def define_field_flags(fields: Sequence[str]) -> dict[str, flags.FlagHolder]:
    """A flag --config.FIELD for some fields of a config that is not given but stored, by field."""
    define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, str: flags.DEFINE_string}
    config: Any = default.get_config()
    values = config.to_dict()

    def flag(field: str) -> flags.FlagHolder:
        value = functools.reduce(lambda part, name: part[name], field.split("."), values)
        return define[type(value)](f"config.{field}", None, "For another machine or folder.")

    return {field: flag(field) for field in fields}


def join_hosts() -> None:
    """Meet the other hosts, if the flags say that there are any; before JAX makes its devices."""
    values = flags.FLAGS
    given = [
        name
        for name in ("coordinator_address", "num_processes", "process_id")
        if values[name].value is not None
    ]
    if values.distributed:
        hosts.join(
            values.coordinator_address,
            values.num_processes,
            values.process_id,
            timeout=values.coordinator_timeout,
            give_up=_fail,
        )
    elif given:
        raise ModelError(
            f"--{given[0]} is given without --distributed, expected both: several hosts run the "
            "same command with --distributed"
        )


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yields a list to which SIGINT and SIGTERM are added, instead of ending the process."""
    stopped: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: stopped.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_well_when_terminated() -> None:
    """From here on SIGTERM ends the process with exit code 0: nothing that took long is lost."""

    def terminate(number: int, frame: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def run(main: Callable[[Sequence[str]], None]) -> None:
    """Run main(argv) under absl with the project's flags, logs and errors."""
    app.run(_guard(main), flags_parser=_parse)


def _guard(main: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], None]:
    def guarded(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().addFilter(_is_worth_reading)
        try:
            main(argv)
        except (DataError, ModelError) as error:
            _fail(str(error))
        except KeyboardInterrupt as interrupt:
            print("interrupted: run the same command again to go on", file=sys.stderr)
            os._exit(0 if isinstance(interrupt, Terminated) else INTERRUPTED_EXIT_CODE)
        except Exception as error:
            if hosts.says_host_gone(error):
                _fail(
                    f"another host is gone ({str(error).splitlines()[0][:200]}): run the same "
                    "command again on all hosts, it goes on from the newest checkpoint",
                    exit_code=HOST_GONE_EXIT_CODE,
                )
            if says_disk_full(error) or "Could not initialize events writer" in str(error):
                _fail(
                    "the disk is full, a file could not be written: free some space and try again"
                )
            if not isinstance(error, OSError) or error.errno not in _USER_ERRNOS:
                raise
            _fail(
                f"{error.filename or 'a file'} cannot be written or read: {error.strerror}; "
                "expected a path with permission, choose another"
            )

    return guarded


def _fail(sentence: str, *, exit_code: int = USER_ERROR_EXIT_CODE) -> None:
    """Say what is wrong and end the process."""
    sys.stdout.flush()
    said, sys.stderr = sys.stderr, io.StringIO()
    # From here on no background thread can print into the sentence.
    print(f"error: {' '.join(sentence.split())}", file=said, flush=True)
    # Not sys.exit: the background threads of TensorFlow and orbax have nothing left to do.
    os._exit(exit_code)


def _is_worth_reading(record: standard_logging.LogRecord) -> bool:
    """Whether a log line is ours, clu's or a warning: the stack's own progress is not the run's.

    Of orbax nothing: it warns at every checkpoint without metrics, and raises what goes wrong.
    """
    if "orbax" in record.pathname:
        return False
    ours = "site-packages" not in record.pathname or "clu" in Path(record.pathname).parts
    return ours or record.levelno >= standard_logging.WARNING


def _parse(argv: Sequence[str]) -> Sequence[str]:
    """absl's flags from the command line; ends the process with a sentence if they are wrong."""
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            _require_loaded(flags.FLAGS["config"].value)
    except _PARSE_ERRORS as error:
        _fail(_explain(argv, error))
        raise
    if len(rest) > 1:
        _fail(f"unknown argument {rest[1]!r}: expected flags, which begin with --")
    return rest


def load_config(file: str, overrides: Sequence[str]) -> Any:
    """The config that train.py has with `--config file` and `--config.<override>` for each.

    Raises:
        ModelError: with the sentence of train.py, where that would refuse them.
    """
    argv = ["", f"--config={file}", *(f"--config.{override}" for override in overrides)]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=argv)
    try:
        values(argv)
        _require_loaded(values["config"].value)
    except _PARSE_ERRORS as error:
        raise ModelError(_explain(argv, error)) from error
    return values["config"].value


def _require_loaded(config: ConfigDict | None) -> None:
    """Raise the error of a file that does not load: ml_collections puts it off to the first use."""
    getattr(config, "keys", None)


def _explain(argv: Sequence[str], error: Exception) -> str:
    """The sentence for flags that do not parse."""
    file, preset = _config_argument(argv)
    if file and not Path(file).is_file():
        return f"--config {file}: not found; expected a config file, see the folder configs"
    text = str(error)
    if "Traceback" in text:
        # ml_collections wraps an error of the config file, stack trace and all.
        return f"--config {file}: {text.strip().splitlines()[-1]}"
    if isinstance(error, (SyntaxError, ImportError)):
        return f"--config {file}: is not a config file that Python can run ({text})"
    if isinstance(error, (KeyError, AttributeError)) and file:
        config = runpy.run_path(file)["get_config"](*([preset] if preset else []))
        for argument in argv:
            name = argument.lstrip("-").partition("=")[0]
            if name.startswith("config."):
                known = _field_names(config, "config.")
                if name not in known:
                    near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:3]
                    return f"unknown config field {name}; nearest are {', '.join(near)}"
    if isinstance(error, flags.IllegalFlagValueError) and "--config." in text:
        return f"{text}; expected a value of the type that configs/default.py gives the field"
    return text


def _config_argument(argv: Sequence[str]) -> tuple[str, str]:
    """(file, preset) of --config; empty where there is none."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config":
            file, _, preset = (value if equals else following).partition(":")
            return file, preset
    return "", ""


def _field_names(config: ConfigDict, prefix: str) -> list[str]:
    """Dotted names of all fields, sections included."""
    names = []
    for key, value in config.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, ConfigDict):
            names += _field_names(value, f"{prefix}{key}.")
    return names
