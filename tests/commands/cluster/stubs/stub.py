"""One program under the names of srun, scontrol, getent, apptainer and python: enough of a Slurm cluster for a script.

Each call is a line of CALLS, with the host that it was made on. What `python` runs is a subcommand of balanced-agg: a
node lasts until it is told to end, unless its host is LOST; a submitted run waits for all nodes, then ends with the
status RUN, or lasts, too.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HOSTS = os.environ["HOSTS"].split()
CALLS = Path(os.environ["CALLS"])
HOST = os.environ.get("ON_HOST", HOSTS[0])  # a batch script runs on the first host


def record(**further):
    call = {"name": NAME, "host": HOST, "arguments": ARGUMENTS, **further}
    with CALLS.open("a") as calls:
        calls.write(json.dumps(call) + "\n")


def hosts_of(subcommand):
    complete, _, _ = CALLS.read_text().rpartition("\n")  # the last line may still be written
    calls = map(json.loads, complete.splitlines())
    return {call["host"] for call in calls if call.get("subcommand") == subcommand}


def srun():
    """As srun: a process on each host, its signals turned into SIGKILL, the highest exit status."""
    options = dict(argument[2:].partition("=")[::2] for argument in ARGUMENTS if argument.startswith("--"))
    command = next(i for i, argument in enumerate(ARGUMENTS) if not argument.startswith("--"))
    hosts = options["nodelist"].split(",")
    assert options["nodes"] == options["ntasks"] == str(len(hosts)) and set(hosts) <= set(HOSTS)
    assert "overlap" in options, "a second step would wait for the first"
    tasks = [subprocess.Popen(ARGUMENTS[command:], env=os.environ | {"ON_HOST": host}) for host in hosts]
    signal.signal(signal.SIGTERM, lambda *_: [task.kill() for task in tasks])
    return max(abs(task.wait()) for task in tasks)


def python():
    assert ARGUMENTS[:2] == ["-m", "balanced_agg"]
    subcommand = ARGUMENTS[2]
    file = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    token = {"token": file.read_text(), "modes": [oct(path.stat().st_mode & 0o777) for path in (file, file.parent)]}
    in_environment = token["token"] in " ".join(os.environ.values())
    told = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    record(subcommand=subcommand, in_environment=in_environment, **token)
    if subcommand == "node":
        if os.environ.get("LOST") == HOST:
            while not hosts_of("submit"):
                time.sleep(0.05)
            return 1
        while not told:
            time.sleep(0.05)
        return 1
    while not told and not (hosts_of("node") == set(HOSTS) and os.environ["RUN"] != "lasts"):
        time.sleep(0.05)
    record(subcommand="end of the run", told=bool(told))
    return 143 if told else int(os.environ["RUN"])


NAME, ARGUMENTS = Path(sys.argv[0]).name, sys.argv[1:]
match NAME:
    case "srun":
        record()
        sys.exit(srun())
    case "scontrol":
        assert ARGUMENTS == ["show", "hostnames", "host[1-99]"]
        print(*HOSTS, sep="\n")
    case "getent":
        record()
        # On itself a host's name may be a loopback address, as Debian has it.
        number = HOSTS.index(ARGUMENTS[1]) + 1
        address = "127.0.1.1" if ARGUMENTS[1] == HOST and len(HOSTS) > 1 else f"10.0.0.{number}"
        print(f"{address} STREAM {ARGUMENTS[1]}", f"{address} DGRAM", sep="\n")
    case "apptainer":
        record()
        os.execvp("bash", ARGUMENTS[ARGUMENTS.index("bash") :])
    case "python":
        sys.exit(python())
