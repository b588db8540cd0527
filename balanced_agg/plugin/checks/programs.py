"""Programs that are graded: that their tests are there, and that each node which grades has them and a sandbox."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.checks.cluster import starts_ray
from balanced_agg.plugin.checks.data import complete, folders_of_tests, parquet_files
from balanced_agg.plugin.checks.ground_truths import ground_truths, size_of
from balanced_agg.plugin.checks.memory import host_bytes
from balanced_agg.plugin.launch import OUR_REWARDS
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.rewards.packed_tests import Reference, find, reference_in

PROGRAMS = "livecodebench"  # the data source
ANSWER_SECONDS = 120  # in which a node starts a process and looks
CONNECT_SECONDS = 10
COPIES = 20  # of a row, in all processes of a validation together, where k is 4


def programs(config: DictConfig) -> dict[Path, tuple[str, list[Reference]]]:
    """The local parquet files with programs that our rewards grade: the key of each, and the tests it refers to."""
    import pyarrow.parquet as pq

    found = {}
    for key, file in parquet_files(config) if config.reward.custom_reward_function.path == OUR_REWARDS else ():
        with complete(key, file):
            if PROGRAMS not in pq.read_table(file, columns=["data_source"])["data_source"].unique().to_pylist():
                continue
            truths = (truth for _, source, truth in ground_truths(file) if source == PROGRAMS)
            found[file] = key, list(filter(None, map(reference_in, truths)))
    return found


def check_tests(config: DictConfig) -> None:
    """Check that the files of tests that data files refer to are in the folders where they are looked for."""
    for file, (key, references) in programs(config).items():
        try:
            for reference in references:
                find(reference, folders_of_tests(config))
        except ValueError as error:
            raise Refusal(key, f": {file}: {error}", f"or set {key} to other files") from None


def check_memory(config: DictConfig) -> None:
    """Check that this machine has memory for the copies of tests that stand in the rows themselves."""
    import pyarrow.parquet as pq

    memory, _ = host_bytes()
    for file, (key, _) in programs(config).items() if starts_ray(config) else ():
        metadata = pq.read_metadata(file)
        size = sum(size_of(metadata.row_group(number)) for number in range(metadata.num_row_groups))
        if size * COPIES > memory:
            what = (
                f": {file} holds {size / 2**30:.1f} GiB of tests in its rows, of which verl makes some {COPIES} copies"
            )
            remedy = "prepare it again, which puts the tests of programs into a file beside it that is read in place"
            raise Refusal(key, f"{what}; this machine has {memory / 2**30:.0f} GiB", remedy)


def check_nodes(config: DictConfig) -> None:
    """Check on each node where verl will put reward workers that programs can be graded there. Ray runs."""
    import ray

    if not (found := programs(config)):
        return
    options = config.reward.custom_reward_function.get("reward_kwargs") or OmegaConf.create()
    options = OmegaConf.to_container(options, resolve=True)
    references = {reference for _, references in found.values() for reference in references}
    what_for = options, sorted(references), folders_of_tests(config)
    alive = [node for node in ray.nodes() if node["Alive"]]
    if len(alive) == 1:  # this one
        problems = [problem_here(*what_for)]
    else:
        # As verl chooses them.
        alive = [node for node in alive if node["Resources"].get("CPU", 0) > 0][: config.reward.num_workers]
        problems = ask([node["NodeID"] for node in alive], *what_for)
    for node, problem in zip(alive, problems, strict=True):
        if problem:
            key = next(key for key, _ in found.values())
            what = f": node {node['NodeManagerAddress']} cannot grade {', '.join(map(str, found))}: {problem}"
            raise Refusal(key, what, f"mend that node, or set {key} to other files")


def ask(nodes: list[str], *what_for: Any) -> list[str | None]:
    """`problem_here` of each of these nodes, which is also that it does not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(problem_here)
    answers = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*what_for)
        for node in nodes
    ]
    ray.wait(answers, num_returns=len(answers), timeout=ANSWER_SECONDS)
    problems = []
    for answer in answers:
        try:
            problems.append(ray.get(answer, timeout=1))
        except ray.exceptions.RayError as error:  # also that the second is over
            problems.append(" ".join(f"it does not answer: {error}".split()))
    return problems


def problem_here(options: dict[str, Any], references: list[Reference], folders: list[str]) -> str | None:
    """What keeps this machine from grading programs; None if nothing does."""
    import requests

    from balanced_agg.rewards import check_source

    url = options.get("sandbox_fusion_url")
    try:
        check_source(PROGRAMS, **options)
        for reference in references:
            find(reference, folders)
        if url:
            requests.get(url, timeout=CONNECT_SECONDS)  # any answer is one, also that it takes no such request
    except (ValueError, requests.RequestException) as error:
        return str(error)
    return None
