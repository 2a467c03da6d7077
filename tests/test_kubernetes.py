"""The manifests in deploy/kubernetes: valid, and in agreement with wsd's settings, paths and times."""

import functools
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from wsd.supervisor.config.keys import all_keys
from wsd.supervisor.config.loading import load
from wsd.supervisor.config.settings import Config
from wsd.worker.contract.http_paths import HEALTH_PATH, METRICS_PATH

FOLDER = Path(__file__).parent.parent / "deploy" / "kubernetes"
MANIFESTS = sorted(path for path in FOLDER.glob("*/*.yaml") if path.name != "kustomization.yaml")
FOREIGN = {"service-monitor.yaml"}
"""The kinds of other projects than Kubernetes itself, for which there is no schema at hand."""


@functools.cache
def manifest(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def pod() -> Any:
    return manifest("base/deployment.yaml")["spec"]["template"]["spec"]


def container() -> Any:
    (only,) = pod()["containers"]
    return only


def validate(document: Any) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        validator.validate(document, "1.34", strict=True)


def settings() -> Config:
    """Return the settings of a pod."""
    return load({}, {}, "wsd.toml", FOLDER / "base").config


@pytest.mark.parametrize("path", [path for path in MANIFESTS if path.name not in FOREIGN], ids=lambda path: path.name)
def test_a_manifest_is_valid(path: Path) -> None:
    validate(yaml.safe_load(path.read_text("utf-8")))


def test_the_validation_finds_what_is_wrong() -> None:
    pytest.importorskip("kubernetes_validate")
    wrong = yaml.safe_load((FOLDER / "base" / "service.yaml").read_text("utf-8"))
    wrong["spec"]["portz"] = []
    with pytest.raises(Exception, match="portz"):
        validate(wrong)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
@pytest.mark.parametrize("folder", ["base", "example"])
def test_kustomize_builds_them_all(folder: str) -> None:
    done = subprocess.run(["kubectl", "kustomize", FOLDER / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    kinds = {document["kind"] for document in documents}
    assert {"Deployment", "Service", "PodDisruptionBudget", "ConfigMap"} <= kinds
    if folder == "example":
        assert kinds >= {"HorizontalPodAutoscaler", "ServiceMonitor", "NetworkPolicy", "Ingress", "Secret"}
        (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
        assert "replicas" not in deployment["spec"]  # the autoscaler decides
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/chat:1.0"


def test_all_select_the_pods_of_the_deployment() -> None:
    labels = manifest("base/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert manifest("base/deployment.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("base/service.yaml")["spec"]["selector"] == labels
    assert manifest("base/disruption-budget.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("network-policy/network-policy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert manifest("monitoring/service-monitor.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("base/service.yaml")["metadata"]["labels"] == labels  # by which the monitor finds the service
    assert manifest("autoscaling/autoscaler.yaml")["spec"]["scaleTargetRef"]["name"] == "wsd"


def test_the_grace_period_is_longer_than_the_drain() -> None:
    before = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod()["terminationGracePeriodSeconds"] >= before + settings().cluster.drain_seconds + 10


def test_the_probes_ask_what_wsd_answers_and_are_patient() -> None:
    for probe in ("startupProbe", "readinessProbe"):
        assert container()[probe]["httpGet"]["path"] == HEALTH_PATH
    startup = container()["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > settings().health.start_timeout
    live = container()["livenessProbe"]
    assert live["exec"]["command"][-2:] == ["--state-dir", settings().cluster.state_dir]
    assert live["timeoutSeconds"] > 5  # `wsd status --live` waits for so long
    assert manifest("monitoring/service-monitor.yaml")["spec"]["endpoints"][0]["path"] == METRICS_PATH


def test_ports_and_directories_agree_with_the_settings() -> None:
    config = settings()
    assert [port["containerPort"] for port in container()["ports"]] == [config.cluster.port]
    places = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert {"/tmp", str(Path(config.cluster.state_dir).parent)} <= places
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    (policy,) = manifest("network-policy/network-policy.yaml")["spec"]["ingress"]
    assert [port["port"] for port in policy["ports"]] == [config.cluster.port]


def test_the_environment_holds_settings_of_wsd() -> None:
    names = {env["name"] for env in container()["env"]} - {"POD_IP"}
    secrets = (FOLDER / "example" / "secrets.env").read_text("utf-8")
    names |= set(re.findall(r"^(\w+)=", secrets, re.MULTILINE))
    known = {"NODE_ID", "REDIS_URL"}
    for section, key in all_keys():
        known.add(f"WSD_{key}".upper() if section == "cluster" else f"WSD_{section}_{key}".upper())
    assert names <= known


def test_the_autoscaler_follows_a_metric_that_wsd_has() -> None:
    metrics = (Path(__file__).parent.parent / "supervisor" / "control" / "metrics.py").read_text("utf-8")
    names = [
        m["pods"]["metric"]["name"] for m in manifest("autoscaling/autoscaler.yaml")["spec"]["metrics"] if "pods" in m
    ]
    assert names
    assert all(f'"{name}"' in metrics for name in names)
