"""What `--help` shows of each command in use, by the command's words; the check of the documentation parses all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "deploy": (
        "deploy                                        # the folder you are in",
        "deploy examples/python-web --env GREETING=hello --memory 1Gi",
        "deploy shop --image localhost:8080/hako/apps/shop:v2",
        "deploy --project staging                      # a service of its own, beside that of the project hako",
        "deploy --dockerfile --target web --build-arg VERSION=3",
        "deploy shop --source . --startup-probe httpGet.path=/healthz,periodSeconds=1",
    ),
    "build": (
        "build hako/apps/shop --path .",
        "build shop --builder mine/builder:1 --buildpack ../mine --env BP_DEBUG=1",
        "build shop --platform linux/amd64,linux/arm64",
        "build registry.example.com/shop/web:v2 --publish",
    ),
    "builder create": (
        "builder create mine/builder:1 -c builder.toml",
        "builder create mine/builder:1 --build-dockerfile Dockerfile --build-target build --run-dockerfile Dockerfile --run-target run",
    ),
    "builder inspect": ("builder inspect", "builder inspect mine/builder:1 --format json"),
    "builds log": ("builds log", "builds log 12"),
    "dockerfile build": (
        "dockerfile build -t shop .",
        "dockerfile build -t shop -f docker/web.Dockerfile --target web --build-arg VERSION=3 .",
        "dockerfile build --secret id=token,env=CI_TOKEN --ssh default .",
        "dockerfile build --platform linux/amd64,linux/arm64 -t shop:v2 .",
    ),
    "services update-traffic": (
        "services update-traffic shop --to-revisions shop-00001=90,LATEST=10",
        "services update-traffic shop --set-tags try=shop-00002",
        "services update-traffic shop --to-latest",
    ),
    "services describe": ("services describe shop", "services describe shop --format yaml"),
    "rollback": ("rollback shop", "rollback shop --to shop-00001"),
    "logs": ("logs -f shop", "logs shop --revision shop-00003 -n 50"),
    "image pull": (
        "image pull debian:13",
        "image pull --platform linux/arm64 debian:13",
        "image pull docker-daemon:web:v2",
    ),
    "image push": (
        "image push web registry.example.com/shop/web:v2",
        "image push web localhost:8080/hako/apps/web:v1",
        "image push web oci-archive:web.tar",
    ),
    "image copy": (
        "image copy debian:13 registry.example.com/base/debian:13",
        "image copy docker-archive:old.tar:web oci:layout:v2",
    ),
    "image tags": ("image tags registry.example.com/shop/web",),
    "image delete": ("image delete registry.example.com/shop/web:v1",),
    "image index create": ("image index create shop/web:v2 shop/web:v2-amd64 shop/web:v2-arm64",),
    "image save": ("image save web other:v1 -o images.tar", "image save web --format oci-dir -o layout"),
    "image load": ("image load -i images.tar",),
    "image export": ("image export web -o files.tar",),
    "image prune": ("image prune", "image prune --all --build-cache"),
    "container run": (
        "container run -it --rm debian:13 bash",
        "container run -d --name web -p 8080:80 nginx",
        "container run --platform linux/arm64 debian:13 uname -m",
    ),
    "container attach": ("container attach web", "container attach --no-stdin --sig-proxy=false web"),
    "container exec": ("container exec -it web sh",),
    "container logs": ("container logs -f web",),
    "container start": ("container start web", "container start -ai shell"),
    "container top": ("container top web", "container top web -o pid,etime,args"),
    "container wait": ("container wait job1 job2",),
    "container cp": (
        "container cp web:/var/log/app.log .",
        "container cp ./site/. web:/srv/www",
        "container cp web:/etc - | tar t",
    ),
    "serve": ("serve", "serve --stop"),
    "registry serve": (
        "registry serve --listen 0.0.0.0:5000 --tls-cert fullchain.pem --tls-key key.pem",
    ),
    "registry backup": ("registry backup /mnt/backup/2026-11-25",),
    "registry restore": ("registry restore --check /mnt/backup/2026-11-25",),
    "registry collect": ("registry collect --dry-run",),
    "artifacts repositories create": (
        "artifacts repositories create apps --repository-format=docker --immutable-tags",
        "artifacts repositories create hub --mode=remote-repository --remote-docker-repo=docker-hub",
        "artifacts repositories create all --mode=virtual-repository --upstream-policy-file=upstreams.json",
    ),
    "artifacts repositories add-iam-policy-binding": (
        "artifacts repositories add-iam-policy-binding apps --member=user:ada@example.com --role=roles/artifactregistry.writer",
    ),
    "artifacts repositories set-cleanup-policies": (
        "artifacts repositories set-cleanup-policies apps --policy=policies.json --dry-run",
    ),
    "artifacts docker images list": (
        "artifacts docker images list localhost:8080/hako/apps --include-tags",
    ),
    "artifacts docker images delete": (
        "artifacts docker images delete localhost:8080/hako/apps/shop:v1 --delete-tags",
    ),
    "artifacts docker tags add": (
        "artifacts docker tags add localhost:8080/hako/apps/shop:v1 localhost:8080/hako/apps/shop:prod",
    ),
    "artifacts quotas set": ("artifacts quotas set apps --limit 20GB",),
    "secrets create": ("secrets create upstream --data-file=password.txt",),
    "auth login": ("auth login registry.example.com", "auth login registry.example.com --username ci --password-stdin"),
    "auth print-access-token": (
        "auth print-access-token",
        "auth print-access-token --impersonate-service-account builder@hako.iam.gserviceaccount.com",
    ),
    "auth configure-docker": ("auth configure-docker",),
    "iam service-accounts create": ("iam service-accounts create builder",),
    "iam service-accounts keys create": (
        "iam service-accounts keys create key.json --iam-account builder@hako.iam.gserviceaccount.com",
    ),
    "projects add-iam-policy-binding": (
        "projects add-iam-policy-binding hako --member serviceAccount:builder@hako.iam.gserviceaccount.com --role roles/artifactregistry.writer",
    ),
    "audit": ("audit projects/hako",),
}  # fmt: skip
