"""Download and upload of weights through a local server with the routes of the Hugging Face Hub; no network."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from workbench import runs
from workbench.errors import WeightsError
from workbench.models import hub, weights

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
STUDENT = weights.locate("pretrained:vespcn_std")
TOKEN = "hf_of_the_test"


class StubHub(ThreadingHTTPServer):
    """Repositories by name: their files; every request is recorded."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Routes)
        self.repositories: dict[str, dict[str, bytes]] = {
            "me/student": {"model.safetensors": STUDENT.read_bytes(), "run.py": b"1/0"}
        }
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Routes(BaseHTTPRequestHandler):
    server: StubHub

    def log_message(self, format, *args):
        """Write nothing."""

    def answer(self, content=b"", status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def logged_in(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append((self.command, self.path))
        if self.path.startswith("/api/"):
            self.answer({"name": "me", "type": "user"} if self.logged_in else {}, 200 if self.logged_in else 401)
            return
        owner, name, _, revision, file = self.path.strip("/").split("/", 4)
        files = self.server.repositories.get(f"{owner}/{name}")
        if files is None:
            self.answer(status=404, X_Error_Code="RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.answer(status=404, X_Error_Code="RevisionNotFound")
        elif file not in files:
            self.answer(status=404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        else:
            self.answer(files[file], ETag=f'"{hashlib.sha256(files[file]).hexdigest()}"', X_Repo_Commit=COMMIT)

    def do_PUT(self):
        self.server.requests.append((self.command, self.path))
        self.server.objects[self.path.rpartition("/")[2]] = self.body()
        self.answer()

    def do_POST(self):
        self.server.requests.append((self.command, self.path))
        sent = self.body()
        if not self.logged_in:
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            wanted = json.loads(sent)
            name = "/".join(filter(None, (wanted.get("organization"), wanted["name"])))
            self.server.repositories.setdefault(name, {})
            self.server.private[name] = wanted.get("private") or wanted.get("visibility") == "private"
            self.answer({"url": f"{self.server.url}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            modes = {".md": "regular", ".safetensors": "lfs"}
            files = [file["path"] for file in json.loads(sent)["files"]]
            self.answer(
                {
                    "files": [
                        {"path": one, "uploadMode": modes[Path(one).suffix], "shouldIgnore": False} for one in files
                    ]
                }
            )
        elif self.path.endswith("/info/lfs/objects/batch"):
            self.answer(
                {
                    "transfer": "basic",
                    "objects": [
                        {**one, "actions": {"upload": {"href": f"{self.server.url}/objects/{one['oid']}"}}}
                        for one in json.loads(sent)["objects"]
                    ],
                },
                Content_Type="application/vnd.git-lfs+json",
            )
        else:
            repository = self.path.removeprefix("/api/models/").partition("/commit/")[0]
            files = self.server.repositories[repository]
            for line in map(json.loads, sent.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
            url = f"{self.server.url}/{repository}/commit/{COMMIT}"
            self.answer({"success": True, "commitUrl": url, "commitOid": COMMIT})


@pytest.fixture
def server():
    """Run the server in a thread."""
    with StubHub() as stub:
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        yield stub
        stub.shutdown()


@pytest.fixture
def workbench(server, tmp_path):
    """Return a function that runs a command in its own process, whose hub is the server."""

    def run(*args, **variables):
        environment = os.environ | {
            "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*",
            "COLUMNS": "200",
        }  # fmt: skip
        command = [sys.executable, *map(str, args)]
        return subprocess.run(
            command, env=environment | variables, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )

    return run


LOCATE = """
import sys
from workbench.models.weights import checksum, load, locate
print(checksum(locate(sys.argv[1])), len(load(sys.argv[1]).state_dict()))
"""


def test_weights_are_downloaded_once_and_then_read_from_the_cache(server, workbench, tmp_path):
    expected = f"{weights.checksum(STUDENT)} {len(weights.load(STUDENT).state_dict())}"
    first = workbench("-c", LOCATE, "hub:me/student")
    assert first.stdout.strip() == expected, first.stderr
    fetched = [path for method, path in server.requests if method == "GET"]
    assert len(fetched) == 1
    assert fetched[0].endswith("/model.safetensors")
    server.requests.clear()
    assert workbench("-c", LOCATE, "hub:me/student@main", HF_HUB_OFFLINE="1").stdout.strip() == expected
    assert not server.requests
    assert not list((tmp_path / "hf").rglob("*.py"))


EVALUATE = """
import contextlib, io, json, sys, time
from workbench.cli import main
time.sleep = lambda seconds: None  # huggingface_hub repeats a refused connection five times, after 1, 2, 4, 8 and 8 s
results = []
for where in sys.argv[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        results.append((main(["evaluate", "--network", where]), errors.getvalue()))
print(json.dumps(results))
"""
"""Script that evaluates networks and writes the exit status and the errors of each."""


@pytest.mark.parametrize(
    ("variables", "fixes"),
    [
        (
            {},
            {
                "hub:me/nothing": "hf auth login",
                "hub:me/student@other": "revision",
                "hub:me/cards": "model.safetensors",
                "hub:me/page": "web page",
            },
        ),
        ({"HF_HUB_OFFLINE": "1"}, {"hub:me/student": "HF_HUB_OFFLINE"}),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"hub:me/student": "http://127.0.0.1:9"}),
    ],
    ids=["connected", "offline", "no answer"],
)
def test_an_error_names_the_weights_and_the_fix(server, workbench, variables, fixes):
    server.repositories |= {"me/cards": {"README.md": b"#"}, "me/page": {"model.safetensors": b"<html></html>"}}
    done = workbench("-c", EVALUATE, *fixes, **variables)
    assert done.returncode == 0, done.stderr
    for (status, errors), fix in zip(json.loads(done.stdout.splitlines()[-1]), fixes.values(), strict=True):
        assert status == 2
        assert fix in errors
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["student", "me/student/file", "me /student", "../student", "me/student@"])
def test_a_name_of_another_form_is_refused_before_any_request(name):
    with pytest.raises(WeightsError, match="OWNER/NAME"):
        hub.download(f"hub:{name}")


def test_an_upload_contains_the_weights_and_a_card_with_the_metadata_of_the_hub(server, workbench, tmp_path):
    run = tmp_path / "runs" / "first"
    shutil.copytree(runs.shipped("runs") / "vespcn_std", run)
    run_weights = run / "weights" / "student.safetensors"
    run_weights.parent.mkdir(exist_ok=True)
    shutil.copy(STUDENT, run_weights)
    done = workbench("-m", "workbench", "upload", "first", "me/new", "--license", "apache-2.0", "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{server.url}/me/new/commit/{COMMIT}"
    assert server.private["me/new"]
    files = server.repositories["me/new"]
    assert files.keys() == {"README.md", "model.safetensors"}
    assert files["model.safetensors"] == run_weights.read_bytes()
    _, metadata, text = files["README.md"].decode().split("---\n", 2)
    read = yaml.safe_load(metadata)
    assert read["license"] == "apache-2.0"
    assert read["library_name"] == hub.LIBRARY
    assert read["pipeline_tag"] == "video-to-video"
    assert "vespcn_s" in read["tags"]
    assert {"psnr", "ssim"} <= set(read["metrics"])
    assert read["model-index"][0]["name"] == "new"
    assert "| name | vespcn_s |" in text
    assert str(tmp_path) not in files["README.md"].decode()
    loaded = workbench("-c", LOCATE, "hub:me/new")
    assert loaded.stdout.split()[0] == weights.checksum(run_weights), loaded.stderr


def test_an_upload_without_a_valid_token_is_refused_with_the_fix(server, workbench):
    done = workbench("-m", "workbench", "upload", "pretrained:vespcn_plain", "me/new", HF_TOKEN="hf_wrong")
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert "me/new" not in server.repositories
    offline = workbench("-m", "workbench", "upload", "pretrained:vespcn_plain", "me/new", HF_HUB_OFFLINE="1")
    assert offline.returncode == 2
    assert "HF_HUB_OFFLINE" in offline.stderr


def test_no_import_contacts_the_hub():
    source = "import sys, workbench.cli, workbench.models.weights; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0
