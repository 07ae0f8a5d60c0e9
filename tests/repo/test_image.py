"""The image of `deploy/Dockerfile`: its steps run, and what they leave serves, is asked, and stops.

No image is built here: that takes a container engine.
"""

import shlex
import shutil
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from featurestore_server.service import SERVING_SERVICE

from featurestore import FeatureStore

from . import dockerfile
from .doc_page import blocks
from .tree import ROOT, files

DOCKERFILE = ROOT / "deploy/Dockerfile"
BUILD, RUNTIME = dockerfile.read(DOCKERFILE.read_text(encoding="utf-8"))
# They change what it takes, and not what is installed.
SLOW = frozenset(
    {
        "PIP_NO_CACHE_DIR",
        "PYTHONDONTWRITEBYTECODE",
        "UV_COMPILE_BYTECODE",
        "UV_LINK_MODE",
        "UV_NO_CACHE",
    }
)


def one(instruction: str) -> dockerfile.Step:
    [found] = [step for step in RUNTIME if step.instruction == instruction]
    return found


def test_the_runtime_stage_installs_nothing() -> None:
    assert {step.instruction for step in RUNTIME}.isdisjoint({"RUN", "ADD", "SHELL"})
    copied = [step for step in RUNTIME if step.instruction == "COPY"]
    assert {step.flag("from") for step in copied} == {"build"}


def test_the_user_is_a_number_and_not_root() -> None:
    user, _, group = one("USER").rest.partition(":")
    assert int(user) > 0 < int(group)


def test_everything_that_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    sources = {s for step in BUILD if step.instruction == "COPY" for s in step.words()[:-1]}
    assert sources == kept
    assert all(any(f == s or f.startswith(f"{s}/") for f in files()) for s in sources)


def test_there_is_no_port_that_other_machines_reach() -> None:
    compose = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text(encoding="utf-8"))
    published = [port for s in compose["services"].values() for port in s.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_pod_of_the_documents_is_that_of_the_image() -> None:
    page = (ROOT / "docs/deployment.md").read_text(encoding="utf-8")
    [block] = [b for b in blocks(page) if b.language == "yaml"]
    pod = yaml.safe_load(block.code)["spec"]["template"]["spec"]
    [container] = pod["containers"]
    user = pod["securityContext"]
    assert f"{user['runAsUser']}:{user['runAsGroup']}" == one("USER").rest
    [port] = [exposed["containerPort"] for exposed in container["ports"]]
    assert str(port) in one("EXPOSE").words()
    probes = {
        name: container[name]["grpc"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert {probe["port"] for probe in probes.values()} == {port}
    assert [probe.get("service", "") for probe in probes.values()] == ["", "", SERVING_SERVICE]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with definitions, a registry and online rows."""
    repo = tmp_path / "shop"
    template = ROOT / "featurestore/cli/templates/minimal"
    shutil.copytree(template, repo)
    subprocess.run([sys.executable, repo / "build_data.py"], check=True, capture_output=True)
    with FeatureStore(repo) as store:
        store.apply()
        store.materialize()
    return repo


def _base(folder: Path) -> Path:
    """What stands for the base image: an interpreter, and pip for it.

    The pip is our own, told to work there: to install one takes as long as all steps of the image.
    """
    venv.create(folder)
    pip = folder / "bin/pip"
    command = shlex.join([sys.executable, "-m", "pip", "--python", str(folder / "bin/python")])
    pip.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> dockerfile.Stage:
    """The runtime stage, made by the steps of the Dockerfile."""
    base = _base(tmp_path / "base")
    context = tmp_path / "context"
    for path in files():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, context / path)
    build = dockerfile.Stage(tmp_path / "build", context, base / "bin", without=SLOW)
    build.root.mkdir()
    build.run(BUILD)
    runtime = dockerfile.Stage(
        tmp_path / "runtime", context, base / "bin", without=SLOW, earlier={"build": build}
    )
    runtime.root.mkdir()
    runtime.run(RUNTIME)
    shutil.rmtree(build.root)  # what it needs has to be in the runtime stage
    return runtime


def test_what_the_steps_install_serves_is_healthy_and_stops(
    image: dockerfile.Stage, repository: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environment = image.environment | {
        "FEATURESTORE_REPO": str(repository),
        "FEATURESTORE_SERVER__ADDRESS": address,
    }
    command = [*one("ENTRYPOINT").command(), *one("CMD").command()]
    health = one("HEALTHCHECK").command()
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None
    assert Path(program).is_relative_to(image.root)

    def ask() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *health[1:]],
            env=environment,
            cwd=image.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    assert health[0] == command[0]
    assert ask().returncode == 1
    with subprocess.Popen(
        [program, *command[1:]],
        env=environment,
        cwd=image.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("serving project")
            healthy = ask()
            assert (healthy.returncode, healthy.stdout) == (0, f"SERVING: {address}\n")
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
