"""The gate of the Autobahn run: a report that is not perfect does not pass."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from . import __main__ as run

PERFECT = {
    f"1.1.{i}": {"behavior": "INFORMATIONAL" if i <= 3 else "OK", "behaviorClose": "OK", "reportfile": f"{i}.json"}
    for i in range(1, 248)
}


def problems(monkeypatch: pytest.MonkeyPatch, folder: Path, cases: Mapping[str, Any] | None) -> list[str]:
    """What the gate says to a report of the core suite."""
    monkeypatch.setattr(run, "CACHE", folder)
    job = run.Job("host", run.CORE)
    report = job.folder / "report"
    report.mkdir(parents=True)
    (job.folder / "wstest.log").touch()
    if cases is not None:
        (report / "index.json").write_text(json.dumps({"host": cases}))
    (report / "9.json").write_text(json.dumps({"expectation": "An echo.", "received": [["message", "no echo"]]}))
    return run.judge(job)


def test_gate_passes_a_perfect_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert problems(monkeypatch, tmp_path, PERFECT) == []


def test_gate_fails_without_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert problems(monkeypatch, tmp_path, None) == ["wstest wrote no report:\n      (it said nothing)"]


def test_gate_fails_when_a_case_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cases = {name: case for name, case in PERFECT.items() if name != "1.1.9"}
    assert problems(monkeypatch, tmp_path, cases) == ["246 cases in the report, 247 expected"]


@pytest.mark.parametrize("key", ["behavior", "behaviorClose"])
@pytest.mark.parametrize("verdict", ["FAILED", "NON-STRICT", "UNCLEAN", "WRONG CODE", "UNIMPLEMENTED"])
def test_gate_fails_on_a_case_and_says_what_autobahn_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, verdict: str
) -> None:
    (problem,) = problems(monkeypatch, tmp_path, {**PERFECT, "1.1.9": {**PERFECT["1.1.9"], key: verdict}})
    assert problem.startswith("case 1.1.9: ")
    assert verdict in problem
    assert "An echo." in problem
    assert "no echo" in problem


def test_gate_fails_when_too_many_cases_are_informational(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cases = {**PERFECT, "1.1.9": {**PERFECT["1.1.9"], "behavior": "INFORMATIONAL"}}
    assert problems(monkeypatch, tmp_path, cases) == ["4 cases are INFORMATIONAL, 3 expected"]
