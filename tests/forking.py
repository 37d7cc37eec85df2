"""Runs a script of the project again and again, each time in a child that need not import anew.

python tests/forking.py train.py; a JSON list of arguments in a line of standard input each, and
{"exit_code", "said"} in a line of standard output. Run from the project's root. For what a script
refuses: it starts as `python train.py` does but for the imports, which take most of such a test.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

# Of a child, after which it is killed.
SECONDS = 120


def main() -> None:
    """Answer until standard input ends."""
    script = sys.argv[1]
    sys.path.insert(0, str(Path.cwd()))
    module = importlib.import_module(Path(script).stem)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if not child:
                _run(module, [script, *json.loads(line)], said.fileno())
            _, status = os.waitpid(child, 0)
            said.seek(0)
            text = said.read().decode(errors="replace")
        answer = {"exit_code": os.waitstatus_to_exitcode(status), "said": text}
        print(json.dumps(answer), file=answers, flush=True)


def _run(module, argv: list[str], output: int) -> None:
    """The script with these arguments, in the child; never returns."""
    import command_line

    exit_code = 1
    try:
        signal.alarm(SECONDS)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = argv
        command_line.run(module.main)
        exit_code = 0
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


if __name__ == "__main__":
    main()
