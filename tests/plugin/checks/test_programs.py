"""A run that grades programs is refused where their tests are not, or a node of its cluster cannot grade them."""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from balanced_agg.plugin.checks import in_verl, programs
from balanced_agg.plugin.checks.data import folders_of_tests
from balanced_agg.plugin.checks.ground_truths import check_ground_truths
from balanced_agg.plugin.checks.programs import check_memory, check_nodes, check_tests, problem_here
from balanced_agg.plugin.launch import name_tests_folders
from balanced_agg.rewards import sandbox
from balanced_agg.rewards.packed_tests import Writer, reference_in
from tests.composed import compose_recipe

TRUTH = json.dumps({"inputs": ["1"], "outputs": ["1"], "fn_name": None})
NAME = "code.tests.zip"


def written(folder, truths=(TRUTH,), apart=True, source="livecodebench"):
    """A data file with these tests, in a file beside it or in its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    if apart:
        with Writer(folder / NAME, NAME) as writer:
            truths = list(map(writer.add, truths))
    rows = [{"prompt": [], "data_source": source, "reward_model": {"ground_truth": truth}} for truth in truths]
    pq.write_table(pa.Table.from_pylist(rows), folder / "code.parquet")
    return folder / "code.parquet"


def only(file, *more):
    return compose_recipe("arithmetic", f"data.train_files={file}", f"data.val_files={file}", *more)


@pytest.mark.parametrize("check", [check_tests, check_ground_truths, check_memory])
@pytest.mark.parametrize("apart", [True, False])
def test_tests_beside_the_data_file_and_in_its_rows_pass(check, apart, tmp_path):
    check(only(written(tmp_path, apart=apart)))


def test_both_files_may_be_moved_and_linked_to(tmp_path):
    written(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "second")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "second/code.parquet")
    check_tests(only(tmp_path / "second/code.parquet"))
    check_tests(only(tmp_path / "link.parquet"))


def test_a_folder_that_is_named_is_the_one_that_is_looked_in(tmp_path):
    file = written(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / NAME).rename(tmp_path / "elsewhere" / NAME)
    with pytest.raises(ValueError, match=rf"^data\.val_files: {file}: there is no {NAME} in {tmp_path}: .*prepare"):
        check_tests(only(file))
    check_tests(only(file, f"reward.graders.tests_folders=[{tmp_path}/elsewhere]"))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"x" * 999])
def test_a_damaged_file_of_tests_is_refused(damage, tmp_path):
    file = written(tmp_path)
    (tmp_path / NAME).write_bytes(damage)
    with pytest.raises(ValueError, match=rf"{NAME} cannot be read.*prepare"):
        check_tests(only(file))


def test_tests_of_another_data_file_are_refused(tmp_path):
    file = written(tmp_path / "a")
    written(tmp_path / "b", [TRUTH.replace("1", "2")])
    (tmp_path / "b" / NAME).replace(tmp_path / "a" / NAME)
    with pytest.raises(ValueError, match="does not have the tests"):
        check_tests(only(file))


def test_the_reward_function_is_told_absolute_folders_of_all_data_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = compose_recipe("arithmetic", "data.train_files=a/x.parquet", "data.val_files=[a/y.parquet,b/z.parquet]")
    name_tests_folders(config)
    assert config.reward.custom_reward_function.reward_kwargs.tests_folders == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert folders_of_tests(config) == [f"{tmp_path}/a", f"{tmp_path}/b"]
    config.reward.custom_reward_function = {"path": "mine.py", "name": "score"}
    name_tests_folders(config)
    assert "reward_kwargs" not in config.reward.custom_reward_function


def test_tests_in_rows_need_memory_for_their_copies(tmp_path, monkeypatch):
    config = only(written(tmp_path, [TRUTH.replace("1", f"{n}" * 10**4) for n in range(9)], apart=False))
    monkeypatch.setattr(programs, "host_bytes", lambda: (10**6, 10**6))
    with pytest.raises(ValueError, match=r"^data\.val_files: .*copies.*prepare it again"):
        check_memory(config)
    check_memory(only(written(tmp_path, [TRUTH.replace("1", f"{n}" * 10**4) for n in range(9)])))


# --- nodes


@pytest.fixture
def file(tmp_path):
    return written(tmp_path)


def node(number, alive=True, cpus=8):
    return {"NodeID": f"{number}", "NodeManagerAddress": f"10.0.0.{number}", "Alive": alive, "Resources": {"CPU": cpus}}


@pytest.fixture
def answers(monkeypatch):
    """What the nodes of a cluster answer: node 1 grades nothing, 2 is gone, and of the others two have a worker."""
    nodes = [node(1, cpus=0), node(2, alive=False), node(3), node(4), node(5)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    problems = {"3": None, "4": None}
    monkeypatch.setattr(programs, "ask", lambda asked, *_: list(map(problems.__getitem__, asked)))
    return problems


def test_each_node_that_gets_a_reward_worker_is_asked_and_named(file, answers):
    config = only(file, "reward.num_workers=2")
    check_nodes(config)
    answers["4"] = "bubblewrap is not installed"
    with pytest.raises(ValueError, match=rf"^data\.val_files: node 10\.0\.0\.4 cannot grade {file}: bubblewrap is not"):
        check_nodes(config)


def test_a_run_without_programs_asks_no_node(tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "nodes", None)
    check_nodes(only(written(tmp_path, ["1"], apart=False, source="polaris")))
    config = only(written(tmp_path))
    config.reward.custom_reward_function.path = "mine.py"
    check_nodes(config)


def test_workers_are_started_only_on_nodes_that_can_grade(file, answers):
    class Manager:
        config = only(file, "reward.num_workers=2")

    started = []
    in_verl.check_nodes_that_grade(lambda: started.append(1), Manager(), (), {})
    answers["3"] = "it has no tests"
    with pytest.raises(ValueError, match=r"node 10\.0\.0\.3"):
        in_verl.check_nodes_that_grade(lambda: started.append(2), Manager(), (), {})
    assert started == [1]


def test_one_node_looks_for_sandbox_and_tests_itself(file, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [node(7)])
    monkeypatch.setattr(sandbox, "_sandbox_problem", lambda: None)
    check_nodes(only(file))
    monkeypatch.setattr(sandbox, "_sandbox_problem", lambda: "bubblewrap is not installed")
    with pytest.raises(ValueError, match=r"node 10\.0\.0\.7 .*bubblewrap"):
        check_nodes(only(file))
    monkeypatch.setattr(sandbox, "_sandbox_problem", lambda: None)
    (tmp_path / NAME).unlink()
    with pytest.raises(ValueError, match=rf"node 10\.0\.0\.7 .*there is no {NAME}"):
        references = [reference_in(json.dumps({"tests_file": NAME, "sha256": "0" * 64}))]
        monkeypatch.setattr(programs, "programs", lambda _: {file: ("data.val_files", references)})
        check_nodes(only(file))


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(405)

    def log_message(self, *_):
        pass


def test_a_service_is_asked_whether_it_is_there():
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/run_code"
        assert problem_here({"sandbox_fusion_url": url}, [], []) is None
        server.shutdown()
    assert "Connection" in problem_here({"sandbox_fusion_url": url}, [], [])
