"""The command ``python -m benchmarks``: every server in turn, round after round, and a table for each scenario."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from benchmarks import machine, report
from benchmarks.processes import BenchmarkError, LoadClient, ServerProcess
from benchmarks.report import Result
from benchmarks.scenarios import all_scenarios
from benchmarks.servers import LOOPS, SERVERS, is_installed, raise_open_files_limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.scenarios import Sample

SCENARIO_NAMES = tuple(all_scenarios(quick=True, seconds=None, most_connections=0))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round and few connections: a sign of life")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 5)")
    parser.add_argument("--seconds", type=float, help="how long one run of a load takes (default 2)")
    parser.add_argument("--only", nargs="+", choices=SCENARIO_NAMES, default=SCENARIO_NAMES, help="these scenarios")
    parser.add_argument("--peers", nargs="+", choices=SERVERS, default=tuple(SERVERS), help="these servers")
    parser.add_argument("--loop", nargs="+", choices=LOOPS, default=("asyncio",), help="on these event loops")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file, too")
    arguments = parser.parse_args()
    if arguments.rounds is None:
        arguments.rounds = 1 if arguments.quick else 5
    if arguments.rounds < 1:
        parser.error("there must be at least one round")
    return arguments


def say(message: str) -> None:
    """Show progress; the report alone goes to standard output."""
    print(message, file=sys.stderr, flush=True)


def available_servers(names: Sequence[str], loops: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those of the servers, each with an event loop, for which everything is installed."""
    for loop in dict.fromkeys(loops):
        if not is_installed(loop):
            say(f"{loop} is not installed: nothing is run on it")
            continue
        for name in dict.fromkeys(names):
            if missing := SERVERS[name].missing():
                say(f"{name} is left out: {missing} is not installed")
            else:
                yield name, loop


def main() -> int:
    arguments = parse_arguments()
    if sys.platform != "linux":
        say("the benchmarks run on Linux alone: the load client uses epoll, and memory is read from /proc")
        return 2
    # Ending by signal unwinds the stack as Ctrl-C does, and with it every process that has been started.
    signal.signal(signal.SIGTERM, exit_by_signal)

    # Some files of the server's and the client's own; and wsadapter takes connections up to 80 % of the limit.
    most_connections = int((raise_open_files_limit() - 100) * 0.8)
    scenarios = all_scenarios(quick=arguments.quick, seconds=arguments.seconds, most_connections=most_connections)
    chosen = [scenario for name, scenario in scenarios.items() if name in arguments.only]
    servers = list(available_servers(arguments.peers, arguments.loop))
    results = [
        Result(scenario, name, loop)
        for scenario in chosen
        for name, loop in servers
        if scenario.excludes(SERVERS[name]) is None
    ]
    if not results:
        say("there is nothing to measure")
        return 2
    cores = machine.Cores.choose()
    try:
        client = LoadClient.compile(cores)
    except BenchmarkError as error:
        say(str(error))
        return 2

    before = machine.load_average()
    measure_all(results, arguments.rounds, client, cores)
    after = machine.load_average()

    versions = machine.versions()
    print(f"wsadapter benchmarks: {arguments.rounds} round(s), medians; {cores}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    for scenario in chosen:
        print()
        print(report.table(scenario, [result for result in results if result.scenario is scenario]))
        for name, loop in servers:
            if reason := scenario.excludes(SERVERS[name]):
                print(f"{name} on {loop} is left out: {reason}")
    print()
    print(report.noise(results, before, after, arguments.rounds))
    if arguments.json:
        document = {
            "versions": versions,
            "cores": {"server": cores.server, "load": cores.load},
            "rounds": arguments.rounds,
            "load_average": {"before": before, "after": after},
            "results": [result.as_json(report.find_reference(result, results)) for result in results],
        }
        arguments.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 1 if any(result.failures for result in results) else 0


def measure_all(results: Sequence[Result], rounds: int, client: LoadClient, cores: machine.Cores) -> None:
    """Within a scenario every server has its turn before any has its next: what drifts, drifts for all alike."""
    turns: list[Result] = []
    for scenario in dict.fromkeys(result.scenario for result in results):
        of_scenario = [result for result in results if result.scenario is scenario]
        for round_number in range(rounds if scenario.every_round else 1):
            # Another one begins in every round, so that nobody always follows the same neighbour.
            first = round_number % len(of_scenario)
            turns += of_scenario[first:] + of_scenario[:first]
    say(f"{len(turns)} runs, about {sum(result.scenario.time_needed for result in turns) / 60:.0f} min")

    for number, result in enumerate(turns, 1):
        turn = f"[{number}/{len(turns)}] {result.scenario.name}: {result.server} on {result.loop}"
        try:
            sample = measure(result, client, cores)
        except BenchmarkError as error:
            result.failures.append(str(error))
            say(f"{turn}: failed: {error}")
        else:
            result.samples.append(sample)
            say(f"{turn}: {report.number(sample.figure)} {result.scenario.unit}")


def measure(result: Result, client: LoadClient, cores: machine.Cores) -> Sample:
    """One run: a server of its own, and the load on it."""
    with ServerProcess(SERVERS[result.server], result.loop, cores) as server:
        try:
            return result.scenario.measure(server, client)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error} (the server's last words: {server.last_words()})") from error


def exit_by_signal(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
