"""Several hosts: coming together, agreeing on what they run, and ending together.

All of it is a no-op, or trivially true, on one host.
"""

import hashlib
import re
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from jsreid_jax import parallel
from jsreid_jax.errors import ModelError

# A host that has not been heard of for so many seconds is taken for dead, and all others end.
HEARTBEAT_SECONDS = 30
# How long hosts that have ended well wait for the others; only their clean-up may differ.
SHUTDOWN_SECONDS = 60
# How much longer JAX may wait than we do.
_GRACE_SECONDS = 60
# How often a coordinator that is not there yet is tried again.
_RETRY_SECONDS = 0.5

# What the stack says when another host is gone; there is no class of error for it.
_GONE = re.compile(
    "gloo|nccl|coordination service|heartbeat|unavailable|deadline_exceeded|connection (closed|re)",
    re.IGNORECASE,
)


def join(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    timeout: int,
    give_up: Callable[[str], None],
) -> None:
    """Meet the other hosts; before anything asks JAX for its devices.

    What is None is found out from the cluster (SLURM, TPU pods, Open MPI, Kubernetes), as JAX does.

    Args:
        coordinator_address: "host:port" of process 0.
        num_processes: how many hosts there are.
        process_id: which one this is, from 0 on.
        timeout: seconds to wait for the coordinator, and for the others.
        give_up: says a sentence and ends the process; called where the others do not come, which
            JAX would end with a stack trace of its own.

    Raises:
        ModelError: arguments that cannot be meant, a coordinator that does not answer, or no
            cluster to ask.
    """
    if coordinator_address is not None and not re.fullmatch(r".+:\d{1,5}", coordinator_address):
        raise ModelError(
            f"--coordinator_address is {coordinator_address!r}, expected host:port of process 0"
        )
    if None not in (num_processes, process_id) and not 0 <= process_id < num_processes:  # pyright: ignore
        raise ModelError(
            f"--process_id is {process_id}, expected 0 to {num_processes - 1}, "  # pyright: ignore
            f"because --num_processes is {num_processes}"
        )
    if coordinator_address is not None and process_id:
        _wait_for_coordinator(coordinator_address, timeout)
    where = coordinator_address or "the coordinator that the cluster names"
    apart = (
        f"{where}: the hosts did not come together within {timeout} s; start the same command on "
        f"all {num_processes or ''} hosts, with different --process_id, or give more "
        "--coordinator_timeout"
    )
    patience = threading.Timer(timeout, give_up, [apart])
    patience.daemon = True
    patience.start()
    # JAX's own would take SIGTERM for a protocol that knows no step of a resumed run; see `Stops`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=timeout + _GRACE_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        raise ModelError(
            f"--distributed: {error} Expected a cluster that JAX knows, or all of "
            "--coordinator_address, --num_processes and --process_id"
        ) from error
    except RuntimeError as error:
        raise ModelError(f"{apart} ({str(error).splitlines()[0][:200]})") from error
    finally:
        patience.cancel()


def _wait_for_coordinator(address: str, timeout: int) -> None:
    """Return when somebody listens there.

    JAX itself ends the process when its own wait is over, without a word of where it waited.
    """
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
            return
        except (OSError, OverflowError) as error:
            if time.monotonic() > deadline:
                raise ModelError(
                    f"--coordinator_address {address}: does not answer within {timeout} s "
                    f"({error}); expected process 0 there, check the address and whether it runs"
                ) from error
        time.sleep(_RETRY_SECONDS)


def is_first() -> bool:
    """Whether this host writes logs and results."""
    return jax.process_index() == 0


def check_devices() -> None:
    """Raise ModelError, on all hosts, unless every host has as many devices."""
    counts = Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        found = ", ".join(f"host {host}: {count}" for host, count in sorted(counts.items()))
        _refuse_together(
            f"the hosts have different numbers of devices ({found}), expected the same on each: "
            "set config.num_cpu_devices, or use hosts of one kind"
        )


