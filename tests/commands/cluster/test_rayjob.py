"""docker/rayjob.yaml fits the hardware file, the image and the lock that it speaks of, and lets in no one."""

import re
import shlex

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from balanced_agg.plugin.checks.cluster import CPUS_PER_RANK
from tests.composed import ROOT, compose_recipe
from tests.test_environment import LOCKED, PROJECT


@pytest.fixture(scope="module")
def documents() -> dict[str, dict]:
    with (ROOT / "docker/rayjob.yaml").open() as file:
        return {document["kind"]: document for document in yaml.safe_load_all(file)}


@pytest.fixture(scope="module")
def spec(documents) -> dict:
    return documents["RayJob"]["spec"]


@pytest.fixture(scope="module")
def groups(spec) -> list[tuple[int, dict]]:
    """Number of pods and spec of a pod, of the head and of each group of workers."""
    cluster = spec["rayClusterSpec"]
    workers = [(group["replicas"], group["template"]["spec"]) for group in cluster["workerGroupSpecs"]]
    return [(1, cluster["headGroupSpec"]["template"]["spec"]), *workers]


@pytest.fixture(scope="module")
def config(spec):
    bash, script, recipe, *overrides = shlex.split(spec["entrypoint"])
    assert (bash, script) == ("bash", "/workspace/scripts/train.sh") and (ROOT / "scripts/train.sh").is_file()
    assert "hardware" in {override.key_or_group for override in OverridesParser.create().parse_overrides(overrides)}
    return compose_recipe(recipe, *overrides)


def test_the_pods_are_the_nodes_and_gpus_of_the_hardware_file(groups, config):
    assert sum(pods for pods, _ in groups) == config.trainer.nnodes
    for _, pod in groups:
        (container,) = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == config.trainer.n_gpus_per_node
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_pods_have_a_cpu_for_every_actor_that_asks_for_one(groups, config):
    cpus = sum(pods * pod["containers"][0]["resources"]["limits"]["cpu"] for pods, pod in groups)
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    assert cpus >= ranks * CPUS_PER_RANK + config.transfer_queue.backend.SimpleStorage.num_data_storage_units + 2


def test_the_group_of_workers_never_grows_or_shrinks(spec):
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"]


def test_the_run_joins_the_cluster_that_its_pods_are(config):
    assert config.ray_kwargs.ray_init.num_cpus is None


def test_the_cluster_has_a_token_and_the_ray_of_the_lock(spec):
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == LOCKED["gpu"]["ray"]


def test_no_secret_is_written_down(documents):
    text = (ROOT / "docker/rayjob.yaml").read_text()
    assert "Secret" not in documents and "secretKeyRef" not in text and "RAY_AUTH_TOKEN" not in text


def test_every_pod_is_of_our_image_as_its_ordinary_user(spec, groups):
    for pod in [pod for _, pod in groups] + [spec["submitterPodTemplate"]["spec"]]:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"USER_ID={pod['securityContext']['runAsUser']}" in (ROOT / "docker/Dockerfile").read_text()
        (container,) = pod["containers"]
        assert container["image"] == f"balanced-agg:{PROJECT['version']}"
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_what_a_run_reads_and_writes_is_on_the_volume_that_all_pods_share(documents, groups, config):
    claim = documents["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for _, pod in groups:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
        for folder in ("outputs", "artifacts"):
            volume = mounts[f"/workspace/{folder}"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"


def test_the_cluster_ends_with_its_run(spec):
    assert spec["shutdownAfterJobFinishes"] is True


def test_programs_are_graded_by_the_service_of_the_same_file(documents, groups, config):
    service, sandbox = documents["Service"], documents["Deployment"]["spec"]["template"]
    host, port = re.fullmatch(r"http://([\w-]+):(\d+)/run_code", config.reward.sandbox_fusion.url).groups()
    assert service["metadata"]["name"] == host
    assert [{"port": int(port)}] == service["spec"]["ports"]
    assert service["spec"]["selector"].items() <= sandbox["metadata"]["labels"].items()
    (container,) = sandbox["spec"]["containers"]
    assert container["ports"] == [{"containerPort": int(port)}]


def test_pods_that_run_programs_hold_nothing_and_reach_nothing(documents):
    sandbox, policy = documents["Deployment"]["spec"]["template"], documents["NetworkPolicy"]["spec"]
    assert sandbox["spec"]["automountServiceAccountToken"] is False
    assert "volumes" not in sandbox["spec"] and "env" not in sandbox["spec"]["containers"][0]
    assert policy["podSelector"]["matchLabels"] == sandbox["metadata"]["labels"]
    assert "Egress" in policy["policyTypes"] and "egress" not in policy, "none is allowed"
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": {"ray.io/is-ray-node": "yes"}}}]
