"""Mixed load with rollouts, kills and broken files, for FICKLENET_SOAK_MINUTES (20)."""

import collections
import io
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from export import rollout, transport
from ficklenet_tf.serving import server_files, verify
from tests import tiny_run
from tests.serving import servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
ROOT = pathlib.Path(__file__).parents[2]
MINUTES = float(os.environ.get("FICKLENET_SOAK_MINUTES", "20"))


def _rss(process):
    pages = int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class _Server:
    """The stand-in as a process; `kill` is a crash and a new start at the same port."""

    def __init__(self, base):
        self.base, self.port = base, "0"
        self._start()

    def _start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.stand_in", str(self.base), self.port], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        self.address = self.process.stdout.readline().strip()
        self.port = self.address.rpartition(":")[2]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._start()


def _requests(served):
    """(signature, inputs, the right answer or None where it must be refused) of many kinds, 3 % of broken files."""
    chance = random.Random(0)
    kinds = []
    for i in range(60):
        photograph = tiny_run.photograph(chance.randint(9, 90), chance.randint(9, 90), i)
        pixels = photograph[None]
        kinds += [("serving_default", {"images": pixels}), ("serve_jpeg", {"image": [verify.encode(photograph)]}),
                  ("serve_crf", {"images": pixels, "iterations": np.array([2], np.int32)}),
                  ("localization_maps", {"images": pixels, "tags": np.ones((1, 3), np.float32),
                                         "seed": np.array([[i, 1]], np.int32), "num_maps": np.array([5], np.int32)})]
    known = [(name, inputs, served.run(name, {
        key: np.array(value, object) if isinstance(value, list) else value for key, value in inputs.items()}))
        for name, inputs in kinds]
    buffer = io.BytesIO()
    Image.fromarray(tiny_run.photograph(40, 40, 1)).save(buffer, "JPEG")
    broken = [("serve_jpeg", {"image": [data]}, None) for data in (buffer.getvalue()[:99], b"", b"\x89PNG nothing")]
    return known + broken * 3


def _right(answer, expected):
    return all(answer[key] == value.tolist() if value.dtype == object else np.allclose(answer[key], value, atol=1e-5)
               for key, value in expected.items())


def test_load_with_rollouts_kills_and_broken_files(exported, served, tmp_path):
    base = tmp_path / "saved_model"
    for version in (1, 2, 3):
        shutil.copytree(exported[1], base / str(version))
    server_files.add_version(base, 1)
    requests, counts, wrong = _requests(served), collections.Counter(), []
    server, ended, lock = _Server(base), threading.Event(), threading.Lock()

    def ask(seed):
        chance = random.Random(seed)
        with transport.Client(server.address, deadline=120) as client:
            while not ended.is_set():
                name, inputs, expected = chance.choice(requests)
                try:
                    answer = client.predict(name, inputs)
                    outcome = "right" if expected is not None and _right(answer, expected) else "wrong"
                except transport.ServerError as error:
                    outcome = "refused" if expected is None and "INVALID_ARGUMENT" in str(error) else "lost"
                    if outcome == "lost":
                        wrong.append(f"{name}: {error}")
                with lock:
                    counts[outcome] += 1

    threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    chance, deadline, memory, done = random.Random(9), time.monotonic() + 60 * MINUTES, [], 0
    steps = ["canary", "promote", "rollback", "kill", "canary", "withdraw", "promote"]
    while time.monotonic() < deadline or done < len(steps):
        time.sleep(min(15, MINUTES * 5))
        memory.append((counts.total(), round(_rss(server.process.pid)), server.process.pid))
        step = steps[done % len(steps)]
        if step == "kill":
            server.kill()
        else:
            rolled = rollout.Rollout(base, [server.address], wait=120)
            other = chance.choice([version for version in (1, 2, 3) if version != rolled.labels["stable"]])
            getattr(rolled, step)(*([other] if step in ("promote", "canary") else []))
        done += 1
    ended.set()
    for thread in threads:
        thread.join(150)
    server.process.kill()
    print(f"\n{dict(counts)}, {done} steps; (requests, MiB, process): {memory}")
    assert counts["right"] > 50 and counts["wrong"] == counts["lost"] == 0, wrong[:5]


@pytest.mark.parametrize("sizes, limit", [("one size", 1), ("many sizes", 4)])
def test_the_graph_keeps_no_memory(exported, sizes, limit):
    """MiB per thousand requests, over the second half of 6,000 in a bare session.

    What grows with photographs of many sizes is the allocator's, and ends.
    """
    model, chance, seen = servers.Model(exported[1]), random.Random(0), []
    for i in range(6000):
        height, width = (chance.randint(20, 200), chance.randint(20, 200)) if sizes == "many sizes" else (100, 130)
        model.run("serving_default", {"images": np.zeros((1, height, width, 3), np.uint8)})
        if i % 1000 == 999:
            seen.append(round(_rss(os.getpid()), 1))
    growth = (seen[-1] - seen[2]) / 3
    print(f"\n{sizes}: MiB after each 1,000: {seen}; in the second half {growth:.2f} per 1,000")
    assert growth < limit
