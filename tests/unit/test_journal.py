"""A run's journal loses nothing and takes nothing that cannot be right."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.journals import example, header, journal

from densecore import report
from densecore.errors import DataError, StorageError
from densecore.report import journal as journals

Journal = report.Journal
ROOT = Path(__file__).resolve().parents[2]


def test_a_journal_gives_back_what_was_put_in(tmp_path):
    path = tmp_path / "deep" / "run.jsonl"
    wrong = example(
        1,
        correct=False,
        failure="format",
        text="a\nb\u2028c",
        error="boom",
        scores={"f1": 0.25},
        seconds=1.5,
        ended=2.0,
    )
    with Journal.open(path, header()) as opened:
        opened.append(wrong)
        opened.append(example(0, ended=1.0))
        assert opened.done_ids == {"dev-0", "dev-1"}
    read = Journal.read(path)
    assert read.header == header()
    assert read.examples == [example(0, ended=1.0), wrong]  # the order of the set, not that of the file
    assert len(path.read_bytes().splitlines()) == len(read) + 1 == 3


def test_a_score_left_out_is_that_of_exact_match():
    assert (example(0).score, example(0, correct=False).score) == (1.0, 0.0)
    assert example(0, correct=False, score=0.4).score == 0.4


def test_half_a_surrogate_pair_and_other_scripts_survive(tmp_path):
    made = journal(tmp_path / "a.jsonl", [example(0, text="\ud83d half"), example(1, text="日本")])
    assert [each.text for each in made.examples] == ["\ud83d half", "日本"]
    assert "日本".encode() in (tmp_path / "a.jsonl").read_bytes()


@pytest.mark.parametrize("left", [1, 20, -1])
def test_a_torn_last_line_is_dropped_and_done_again(tmp_path, left):
    path = tmp_path / "run.jsonl"
    journal(path, [example(0), example(1)])
    lines = path.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[:-1])
    path.write_bytes(whole + lines[-1][:left])
    assert [each.id for each in Journal.read(path).examples] == ["dev-0"]
    with Journal.open(path, header("run")) as opened:
        assert opened.done_ids == {"dev-0"}
        assert path.read_bytes() == whole
        opened.append(example(1))
    assert Journal.read(path).done_ids == {"dev-0", "dev-1"}


@pytest.mark.parametrize("left", [0, 5, 40])
def test_a_torn_header_begins_anew(tmp_path, left):
    path = tmp_path / "run.jsonl"
    journal(path, [])
    path.write_bytes(path.read_bytes()[:left])
    with Journal.open(path, header("run", seed=3)) as opened:
        opened.append(example(0))
    assert Journal.read(path).header.seed == 3


@pytest.mark.parametrize("content", [b"hello", b'{"a": 1}\n', b"\x00\x00", b'{"densecore_journal": 1, "run": 3}\n'])
def test_other_files_are_left_alone(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{path}:1")):
        Journal.open(path, header())
    assert path.read_bytes() == content


WRITER = """
import sys
from densecore.report import Journal
from tests.journals import example, header
with Journal.open(sys.argv[1], header("run")) as journal:
    for index in range(len(journal), 100_000):
        journal.append(example(index, text="x" * 5000))
        print(index, flush=True)
