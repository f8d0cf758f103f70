"""Runs the Autobahn test suite against every byte host, and lets nothing through that is not perfect.

`make autobahn` runs it: all cases but compression (1-7, 10: "core"; 9: limits and performance) on every target, and 84
of the 216 compression cases (12, 13) on two: every way to negotiate it and the smaller sizes of messages; the rest is
the same with larger ones, and `--full-deflate` runs it all.

`wstest` exits 0 whatever happens, so only its report counts: every expected case must be in it, and be OK.
"""

import argparse
import collections
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .install import CACHE, install

# The byte hosts: what is started, and where to reach it.
TARGETS: Mapping[str, str] = {
    "serve-async": "{python} -m wsadapter echo --port {port} --compress",
    "serve-def": "{python} -m wsadapter echo --port {port} --compress --blocking",
    "threads": "{python} examples/threads.py --port {port} --compress",
}
DEFLATE_TARGETS = ("serve-async", "threads")

ROOT = Path(__file__).resolve().parent.parent.parent
FINE = {"OK", "INFORMATIONAL"}
DEFLATE_GROUPS = [f"12.{i}" for i in range(1, 6)] + [f"13.{i}" for i in range(1, 8)]
DEFLATE_SUBSET = [1, 2, 3, 4, 5, 6, 11]  # of the 18 sizes in each group


@dataclass(frozen=True)
class Suite:
    """Some of Autobahn's cases, and how many of them have to come out how."""

    name: str
    cases: Sequence[str]
    exclude: Sequence[str]
    expected: int
    seconds: int
    """About how long it takes: the longest starts first."""
    informational: int = 0


CORE = Suite("core", ["*"], ["9.*", "12.*", "13.*"], expected=247, informational=3, seconds=10)
NINE = Suite("9.*", ["9.*"], [], expected=54, seconds=12)
DEFLATE = Suite(
    "deflate", [f"{group}.{i}" for group in DEFLATE_GROUPS for i in DEFLATE_SUBSET], [], expected=84, seconds=65
)
FULL_DEFLATE = (
    Suite("deflate-12", ["12.*"], [], expected=90, seconds=400),
    Suite("deflate-13", ["13.*"], [], expected=126, seconds=600),
)


@dataclass
class Job:
    """One suite against one target, with a server of its own."""

    target: str
    suite: Suite
    done: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.target} {self.suite.name}"

    @property
    def folder(self) -> Path:
        return CACHE / "reports" / self.target / self.suite.name.removesuffix(".*")


class Failure(Exception):
    """The cases could not be run to their end; says why."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def tail(path: Path, lines: int = 20) -> str:
    said = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join("      " + line for line in said or ["(it said nothing)"])


@contextlib.contextmanager
def running_server(job: Job, command: str) -> Iterator[int]:
    """The target's server on a free port of the loopback interface, from when it answers until the end of the block."""
    port = free_port()
    argv = [part.format(python=sys.executable, port=port) for part in command.split()]
    log_path = job.folder / "server.log"
    with log_path.open("w") as log:
        server = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 15
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if server.poll() is not None:
                        raise Failure(f"`{' '.join(argv)}` ended at once:\n{tail(log_path)}") from None
                    if time.monotonic() > deadline:
                        raise Failure(f"`{' '.join(argv)}` does not listen after 15 s:\n{tail(log_path)}") from None
                    time.sleep(0.05)
            yield port
            if server.poll() is not None:
                raise Failure(f"the server died on the way, exit code {server.returncode}:\n{tail(log_path)}")
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def run(job: Job, command: str, wstest: Path, timeout: float) -> None:
    """Run the job's cases; what is wrong is in `job.problems` afterwards."""
    shutil.rmtree(job.folder, ignore_errors=True)  # a report of an earlier run must not be taken for this one's
    job.folder.mkdir(parents=True)
    try:
        with running_server(job, command) as port:
            drive(job, port, wstest, timeout)
    except Failure as failure:
        job.problems.append(str(failure))
    else:
        job.problems += judge(job)


