"""What a server counts, in one process and over several."""

import os
import subprocess
import sys
import time

from scgpt_infer.server import metrics

COUNT = """
metrics.batch("demo", cells=2, tokens=600, pads=40)
metrics.queued("demo", tokens=70, cells=3)
metrics.stage("demo", "infer", 0.2)
metrics.in_flight(1)
metrics.jobs("queued", 5)
print(os.getpid())
"""


def in_process(folder, code):
    """What a process of the server says: whether counts are shared is settled once in each."""
    code = f"import os\nfrom scgpt_infer.server import metrics\n{code}"
    environment = {**os.environ, metrics.FOLDER: str(folder)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


def told(folder):
    """Samples by name and labels, as a further process tells them."""
    text = in_process(folder, "print(metrics.exposition()[0].decode())").stdout
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_any_process_tells_the_sum_and_what_waited_in_one_that_ended_does_not(tmp_path):
    pids = [int(in_process(tmp_path, COUNT).stdout) for _ in range(2)]
    found = told(tmp_path)
    assert found['scgpt_infer_tokens_total{model="demo"}'] == 1200
    assert found['scgpt_infer_pad_tokens_total{model="demo"}'] == 80
    assert found['scgpt_infer_batch_cells_sum{model="demo"}'] == 4
    assert found['scgpt_infer_batch_tokens_sum{model="demo"}'] == 1280
    assert found['scgpt_infer_stage_seconds_count{model="demo",stage="infer"}'] == 2
    assert 0 <= time.time() - found['scgpt_infer_last_batch_timestamp_seconds{model="demo"}'] < 60
    assert found['scgpt_infer_queued_tokens{model="demo"}'] == 140
    assert found['scgpt_infer_jobs{state="queued"}'] == 5  # all processes see the same jobs
    in_process(tmp_path, f"metrics.ended({pids[0]})")
    found = told(tmp_path)
    assert found['scgpt_infer_queued_tokens{model="demo"}'] == 70
    assert found["scgpt_infer_requests_in_flight"] == 1
    assert found['scgpt_infer_tokens_total{model="demo"}'] == 1200


def test_counts_of_processes_that_ended_stay_and_their_files_do_not(tmp_path):
    counts = []
    for _ in range(3):
        pid = int(in_process(tmp_path, COUNT).stdout)
        before = told(tmp_path)
        in_process(tmp_path, f"metrics.ended({pid})")
        after = told(tmp_path)
        now = {"scgpt_infer_queued_tokens", "scgpt_infer_queued_cells", "scgpt_infer_requests_in_flight"}
        kept = {name: value for name, value in before.items() if name.partition("{")[0] not in now}
        assert kept == {name: value for name, value in after.items() if name in kept}
        counts.append(len([*tmp_path.iterdir()]))
    assert after['scgpt_infer_tokens_total{model="demo"}'] == 1800
    assert after['scgpt_infer_stage_seconds_bucket{le="+Inf",model="demo",stage="infer"}'] == 3
    assert after['scgpt_infer_jobs{state="queued"}'] == 5
    assert 0 <= time.time() - after['scgpt_infer_last_batch_timestamp_seconds{model="demo"}'] < 60
    assert counts[0] == counts[2]
