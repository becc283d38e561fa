"""One setting for every test: the CPU as 8 devices, and compilations that are quick and kept between runs."""

import base64
import hmac
import os
import shutil
import subprocess
import sys
import urllib.request
import uuid
from email.utils import formatdate
from pathlib import Path

import hypothesis
import pytest

# On a GPU only where that is asked for by name: `JAX_PLATFORMS=cuda python -m pytest -m device`.
if not os.environ.get("JAX_PLATFORMS", "").startswith("cuda"):
    os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/encdec_jax/jit-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
hypothesis.settings.register_profile("house", deadline=None)  # no test is one of the machine's speed
hypothesis.settings.load_profile("house")


@pytest.fixture(autouse=True)
def forgotten():
    """Compiled programs leave a process before they fill it: Linux grants it 65,530 mappings, of which each takes some.

    Beyond, the compiler crashes; and two processes with the programs of all tests took 20 GB.
    """
    yield
    if "jax" in sys.modules and Path("/proc/self/maps").read_bytes().count(b"\n") > 20_000:
        sys.modules["jax"].clear_caches()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """ENCDEC_RUNS, ENCDEC_CACHE and working directory of the test's own, which is a project; gives it."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("ENCDEC_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# moto looks whether an object is there and then puts it, on a thread a request: two that create one both may.
_SERVER = """
import sys
import threading
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
one, put = threading.Lock(), S3Response.put_object
def alone(self):
    with one:
        return put(self)
S3Response.put_object = alone
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server on loopback, in a process of its own; skips where obstore or moto is absent."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", _SERVER], text=True, **pipes) as server:
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/runs", method="PUT"))
        yield address
        server.kill()


@pytest.fixture
def s3(s3_server, monkeypatch, tmp_path):
    """The URL of an empty place in a bucket, for which the environment has keys; local copies go to the test's own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    for name, value in {
        "ACCESS_KEY_ID": "not-a-key",
        "SECRET_ACCESS_KEY": "very-secret",
        "REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return f"s3://runs/{uuid.uuid4().hex}"


_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # of every emulator


@pytest.fixture(scope="session")
def azure_server():
    """The address of Azurite's blobs on loopback (npm install -g azurite); skips where it or obstore is absent."""
    pytest.importorskip("obstore")
    if shutil.which("azurite-blob") is None:
        pytest.skip("azurite-blob is not installed")
    command = ["azurite-blob", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        listens = next(line for line in server.stdout if "listens on" in line)
        address = listens.split()[-1]
        now = formatdate(usegmt=True)
        named = "/devstoreaccount1/devstoreaccount1/runs\nrestype:container"
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{now}\nx-ms-version:2021-08-06\n{named}"
        digest = hmac.digest(base64.b64decode(_KEY), signed.encode(), "sha256")
        request = urllib.request.Request(f"{address}/devstoreaccount1/runs?restype=container", method="PUT")
        for name, value in {
            "x-ms-date": now,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey devstoreaccount1:{base64.b64encode(digest).decode()}",
            "Content-Length": "0",
        }.items():
            request.add_header(name, value)
        urllib.request.urlopen(request)
        yield address
        server.kill()


@pytest.fixture
def azure(azure_server, monkeypatch, tmp_path):
    """As `s3`, in Azurite."""
    for name in ("AZURE_STORAGE_USE_EMULATOR", "AZURE_ALLOW_HTTP"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", azure_server)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return f"az://runs/{uuid.uuid4().hex}"


@pytest.fixture(params=["s3", "azure"])
def place(request):
    """The URL of an empty place in a bucket, of each kind of store whose server is here."""
    return request.getfixturevalue(request.param)
