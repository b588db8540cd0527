"""Run one probe and write its answer to a file; what it raises becomes the answer {"error": …}."""

import importlib
import json
import sys
from pathlib import Path

from balanced_agg.atomic_write import atomic_write
from balanced_agg.commands.doctor.probes import described

name, answer_file, *arguments = sys.argv[1:]
try:
    answer = importlib.import_module(f"balanced_agg.commands.doctor.probes.ask_{name}").probe(*arguments)
except Exception as error:
    answer = {"error": described(error)}
with atomic_write(Path(answer_file)) as unfinished:
    unfinished.write_text(json.dumps(answer))