def check_agreement(
    facts: Mapping[str, str], *, explain: Callable[[str, str, str], str] | None = None
) -> None:
    """Raise ModelError, on all hosts, unless all were told the same.

    Args:
        facts: what must be the same, by what it is called in a sentence; the same names on all.
        explain: takes (name, a host's text, the first host's) to what differs.
    """
    if jax.process_count() == 1:
        return
    digests = np.stack(
        [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in facts.values()]
    )
    found = parallel.from_all_hosts(digests)
    # Asked of all before anybody raises, because all must take part in what follows.
    differs = (found != found[0]).any(axis=-1)
    for number, (name, text) in enumerate(facts.items()):
        if not differs[:, number].any():
            continue
        texts = _texts_of_all(text)
        host = int(np.flatnonzero(differs[:, number])[0])
        what = explain(name, texts[host], texts[0]) if explain else ""
        _refuse_together(
            f"host {host} has another {name} than host 0{f': {what}' if what else ''}; "
            "expected the same on all hosts, start them alike"
        )


def _refuse_together(sentence: str) -> NoReturn:
    """Raise ModelError when all hosts are here to do so: no host hears of another's end first."""
    jax.distributed.shutdown()
    raise ModelError(sentence)


def _texts_of_all(text: str) -> list[str]:
    """Every host's text."""
    encoded = np.frombuffer(text.encode(), np.uint8)
    lengths = parallel.from_all_hosts(np.array(len(encoded), np.int32))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(encoded)] = encoded
    rows = parallel.from_all_hosts(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, lengths, strict=True)]


def first_says(text: str) -> str:
    """The first host's text, on all hosts; all must call it, and none with an empty one."""
    return text if jax.process_count() == 1 else _texts_of_all(text)[0]


def rows_of_all(count: int, compute: Callable[[slice], np.ndarray]) -> np.ndarray:
    """(count, ...) rows of which every host computes its share and gets all.

    All hosts must call it. compute: takes a slice of range(count) to its rows, at most 32 bits.
    """
    if jax.process_count() == 1:
        return compute(slice(0, count))
    share = -(-count // jax.process_count())
    starts = np.minimum(np.arange(jax.process_count() + 1) * share, count)
    # Of no rows nobody can tell the shape: where there are fewer rows than hosts all compute all.
    if (np.diff(starts) == 0).any():
        return compute(slice(0, count))
    own = compute(slice(*map(int, starts[jax.process_index() :][:2])))
    padding = [(0, share - len(own))] + [(0, 0)] * (own.ndim - 1)
    return np.concatenate(list(parallel.from_all_hosts(np.pad(own, padding))))[:count]


def wait_for_all(name: str) -> None:
    """Return when all hosts are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


class Stops:
    """Whether all hosts shall stop after a step, because one of them was told to.

    Args:
        told: what this host has been told; not empty: to stop.
    """

    # With several hosts a step's answer is read so many steps later: nobody waits for a step that
    # the devices have not done yet.
    LAG = 2

    def __init__(self, told: Sequence[int]):
        self._told = told
        self._asked: deque[Callable[[], bool]] = deque()

    def after_step(self) -> bool:
        """All hosts must ask after every step; they hear of it at the same one."""
        if jax.process_count() == 1:
            return bool(self._told)
        self._asked.append(parallel.any_of_all_hosts(bool(self._told)))
        return len(self._asked) > self.LAG and self._asked.popleft()()


def leave() -> None:
    """End together: no host takes another's end for a failure."""
    if jax.process_count() > 1:
        wait_for_all("end")
        jax.distributed.shutdown()


def says_host_gone(error: BaseException) -> bool:
    """Whether an error is that of a host whose peer has died."""
    if not isinstance(error, (jax.errors.JaxRuntimeError, RuntimeError, ValueError)):
        return False
    return jax.distributed.is_initialized() and bool(_GONE.search(str(error)))
