"""Detect: ask buildpacks whether they take part, and settle their Build Plan (CNB buildpack.md "Phase #1: Detection").

Orders and plans are decided in `buildpack.order` and `buildpack.plan`; here executables run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hakobune.buildpack.descriptor import (
    Buildpack,
    BuildpackApi,
    GroupElement,
    Order,
    effective_targets,
)
from hakobune.buildpack.environment import apply_env_files, apply_user_env
from hakobune.buildpack.order import (
    Catalog,
    Group,
    OrderError,
    SystemBuildpacks,
    add_system_buildpacks,
    expand_order,
    resolve_order,
)
from hakobune.buildpack.plan import (
    BuildPlan,
    BuildPlanError,
    Contribution,
    alternatives,
    parse_build_plan,
    plan_entries,
    resolve_build_plan,
)
from hakobune.errors import HakoError
from hakobune.lifecycle.documents import encode_group, encode_plan
from hakobune.lifecycle.environment import BuildContext
from hakobune.lifecycle.errors import (
    DetectError,
    DetectionBrokenError,
    NoGroupPassedError,
    os_errors_as,
)
from hakobune.lifecycle.output import last_lines
from hakobune.lifecycle.verdict import Outcome, Verdict
from hakobune.progress import Progress

DECLINED = 100
NOT_RUN = -1
MOST_OUTPUT = 1 << 20

_PLANS = "/tmp/hako-detect"
_HAS_TARGETS = BuildpackApi(0, 10)
_HAS_EXEC_ENV = BuildpackApi(0, 12)


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """The buildpacks that build, in order, with their APIs; and what was found out on the way."""

    group: Group
    plan: BuildPlan
    verdicts: tuple[Verdict, ...] = ()


def detect(
    context: BuildContext,
    *,
    order: Order,
    catalog: Catalog,
    progress: Progress,
    system: SystemBuildpacks | None = None,
) -> Detected:
    """Find the first group whose buildpacks take part and whose Build Plan holds.

    Runs each `bin/detect` at most once. Writes `group.toml` and `plan.toml` into the container.

    Raises:
        NoGroupPassedError: no group passed (exit code 20; 21 if a buildpack failed instead of declining);
            says what each buildpack answered.
        DetectError: the order cannot be used.
        BuildpackApiError: a buildpack that the order names needs an API that is not supported.
    """
    progress.phase("DETECTING")
    try:
        resolved = resolve_order(
            add_system_buildpacks(order, system or SystemBuildpacks()), catalog
        )
    except OrderError as error:
        raise DetectError(error.what, why=error.why, fix=error.fix) from error
    _check_apis(resolved, catalog)
    trial = _Detection(context, catalog)
    with os_errors_as(DetectError, "detection cannot be carried out"):
        for group in expand_order(resolved, catalog, exec_env=context.exec_env):
            detected = trial.try_group(group)
            if detected is not None:
                _tell(detected, len(group), progress)
                _write_documents(context, detected)
                return detected
    _show_output_of_broken(trial.verdicts.values(), progress)
    raise trial.failure()


def _show_output_of_broken(verdicts: Iterable[Verdict], progress: Progress) -> None:
    for verdict in verdicts:
        if verdict.outcome is Outcome.ERROR and verdict.output:
            progress.output(f"======== Output: {verdict.buildpack.full_name} ========")
            for line in verdict.output.splitlines():
                progress.output(line)


class _Detection(msgspec.Struct):
    """Answers of buildpacks so far; each is asked once."""

    context: BuildContext
    catalog: Catalog
    verdicts: dict[str, Verdict] = msgspec.field(default_factory=dict)
    plan_failures: list[str] = msgspec.field(default_factory=list)

    def try_group(self, group: Group) -> Detected | None:
        verdicts = [self._ask(element) for element in group]
        if any(
            v.outcome is not Outcome.PASS and not e.optional
            for e, v in zip(group, verdicts, strict=True)
        ):
            return None
        passed = [(e, v) for e, v in zip(group, verdicts, strict=True) if v.outcome is Outcome.PASS]
        if not passed:
            return None
        options: list[Sequence[Contribution]] = [
            alternatives(e.id, v.sections, optional=e.optional) for e, v in passed
        ]
        try:
            settled = resolve_build_plan(options)
        except BuildPlanError as error:
            self.plan_failures.extend(error.reasons)
            return None
        staying = {c.buildpack for c in settled}
        return Detected(
            group=tuple(self._complete(e) for e, _ in passed if e.id in staying),
            plan=plan_entries(settled),
            verdicts=tuple(self.verdicts.values()),
        )

    def failure(self) -> NoGroupPassedError:
        """No group passed: who said what."""
        verdicts = tuple(self.verdicts.values())
        broken = [v for v in verdicts if v.outcome is Outcome.ERROR]
        tried = [_answer(v) for v in verdicts if v.outcome is not Outcome.PASS]
        tried += dict.fromkeys(self.plan_failures)
        why = "tried " + " · ".join(tried) if tried else "the order names no buildpack"
        if broken:
            names = ", ".join(v.buildpack.id for v in broken)
            return DetectionBrokenError(
                f"no buildpack builds this folder, and {names} could not say whether it does",
                why=why,
                fix="read the output above: a buildpack that declines exits with 100",
                verdicts=verdicts,
            )
        return NoGroupPassedError(
            "no buildpack knows this folder",
            why=why,
            fix="add a Procfile that says how to start it (web: ./serve --port $PORT) or a Dockerfile, "
            "or check that this is the right folder",
            verdicts=verdicts,
        )

    def _complete(self, element: GroupElement) -> GroupElement:
        buildpack = self._buildpack(element)
        return GroupElement(
            id=element.id,
            version=element.version,
            api=buildpack.api,
            homepage=buildpack.buildpack.homepage,
        )

    def _buildpack(self, element: GroupElement) -> Buildpack:
        buildpack = self.catalog.find(element)
        if buildpack is None:
            raise DetectError(f"the buildpack {element} is not in the builder")
        return buildpack

    def _ask(self, element: GroupElement) -> Verdict:
        verdict = self.verdicts.get(element.full_name)
        if verdict is None:
            buildpack = self._buildpack(element)
            verdict = _mismatch(self.context, element, buildpack) or _run_detect(
                self.context, element, buildpack
            )
            self.verdicts[element.full_name] = verdict
        return verdict


def buildpack_env(context: BuildContext, buildpack: Buildpack) -> dict[str, str]:
    """The variables that every executable of *buildpack* gets about itself and the target."""
    env = {"CNB_BUILDPACK_DIR": buildpack.directory, "CNB_PLATFORM_DIR": context.platform}
    api = buildpack.api_version
    if api >= _HAS_TARGETS:
        target = context.target
        env["CNB_TARGET_OS"] = target.os
        env["CNB_TARGET_ARCH"] = target.arch
        optional = {
            "CNB_TARGET_ARCH_VARIANT": target.arch_variant,
            "CNB_TARGET_DISTRO_NAME": target.distro.name if target.distro else "",
            "CNB_TARGET_DISTRO_VERSION": target.distro.version if target.distro else "",
        }
        env.update({k: v for k, v in optional.items() if v})
    if api >= _HAS_EXEC_ENV:
        env["CNB_EXEC_ENV"] = context.exec_env
    return env


def compose_env(
    context: BuildContext, buildpack: Buildpack, base: dict[str, str], specific: dict[str, str]
) -> dict[str, str]:
    """The environment of one executable: *base*, the user's, the operator's, then *specific*.

    *base* holds what earlier buildpacks added; the user's variables are laid over it each time.
    """
    env = base
    if not buildpack.buildpack.clear_env:
        folder = f"{context.platform}/env"
        env = apply_user_env(env, context.read_folder(folder), folder=folder)
    folder = f"{context.build_config}/env"
    env = apply_env_files(env, context.read_folder(folder), folder=folder, unsuffixed="default")
    return env | buildpack_env(context, buildpack) | specific


def _run_detect(context: BuildContext, element: GroupElement, buildpack: Buildpack) -> Verdict:
    environment = context.environment
    plan_path = f"{_PLANS}/{element.directory_name}@{element.version}.toml"
    context.make_directory(_PLANS)
    context.write(plan_path, b"")
    executable = f"{buildpack.directory}/bin/detect"
    printed = bytearray()

    def note(chunk: bytes) -> None:
        printed.extend(chunk[: MOST_OUTPUT - len(printed)])

    code = environment.run(
        [executable, context.platform, plan_path],
        env=compose_env(
            context, buildpack, dict(context.variables), {"CNB_BUILD_PLAN_PATH": plan_path}
        ),
        cwd=context.app,
        uid=context.uid,
        gid=context.gid,
        output=note,
    )
    output = printed.decode("utf-8", "replace")
    said = (last_lines(output.splitlines(), 1) or ("",))[0]
    if code == DECLINED:
        reason = said or "it declined without a reason"
        return _verdict(element, Outcome.FAIL, reason, code, output)
    if code != 0:
        reason = f"bin/detect failed with exit code {code}" + (f": {said}" if said else "")
        return _verdict(element, Outcome.ERROR, reason, code, output)
    try:
        plan = environment.read_file(plan_path) or b""
        sections = parse_build_plan(plan, name=f"the build plan of {element}")
    except HakoError as error:
        reason = f"{error.what}: {error.why}"
        return _verdict(element, Outcome.ERROR, reason, NOT_RUN, output)
    return Verdict(
        buildpack=element, outcome=Outcome.PASS, reason=said, output=output, sections=sections
    )


def _answer(verdict: Verdict) -> str:
    """Who said what; a buildpack that names itself first is not named twice."""
    name = verdict.buildpack.id.rpartition("/")[2]
    return f"{verdict.buildpack.id}: {verdict.reason.removeprefix(f'{name}: ')}"


def _mismatch(context: BuildContext, element: GroupElement, buildpack: Buildpack) -> Verdict | None:
    """The verdict without asking, where the buildpack is for other systems than the run image's."""
    bin_folder = context.environment.list_directory(f"{buildpack.directory}/bin") or ()
    has_build = any(entry.name == "build" for entry in bin_folder)
    targets = effective_targets(buildpack, has_build=has_build)
    if any(target.matches(context.target) for target in targets):
        return None
    supported = ", ".join(str(target) for target in targets) or "nothing that it says"
    reason = f"it is for {supported}, the run image is {context.target}"
    return _verdict(element, Outcome.ERROR, reason, NOT_RUN, "")


def _verdict(
    element: GroupElement, outcome: Outcome, reason: str, code: int, output: str
) -> Verdict:
    return Verdict(buildpack=element, outcome=outcome, reason=reason, code=code, output=output)


def _check_apis(order: Order, catalog: Catalog) -> None:
    """Refuse unsupported APIs before anything runs, also in groups that would never be tried."""
    for element in (e for g in order for e in g.group):
        buildpack = catalog.find(element)
        if buildpack is not None:
            _ = buildpack.api_version


def _tell(detected: Detected, asked: int, progress: Progress) -> None:
    if len(detected.group) != asked:
        progress.step(f"{len(detected.group)} of {asked} buildpacks participating")
    width = max(len(e.id) for e in detected.group)
    for element in detected.group:
        progress.step(f"{element.id:<{width}} {element.version}")


def _write_documents(context: BuildContext, detected: Detected) -> None:
    context.write(f"{context.layers}/group.toml", encode_group(detected.group))
    context.write(f"{context.layers}/plan.toml", encode_plan(detected.plan, detected.group))
