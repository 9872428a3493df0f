"""A worker put together from its parts, by the settings."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hakobune.iam.master_key import load_master_key, master_key_path
from hakobune.iam.opened import open_iam
from hakobune.iam.secret_box import SecretBox
from hakobune.iam.store import IamStore
from hakobune.registry.access_log import AccessLog
from hakobune.registry.admission import Admission
from hakobune.registry.app import App
from hakobune.registry.authorize import Authorizer
from hakobune.registry.blobs import Storage
from hakobune.registry.fast_path import FastPath
from hakobune.registry.generation import Generation
from hakobune.registry.limits import Limits
from hakobune.registry.metadata import Metadata
from hakobune.registry.metrics import Metrics, MetricsPage
from hakobune.registry.mirror import NO_MIRRORS, Mirrors
from hakobune.registry.parts import Parts
from hakobune.registry.repeats import Repeats
from hakobune.registry.repository import Repository
from hakobune.registry.sources import Sources
from hakobune.registry.storages import open_storage
from hakobune.registry.token_endpoint import TokenEndpoint
from hakobune.registry.upstream_gate import AgentGate
from hakobune.registry.upstream_password import open_password
from hakobune.registry.worker import Worker
from hakobune.settings import Settings
from hakobune.state.sql import Sql


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all workers of a registry have in common."""

    settings: Settings
    limits: Limits
    certificate: Path | None = None
    key: Path | None = None
    mirrors: Mirrors = NO_MIRRORS


def make_worker(
    plan: Plan,
    sql: Sql,
    generation: Generation,
    page: MetricsPage,
    number: int,
    threads: ThreadPoolExecutor,
) -> tuple[Worker, Parts]:
    settings = plan.settings
    storage = open_storage(settings, os.environ)
    uploads = settings.registry_files / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    metadata = Metadata(sql, generation, grace_s=settings.registry_grace_s)
    metrics = Metrics(page, number)
    log = AccessLog(settings.registry / "access.log")
    repeats = Repeats(generation, metrics, log)
    fast = FastPath(generation, metadata.note_pull, repeats)
    iam = open_iam(settings.home, sql, changed=generation.bump)
    authorizer = Authorizer(iam.store, iam.authenticator, generation, clock=time.time)
    parts = Parts(
        metadata=metadata,
        storage=storage,
        sources=_make_sources(settings, metadata, storage, iam.store),
        fast=fast,
        metrics=metrics,
        limits=plan.limits,
        uploads=uploads,
        incoming=settings.registry_files / "incoming",
        run=settings.run,
        api_socket=settings.api_tcp_socket,
        threads=threads,
        mirrors=plan.mirrors,
    )
    admission = Admission(metadata, authorizer, fast)
    tokens = TokenEndpoint(iam.store, iam.authenticator, authorizer, metadata.find_repository)
    app = App(parts, admission, tokens)
    return Worker(app, fast, repeats, metrics, log, plan.limits, plan.mirrors), parts


def _make_sources(
    settings: Settings, metadata: Metadata, storage: Storage, iam: IamStore
) -> Sources:
    box = SecretBox(load_master_key(master_key_path(settings.home)))
    return Sources(
        metadata,
        storage,
        partial=settings.registry_files / "partial",
        open_password=lambda repository: _password(box, repository),
        env=os.environ,
        home=settings.home,
        own_hosts=settings.registry_hosts,
        gate=AgentGate(iam),
    )


def _password(box: SecretBox, repository: Repository) -> str:
    remote = repository.remote
    return "" if remote is None else open_password(box, repository.resource, remote.password)
