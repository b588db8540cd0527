"""Grading by a Sandbox Fusion service: a stand-in on this machine runs what it is sent, or fails in one way."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from balanced_agg.rewards import sandbox, sandbox_fusion
from balanced_agg.rewards.code import grade_code
from balanced_agg.rewards.errors import GraderFailed

ADD = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
TRUTH = json.dumps({"inputs": ["1 2", "3 4"], "outputs": ["3", "7"], "fn_name": None})


class Service(ThreadingHTTPServer):
    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}/run_code"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(request)
        status, body = self.server.answer(request)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    def log_message(self, *args):
        pass


def run_for_real(request):
    done = subprocess.run(
        [sys.executable, "-c", request["code"]], input=request["stdin"], capture_output=True, text=True
    )
    result = {"status": "Finished", "execution_time": 0.1, "return_code": done.returncode, "stdout": done.stdout}
    return 200, {"status": "Failed" if done.returncode else "Success", "message": "", "run_result": result}


@pytest.fixture
def serve(monkeypatch):
    def run_locally(*args, **kwargs):
        raise AssertionError("a program was run on this machine")

    monkeypatch.setattr(sandbox, "execute", run_locally)
    services = []

    def start(answer):
        services.append(Service(answer))
        threading.Thread(target=services[-1].serve_forever, args=(0.01,), daemon=True).start()
        return services[-1]

    yield start
    for service in services:
        service.shutdown()
        service.server_close()


def grade(service, response=ADD, truth=TRUTH, **kwargs):
    return grade_code(response, truth, sandbox_fusion_url=service.url, **kwargs)


def test_programs_are_graded_by_what_the_service_returns(serve):
    service = serve(run_for_real)
    assert grade(service)
    assert not grade(service, ADD.replace("+", "-"))
    assert not grade(service, ADD.replace("print", "raise SystemError\nprint"))


def test_functions_are_called_by_the_same_runner(serve):
    service = serve(run_for_real)
    truth = json.dumps({"inputs": ["[1, 2]\n3"], "outputs": ["[1,2,3]"], "fn_name": "join"})
    program = "```python\nclass Solution:\n    def join(self, a: List[int], b: int):\n        {}\n```"
    assert grade(service, program.format("print('noise'); return (*a, b)"), truth)
    assert not grade(service, program.format("return [b, *a]"), truth)


def test_the_service_never_sees_an_expected_output(serve):
    service = serve(run_for_real)
    truth = json.dumps({"inputs": ["1 2"], "outputs": ["3 expected-marker"], "fn_name": None})
    assert not grade(service, truth=truth, sandbox_fusion_memory_mb=77)
    (request,) = service.requests
    assert "expected-marker" not in json.dumps(request)
    assert request["language"] == "python" and request["memory_limit_MB"] == 77 and request["stdin"] == "1 2"


def test_a_program_over_its_time_is_wrong(serve):
    result = {"status": "TimeLimitExceeded", "execution_time": None, "return_code": None, "stdout": None}
    assert not grade(serve(lambda request: (200, {"status": "Failed", "run_result": result})))


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}),
        (404, b"no such page"),
        (200, b"not json"),
        (200, b"[]"),
        (200, {}),
        (200, {"status": "SandboxError", "message": "out of order", "run_result": None}),
        (200, {"status": "Success", "run_result": {"status": "Finished"}}),
    ],
)
def test_a_failing_service_is_a_failed_grader_not_a_wrong_answer(serve, answer):
    with pytest.raises(GraderFailed, match="Sandbox Fusion"):
        grade(serve(lambda request: answer))


def test_a_service_that_is_not_there_is_a_failed_grader(serve, monkeypatch):
    monkeypatch.setattr(sandbox_fusion, "PAUSES", (0.0, 0.0))
    service = serve(run_for_real)
    service.shutdown()
    service.server_close()
    with pytest.raises(GraderFailed, match="Sandbox Fusion"):
        grade(service)


def test_a_busy_gateway_is_asked_again(serve):
    service = serve(lambda request: (503, {}) if len(service.requests) == 1 else run_for_real(request))
    assert grade(service)
    assert len(service.requests) == 3


def test_a_gateway_that_stays_busy_is_a_failed_grader_in_time(serve, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now, sleep=lambda seconds: None)
    monkeypatch.setattr(sandbox_fusion, "time", clock)

    def answer(request):
        clock.now += 25.0
        return 504, {}

    service = serve(answer)
    with pytest.raises(GraderFailed, match="504"):
        sandbox_fusion.execute("print(3)", b"", sandbox.Limits(), service.url)
    assert len(service.requests) == 3 and clock.now < sandbox.START_SECONDS + 25


def test_a_service_that_never_answers_is_a_failed_grader(serve, monkeypatch):
    monkeypatch.setattr(sandbox_fusion, "START_SECONDS", sandbox_fusion.CONNECT_SECONDS)
    hang = threading.Event()
    service = serve(lambda request: hang.wait() and (200, {}))
    with pytest.raises(GraderFailed, match="Timeout"):
        sandbox_fusion.execute("print(3)", b"", sandbox.Limits(seconds=0.2), service.url)
    hang.set()
    assert len(service.requests) == 1


def test_no_more_requests_are_under_way_than_allowed(serve):
    lock, under_way, most = threading.Lock(), [0], [0]

    def answer(request):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        answered = run_for_real(request)
        with lock:
            under_way[0] -= 1
        return answered

    service = serve(answer)
    threads = [
        threading.Thread(target=grade, args=[service], kwargs={"sandbox_fusion_max_concurrent": 2}) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(service.requests) == 12
    assert most[0] == 2