"""
WRITES = (sys.executable, "-c", WRITER)


def test_a_killed_run_loses_nothing_it_had_answered(tmp_path):
    path, done = tmp_path / "run.jsonl", -1
    for _ in range(2):
        child = subprocess.Popen([*WRITES, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for _ in range(5):
            done = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        done = max([done, *(int(line) for line in child.stdout if line.endswith("\n"))])
        child.wait()
        assert {f"dev-{index}" for index in range(done + 1)} <= Journal.read(path).done_ids
    assert done >= 9


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    with Journal.open(path, header()) as first:
        first.append(example(0))
        with pytest.raises(StorageError, match="another run"):
            Journal.open(path, header())
        other = subprocess.run([*WRITES, str(path)], capture_output=True, text=True, cwd=ROOT)
        assert other.returncode != 0
        assert "another run" in other.stderr
        first.append(example(1))
    with Journal.open(path, header()) as second:
        assert second.done_ids == {"dev-0", "dev-1"}


def test_threads_share_a_journal(tmp_path):
    path = tmp_path / "run.jsonl"
    with Journal.open(path, header()) as opened:
        workers = [
            threading.Thread(target=lambda k=k: [opened.append(example(20 * k + i, text="y" * 999)) for i in range(20)])
            for k in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert [each.index for each in Journal.read(path).examples] == list(range(160))


@pytest.mark.parametrize(
    ("name", "change", "old", "new"),
    [
        ("seed", {"seed": 1}, "0", "1"),
        ("model_hash", {"model_hash": "cd"}, "abab", "'cd'"),
        ("settings", {"settings": {"max_tokens": 8}}, "400", "8"),
        ("machine.threads", {"machine": {**header().machine, "threads": 64}}, "2", "64"),
    ],
)
def test_another_run_is_not_resumed(tmp_path, name, change, old, new):
    path = tmp_path / "run.jsonl"
    journal(path, [example(0)])
    with pytest.raises(DataError) as caught:
        Journal.open(path, header("run", **change))
    assert re.search(rf"{re.escape(name)} was .*{re.escape(old)}.*, is now .*{re.escape(new)}", str(caught.value))
    assert Journal.read(path).done_ids == {"dev-0"}


def test_what_does_not_matter_may_differ(tmp_path):
    path = tmp_path / "run.jsonl"
    journal(path, [example(0)], settings={"layers": [1, 2]})
    later = header(
        "run", settings={"layers": (1, 2)}, command="another", started="later", versions={"densecore": "0.1.0"}
    )
    with Journal.open(path, later) as opened:
        assert opened.header.started == "2026-11-20T14:00:00+00:00"


def test_a_fresh_run_does_not_overwrite(tmp_path):
    path = tmp_path / "run.jsonl"
    with Journal.open(path, header("run"), resume=False) as opened:
        opened.append(example(0))
    with pytest.raises(DataError, match="holds 1 examples"):
        Journal.open(path, header("run"), resume=False)
    assert Journal.read(path).done_ids == {"dev-0"}


@pytest.mark.parametrize("resumed", [False, True])
def test_a_full_disk_costs_one_line_and_no_more(tmp_path, monkeypatch, resumed):
    path = tmp_path / "run.jsonl"
    if resumed:
        journal(path, [example(0)])
    with Journal.open(path, header("run")) as opened:
        if not resumed:
            opened.append(example(0))
        real = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:30]) and full())

        def full():
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(StorageError, match="No space left"):
            opened.append(example(1))
        assert opened.done_ids == {"dev-0"}
        monkeypatch.undo()
        assert Journal.read(path).done_ids == {"dev-0"}
        opened.append(example(2))
        opened.append(example(1))
    assert Journal.read(path).done_ids == {"dev-0", "dev-1", "dev-2"}


def test_an_example_is_answered_once(tmp_path):
    path = tmp_path / "run.jsonl"
    with Journal.open(path, header()) as opened:
        opened.append(example(0))
        with pytest.raises(DataError, match="dev-0"):
            opened.append(example(0))
    with pytest.raises(DataError, match="not open for writing"):
        Journal.read(path).append(example(1))
    last = path.read_bytes().splitlines(keepends=True)[-1]
    path.write_bytes(path.read_bytes() + last)
    with pytest.raises(DataError, match=re.escape(f"{path}:3: example 'dev-0' is there twice")):
        Journal.read(path)


def line(**changes):
    facts = {**json.loads(journals.record.line(example(1))), **changes}
    return json.dumps({name: value for name, value in facts.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"not json", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": ' * 100_000, "not JSON"),
        (line(correct=1), "correct = 1"),
        (line(score=1.5), "score = 1.5"),
        (line(score=math.nan), "score = nan"),
        (line(seconds=-1), "seconds = -1"),
        (line(emitted_tokens=True), "emitted_tokens = True"),
        (line(latent_steps=-4), "latent_steps = -4"),
        (line(id=""), "without an id"),
        (line(scores={"f1": "much"}), "scores ="),
        (line(gold=...), "gold"),
        (line(colour="blue"), "'colour' is not known"),
    ],
)
def test_a_line_that_cannot_be_right_is_named(tmp_path, bad, said):
    path = tmp_path / "run.jsonl"
    journal(path, [example(0)])
    path.write_bytes(path.read_bytes() + bad + b"\n")
    for attempt in (lambda: Journal.read(path), lambda: Journal.open(path, header("run"))):
        with pytest.raises(DataError) as caught:
            attempt()
        assert str(caught.value).startswith(f"{path}:3: ")
        assert said in str(caught.value)


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(journals.record.line(header()).replace(b'"densecore_journal": 1', b'"densecore_journal": 2'))
    with pytest.raises(DataError, match="format 2"):
        Journal.read(path)


def test_a_journal_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageError, match=r"none\.jsonl"):
        Journal.read(tmp_path / "none.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        Journal.open(tmp_path / "file" / "run.jsonl", header())


def test_a_header_fills_in_what_is_known():
    made = report.Header.begin(run="r", set="s", split="dev", program="p", seed=1, model="m", machine={"cpu": "c"})
    assert made.machine == {"cpu": "c"}
    assert made.versions["densecore"]
    assert made.command.startswith("python ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made.started)
    assert set(journals.record.machine()) == {"cpu", "tier", "physical", "threads", "memory_total"}
