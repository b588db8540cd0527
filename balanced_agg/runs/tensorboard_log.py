"""The scalars of a TensorBoard folder, as verl's `tensorboard` logger writes them."""

from collections.abc import Iterator
from pathlib import Path

from balanced_agg.runs.file_log import Log, merge

EVENT_FILES = "*tfevents*"


def has_events(folder: Path) -> bool:
    return any(folder.glob(EVENT_FILES))


def read_tensorboard(folder: Path) -> Log:
    """The scalars of all event files in `folder`, merged by the rule of :func:`file_log.merge`.

    A resumed run writes a further file; files count in the order of their names, which start with the time they were
    made at. TensorBoard keeps float32.
    """
    files = sorted(folder.glob(EVENT_FILES))
    return Log(merge(record for file in files for record in scalars(file)))


def scalars(file: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """(step, {tag: value}) for each scalar as written; TensorBoard's own loader stops at an incomplete record."""
    # This loader takes events as they are; the other turns each scalar into a tensor, which takes six times as long.
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    for event in LegacyEventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                yield event.step, {value.tag: value.simple_value}
            elif value.metadata.plugin_data.plugin_name == "scalars":
                yield event.step, {value.tag: make_ndarray(value.tensor).item()}
