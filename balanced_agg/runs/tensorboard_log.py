"""The scalars of a TensorBoard folder, as verl's `tensorboard` logger writes them."""

from pathlib import Path

from balanced_agg.runs.file_log import Records


def event_files(folder: Path) -> list[Path]:
    """In the order of their names, which start with the time they were made at; a resumed run writes a further one."""
    return sorted(folder.glob("*tfevents*"))


def read_tensorboard(files: list[Path]) -> Records:
    """Each scalar as written, in float32; TensorBoard's own loader stops at an incomplete record."""
    # This loader takes events as they are; the other turns each scalar into a tensor, which takes six times as long.
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    records = []
    for event in (event for file in files for event in LegacyEventFileLoader(str(file)).Load()):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                records.append((event.step, {value.tag: value.simple_value}))
            elif value.metadata.plugin_data.plugin_name == "scalars":
                records.append((event.step, {value.tag: make_ndarray(value.tensor).item()}))
    return records