def drive(job: Job, port: int, wstest: Path, timeout: float) -> None:
    """Let the fuzzing client loose on the server."""
    spec = {
        "outdir": str(job.folder / "report"),
        "servers": [{"agent": job.target, "url": f"ws://127.0.0.1:{port}/"}],
        "cases": job.suite.cases,
        "exclude-cases": job.suite.exclude,
        "exclude-agent-cases": {},
    }
    spec_path = job.folder / "spec.json"
    spec_path.write_text(json.dumps(spec, indent=1))
    log_path = job.folder / "wstest.log"
    client = subprocess.Popen(
        [wstest, "-m", "fuzzingclient", "-s", spec_path],
        cwd=job.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    timer = threading.Timer(timeout, client.kill)
    timer.start()
    try:
        assert client.stdout is not None
        with client.stdout, log_path.open("w") as log:
            for line in client.stdout:
                log.write(line)
                job.done += line.startswith("Running test case ID")
        client.wait()
    finally:
        late = not timer.is_alive()
        timer.cancel()
        client.kill()
        client.wait()
    if late:
        raise Failure(f"not finished after {timeout:.0f} s, {job.done} cases had begun:\n{tail(log_path, 5)}")


def judge(job: Job) -> list[str]:
    """What is wrong with the report; nothing, if it is perfect."""
    report = job.folder / "report"
    index = report / "index.json"
    if not index.exists():
        return [f"wstest wrote no report:\n{tail(job.folder / 'wstest.log')}"]
    cases: dict[str, dict[str, Any]] = json.loads(index.read_text()).get(job.target, {})
    problems = []
    if len(cases) != job.suite.expected:
        problems.append(f"{len(cases)} cases in the report, {job.suite.expected} expected")
    informational = sum(case["behavior"] == "INFORMATIONAL" for case in cases.values())
    if informational != job.suite.informational:
        problems.append(f"{informational} cases are INFORMATIONAL, {job.suite.informational} expected")
    for case_id in sorted(cases, key=lambda case_id: [int(part) for part in case_id.split(".")]):
        case = cases[case_id]
        if not {case["behavior"], case["behaviorClose"]} <= FINE:
            problems.append(explain(case_id, case, report / case["reportfile"]))
    return problems


def explain(case_id: str, summary: Mapping[str, Any], path: Path) -> str:
    """A failed case in Autobahn's own words."""
    lines = [f"case {case_id}: {summary['behavior']}, closing {summary['behaviorClose']}"]
    try:
        case = json.loads(path.read_text())
    except (OSError, ValueError):
        return lines[0]
    for key in ("description", "expectation", "result", "resultClose", "expected", "received"):
        if value := case.get(key):
            text = " ".join(str(value).split())
            lines.append(f"    {key + ':':<13}{text[:400]}{'…' if len(text) > 400 else ''}")
    return "\n".join(lines)


def summary(job: Job) -> str:
    """How the cases of a job came out, counted."""
    index = job.folder / "report" / "index.json"
    if not index.exists():
        return "no report"
    cases = json.loads(index.read_text()).get(job.target, {}).values()
    counts = collections.Counter(case["behavior"] for case in cases)
    return f"{len(cases):3} cases: " + ", ".join(f"{count} {name}" for name, count in counts.most_common())


def run_all(jobs: Sequence[Job], targets: Mapping[str, str], wstest: Path, workers: int) -> None:
    """Run the jobs, some at a time, and tell how far they are."""
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    with ThreadPoolExecutor(workers) as pool:
        futures = {
            pool.submit(run, job, targets[job.target], wstest, 60 + 6 * job.suite.seconds): job
            for job in sorted(jobs, key=lambda job: -job.suite.seconds)
        }
        waiting = threading.Event()

        def progress() -> None:
            while not waiting.wait(10):
                active = [job for future, job in futures.items() if future.running()]
                say("… " + ", ".join(f"{job.name} {job.done}/{job.suite.expected}" for job in active))

        ticker = threading.Thread(target=progress, daemon=True)
        ticker.start()
        for future in as_completed(futures):
            job = futures[future]
            future.result()
            say(f"{'FAILED' if job.problems else 'passed'}  {job.name:<22} {summary(job)}")
        waiting.set()
        ticker.join()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"which (default: all): {', '.join(TARGETS)}")
    parser.add_argument(
        "--command", action="append", default=[], metavar="NAME=COMMAND", help="test this server, too: {python}, {port}"
    )
    parser.add_argument("--only", action="append", choices=["core", "9", "deflate"], help="only these cases")
    parser.add_argument("--full-deflate", action="store_true", help="all 216 compression cases (about 15 minutes)")
    parser.add_argument("--jobs", type=int, default=2, help="how many fuzzing clients at a time (default: 2)")
    options = parser.parse_args(argv)

    targets = dict(TARGETS)
    named = list(options.targets)
    for given in options.command:
        name, _, command = given.partition("=")
        targets[name] = command
        named.append(name)
    if unknown := [name for name in named if name not in targets]:
        parser.error(f"no such target: {', '.join(unknown)}")
    deflate = FULL_DEFLATE if options.full_deflate else (DEFLATE,)
    only = options.only or ["core", "9", "deflate"]
    jobs = []
    for name in named or targets:
        jobs += [Job(name, CORE)] * ("core" in only) + [Job(name, NINE)] * ("9" in only)
        if "deflate" in only and (name in named or name in DEFLATE_TARGETS):
            jobs += [Job(name, suite) for suite in deflate]

    run_all(jobs, targets, install(), options.jobs)
    failed = [job for job in jobs if job.problems]
    for job in failed:
        print(f"\n{job.name}")
        for problem in job.problems:
            print("  " + problem.replace("\n", "\n  "))
        print(f"  more in {job.folder.relative_to(ROOT)}")
    print(
        f"\nAutobahn: {len(failed)} of {len(jobs)} suites FAILED"
        if failed
        else f"\nAutobahn: {sum(job.suite.expected for job in jobs)} cases in {len(jobs)} suites, all as they should be"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
