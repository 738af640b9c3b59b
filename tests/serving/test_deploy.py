"""What a server is started by: parsed as its engine parses it, its flags known to the server, its probes asked."""

import pathlib
import re
import subprocess

import pytest
import yaml

from tests.serving import servers

DEPLOY = pathlib.Path(__file__).parents[2] / "export" / "deploy"
# Of tensorflow_model_server (main.cc of TensorFlow Serving).
FLAGS = {"port", "rest_api_port", "rest_api_timeout_in_ms", "model_config_file", "model_config_file_poll_wait_seconds",
         "model_name", "model_base_path", "allow_version_labels_for_unavailable_models", "grpc_max_threads",
         "enable_batching", "batching_parameters_file", "monitoring_config_file", "per_process_gpu_memory_fraction",
         "max_num_load_retries", "tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"}
# The server exports TensorFlow's own registry alone: no process_..., see prometheus_exporter.cc.
METRICS = {":tensorflow:serving:request_count", ":tensorflow:serving:request_latency_bucket", "up",
           "container_memory_working_set_bytes"}


def _kubernetes():
    return {part["kind"]: part for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def _commands():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
    [container] = _kubernetes()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return {"compose": compose["command"], "kubernetes": container["args"]}


@pytest.mark.parametrize("engine", ["compose", "kubernetes"])
def test_the_server_knows_every_flag(engine):
    flags = [argument.removeprefix("--").split("=")[0] for argument in _commands()[engine]]
    assert set(flags) <= FLAGS and len(flags) == len(set(flags))
    assert {"model_config_file", "allow_version_labels_for_unavailable_models", "grpc_max_threads"} <= set(flags)


def test_the_readmes_commands_have_flags_that_the_server_knows():
    text = (DEPLOY.parent / "README.md").read_text()
    commands = re.findall(r"(?:tensorflow/serving\S*|tensorflow_model_server)((?:\s+\\?\s*--[\w-]+\S*)+)", text)
    flags = {flag for command in commands for flag in re.findall(r"--([\w-]+)", command)}
    assert len(commands) >= 3 and flags <= FLAGS
    code = "".join((DEPLOY.parent / f"{name}.py").read_text() for name in ("client", "rollout", "export_saved_model"))
    ours = set(re.findall(r'(?:"--|DEFINE_\w+\(\s*"|define\.sizes\(")(\w+)"', code))
    inline = set(re.findall(r"`--(\w+)", text))
    assert len(inline) > 15 and inline - FLAGS - ours == {"help"}


def test_monitoring():
    """The field names are those of monitoring_config.proto, which the published packages leave out."""
    form = r'(?s)(?:#[^\n]*\n)?prometheus_config \{ enable: true, path: "(/[\w/]+)" \}\s*'
    [path] = re.fullmatch(form, (DEPLOY / "monitoring.config").read_text()).groups()
    [kept] = re.fullmatch(form, _kubernetes()["ConfigMap"]["data"]["monitoring.config"]).groups()
    annotations = _kubernetes()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == path == kept


def test_kubernetes_fits_together():
    parts = _kubernetes()
    pod = parts["Deployment"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"] for port in parts["Service"]["spec"]["ports"]} <= set(ports)
    assert parts["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert sleep < pod["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("loaded", [True, False])
def test_the_probes_wait_for_the_label(loaded):
    """While the version is loading the model's status is 200 already; the label's metadata are not."""
    versions = servers.Versions({1: None} if loaded else {}, {"stable": 1})
    versions.states[1] = (servers.AVAILABLE if loaded else servers.LOADING), ""
    [container] = _kubernetes()["Deployment"]["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
    with servers.serve_http(versions) as address:
        port = address.rpartition(":")[2]
        for path in paths:
            code = subprocess.run(["python3", "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])",
                                   address + path], capture_output=True, check=False).returncode
            assert (code == 0) == loaded
        command = [part.replace("/8501", f"/{port}") for part in compose["healthcheck"]["test"][1:]]
        assert (subprocess.run(command, check=False).returncode == 0) == loaded


def test_the_rules_name_what_the_server_measures():
    groups = yaml.safe_load((DEPLOY / "prometheus_rules.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    names = {name for rule in rules for name in re.findall(r"(:?[a-z_:]+)\{", rule["expr"])}
    assert names == METRICS and "job_name: ficklenet" in (DEPLOY / "prometheus_rules.yaml").read_text()
    assert all('job="ficklenet"' in rule["expr"] for rule in rules if "up{" in rule["expr"])
    assert len({rule["alert"] for rule in rules}) == len(rules) == 4
    assert all(rule["expr"].count("(") == rule["expr"].count(")") and rule["annotations"]["summary"] for rule in rules)
