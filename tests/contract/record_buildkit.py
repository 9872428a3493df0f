"""Records what BuildKit makes of the cases in `dockerfile_cases`, into `buildkit_answers.json`.

    BUILDKIT_HOST=unix:///… .venv/bin/python -m tests.contract.record_buildkit [BUILDCTL] [CASE…]

It needs a running buildkitd of a current release and its buildctl; the answers are committed, so that tests need neither.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from hakobune.oci.archive import load_images
from hakobune.oci.archive_save import save_folder
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.contract.dockerfile_cases import CASES, Case, fill_context
from tests.dockerfile_world import BASE, described, make_base_image

ANSWERS = Path(__file__).with_name("buildkit_answers.json")


def main() -> None:
    buildctl = sys.argv[1] if len(sys.argv) > 1 else "buildctl"
    wanted = set(sys.argv[2:])
    answers = json.loads(ANSWERS.read_text()) if ANSWERS.exists() else {}
    with tempfile.TemporaryDirectory(prefix="hk-rec-", dir="/tmp") as name:
        folder = Path(name)
        store = Store(folder / "home")
        base = make_base_image(store, folder)
        save_folder(store, {Reference.parse(BASE): base}, folder / "layout")
        for case in CASES:
            if wanted and case.name not in wanted:
                continue
            answers[case.name] = record(case, buildctl, folder, store, base)
            print(case.name, "fails" if "fails" in answers[case.name] else "ok", flush=True)
    names = {case.name for case in CASES}
    kept = {name: answers[name] for name in sorted(answers) if name in names}
    ANSWERS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def record(case: Case, buildctl: str, folder: Path, store: Store, base: Image) -> dict[str, object]:
    context = Path(tempfile.mkdtemp(dir=folder)) / "c"
    fill_context(context, case.files)
    recipe = context.parent / "d"
    recipe.mkdir()
    (recipe / "Dockerfile").write_bytes(case.dockerfile.encode())
    archive = context.parent / "out.tar"
    done = subprocess.run(
        [
            buildctl, "build", "--progress=plain", "--frontend=dockerfile.v0", f"--local=context={context}",
            f"--local=dockerfile={recipe}", f"--oci-layout=base={folder / 'layout'}",
            f"--opt=context:{BASE}=oci-layout://base@{base.digest}",
            *(f"--opt=build-arg:{k}={v}" for k, v in case.args.items()),
            *([f"--opt=target={case.target}"] if case.target else []),
            f"--output=type=oci,dest={archive},compression=uncompressed",
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        return {"fails": done.stderr.strip().splitlines()[-1][:300]}
    (loaded,) = load_images(store, archive, Platform.host())
    return described(store, loaded.image, base)


if __name__ == "__main__":
    main()
