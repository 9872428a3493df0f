"""`hako doctor`: what this machine has and what it lacks, with an act for each thing that is missing."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.runtime.capabilities import Finding, State, is_ready, probe


def configure(parser: argparse.ArgumentParser) -> None:
    add_format(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, context: Context) -> int:
    findings = probe(context.settings)
    ready = is_ready(findings)
    if arguments.format != "table":
        document = {"ready": ready, "findings": [asdict(finding) for finding in findings]}
        print_document(document, arguments.format, context.out)
    else:
        rows = [(finding.state, finding.name, finding.detail) for finding in findings]
        print_table(("STATE", "REQUIREMENT", "DETAIL"), rows, context.out)
        for line in explain(findings):
            print(line, file=context.out)
    return 0 if ready else 1


def explain(findings: tuple[Finding, ...]) -> list[str]:
    """What is needed and missing first, then what one can live without; each with its reason and its act."""
    lines = []
    for state, title in (
        (State.MISSING, "missing, and needed:"),
        (State.WITHOUT, "absent, and one can do without:"),
    ):
        of_this_state = [finding for finding in findings if finding.state is state]
        if of_this_state:
            lines += ["", title]
        for finding in of_this_state:
            lines += [f"  {finding.name}: {finding.detail}", f"    why: {finding.why}"]
            lines += [f"    fix: {finding.fix}"] if finding.fix else []
    missing = sum(finding.state is State.MISSING for finding in findings)
    return [*lines, "", _verdict(missing)]


def _verdict(missing: int) -> str:
    if not missing:
        return "everything needed is here"
    return "1 needed thing is missing" if missing == 1 else f"{missing} needed things are missing"
