"""The doctor's two forms and its exit status."""

from __future__ import annotations

import json
import re

from densecore import doctor


def test_the_table_says_that_all_is_well(capsys):
    assert doctor.main(["--offline"]) == 0
    shown = capsys.readouterr().out
    for heading in ("versions", "machine", "models here", "self test"):
        assert f"\n{heading}\n" in f"\n{shown}"
    assert shown.rstrip().endswith("all well")


def test_the_json_form_holds_the_same_facts(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "not-to-be-shown")
    assert doctor.main(["--offline", "--json", "--model", "smollm2-135m-instruct"]) == 0
    shown = capsys.readouterr().out
    assert "not-to-be-shown" not in shown
    report = json.loads(shown)
    assert report["ok"] is True
    assert report["self_test"]["ok"] is True
    assert all(check["ok"] for check in report["self_test"]["checks"])
    assert report["self_test"]["seconds"] < 2
    assert report["settings"]["HF_TOKEN"] == "set"
    assert report["hardware"]["threads"] >= 1
    assert report["token"]["model"] == "smollm2-135m-instruct"
    assert report["token"]["text"]


def test_a_model_that_is_not_there_is_told_and_fails(capsys, tmp_path):
    missing = tmp_path / "nothing.gguf"
    assert doctor.main(["--offline", "--model", str(missing)]) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "nothing.gguf" in shown


def test_a_failed_self_test_fails(capsys, monkeypatch):
    monkeypatch.setattr(doctor._core, "self_test", lambda: [("portable product, Q4_0", True), ("Q4_K", False)])
    assert doctor.main(["--offline"]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"Q4_K +FAILED", shown)
    assert re.search(r"Q4_0 +ok", shown)
    assert "something is wrong" in shown
